//! Optimizers, parameter groups, gradient clipping, and learning rate schedules.

mod groups;
mod schedule;

use serde::{Deserialize, Serialize};
use vitral_engine::UpdateRule;

pub(crate) use groups::group;
pub use groups::{GroupOptions, groups};
pub use schedule::{Schedule, Shape};

/// An optimizer and its hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Optimizer {
    /// AdamW (arXiv:1711.05101), as in PyTorch: decay first, bias-corrected moments.
    Adamw {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the square root of the second moment.
        #[serde(default = "epsilon")]
        epsilon: f32,
    },
    /// Stochastic gradient descent with momentum, as in PyTorch: decay is added to the gradient.
    Sgd {
        /// Momentum.
        #[serde(default)]
        momentum: f32,
        /// Nesterov momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// Lion (arXiv:2302.06675): the sign of an interpolated momentum.
    Lion {
        /// Interpolation for the update.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the momentum.
        #[serde(default = "lion_beta2")]
        beta2: f32,
    },
    /// LAMB (arXiv:1904.00962), as in timm: Adam's step for each decayed tensor, scaled to the tensor's own norm.
    Lamb {
        /// Decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// Decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the square root of the second moment.
        #[serde(default = "lamb_epsilon")]
        epsilon: f32,
    },
    /// Muon (arXiv:2502.16982), as in PyTorch but in 32 bits: the orthogonalized momentum of every matrix in the
    /// blocks. Everything else uses AdamW.
    Muon {
        /// Decay of a matrix's momentum.
        #[serde(default = "muon_momentum")]
        momentum: f32,
        /// Nesterov momentum.
        #[serde(default = "yes")]
        nesterov: bool,
        /// How a matrix's learning rate depends on its shape.
        #[serde(default)]
        matrix_rate: MatrixRate,
        /// AdamW's decay of the first moment.
        #[serde(default = "beta1")]
        beta1: f32,
        /// AdamW's decay of the second moment.
        #[serde(default = "beta2")]
        beta2: f32,
        /// Added to the square root of AdamW's second moment.
        #[serde(default = "epsilon")]
        epsilon: f32,
    },
}

impl Optimizer {
    /// Whether every tensor must be a group of its own.
    pub fn needs_single_tensors(&self) -> bool {
        matches!(self, Optimizer::Lamb { .. } | Optimizer::Muon { .. })
    }

    /// The update rule. Muon's is for hidden matrices only: see [`Optimizer::other_rule`].
    pub fn rule(self) -> UpdateRule {
        match self {
            Optimizer::Adamw { beta1, beta2, epsilon } => UpdateRule::Adamw { beta1, beta2, epsilon },
            Optimizer::Sgd { momentum, nesterov } => UpdateRule::Sgd { momentum, nesterov },
            Optimizer::Lion { beta1, beta2 } => UpdateRule::Lion { beta1, beta2 },
            Optimizer::Lamb { beta1, beta2, epsilon } => UpdateRule::Lamb { beta1, beta2, epsilon },
            Optimizer::Muon { momentum, nesterov, matrix_rate, .. } => {
                UpdateRule::Muon { momentum, nesterov, match_adamw: matrix_rate == MatrixRate::MatchRmsAdamw }
            }
        }
    }

    /// The update rule for parameters that are not hidden matrices, if it is different.
    pub fn other_rule(self) -> Option<UpdateRule> {
        match self {
            Optimizer::Muon { beta1, beta2, epsilon, .. } => Some(UpdateRule::Adamw { beta1, beta2, epsilon }),
            _ => None,
        }
    }
}

/// How Muon's learning rate of a matrix `[out, in]` depends on its shape, as in PyTorch's `adjust_lr_fn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixRate {
    /// Times `√max(1, out / in)`.
    Original,
    /// Times `0.2 · √max(out, in)`: matches the size of AdamW's steps, so that AdamW's learning rate and decay can be
    /// used.
    #[default]
    MatchRmsAdamw,
}

fn muon_momentum() -> f32 {
    0.95
}

fn yes() -> bool {
    true
}

fn beta1() -> f32 {
    0.9
}

fn beta2() -> f32 {
    0.999
}

fn lion_beta2() -> f32 {
    0.99
}

fn epsilon() -> f32 {
    1e-8
}

fn lamb_epsilon() -> f32 {
    1e-6
}

/// Gradient clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clip {
    /// All gradients together have at most this Euclidean norm (PyTorch's `clip_grad_norm_`).
    Norm(f32),
    /// Every value is clamped to ± this.
    Value(f32),
    /// The gradient of each output of a map, or of each vector, has at most this fraction of the parameters' own norm
    /// (adaptive gradient clipping, arXiv:2102.06171, as in timm).
    Adaptive(f32),
}

impl From<Clip> for vitral_engine::Clip {
    fn from(clip: Clip) -> Self {
        match clip {
            Clip::Norm(limit) => vitral_engine::Clip::Norm(limit),
            Clip::Value(limit) => vitral_engine::Clip::Value(limit),
            Clip::Adaptive(share) => vitral_engine::Clip::Adaptive(share),
        }
    }
}
