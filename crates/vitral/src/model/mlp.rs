//! The MLP of a block, plain or gated.

use vitral_engine::ops::{Epilogue, Linear, Norm};
use vitral_engine::{Activation, Context, Tensor};

use super::build::Builder;
use crate::config::{BlockKind, MlpKind};

pub(super) struct Mlp {
    up: Linear,
    norm: Option<Norm>,
    down: Linear,
    kind: MlpKind,
    activation: Activation,
    dropout: f32,
}

impl Mlp {
    /// An MLP with a hidden layer of this width.
    pub(super) fn new(place: &mut Builder<'_>, width: usize, hidden: usize) -> Self {
        let config = place.config;
        let (kind, up_width) = match config.mlp {
            MlpKind::Plain => (MlpKind::Plain, hidden),
            MlpKind::Gated => (MlpKind::Gated, 2 * hidden),
        };
        // The fused input projection of parallel scaling always has a bias for the MLP.
        let up_bias = config.mlp_bias || config.block == BlockKind::ParallelScaling;
        Mlp {
            up: place.linear("up", width, up_width, up_bias),
            norm: config.mlp_norm.then(|| place.norm("norm", hidden)),
            down: place.linear("down", hidden, width, config.mlp_bias),
            kind,
            activation: config.activation.into(),
            dropout: config.drop.hidden,
        }
    }

    /// `epilogue(down(norm(activation(up(norm(x))))))` of `[…, width]`.
    pub(super) fn forward(&self, cx: &Context<'_>, x: &Tensor, norm: Option<&Norm>, epilogue: Epilogue<'_>) -> Tensor {
        cx.stage("mlp", || self.both(cx, x, norm, epilogue))
    }

    fn both(&self, cx: &Context<'_>, x: &Tensor, norm: Option<&Norm>, epilogue: Epilogue<'_>) -> Tensor {
        let hidden = match self.kind {
            MlpKind::Plain => {
                let activated =
                    Epilogue { activation: Some(self.activation), dropout: self.dropout, ..Epilogue::default() };
                cx.linear_with(x, norm, self.up, activated)
            }
            MlpKind::Gated => {
                let pair = cx.linear_with(x, norm, self.up, Epilogue::default());
                cx.dropout(&cx.gated(&pair, self.activation), self.dropout)
            }
        };
        cx.linear_with(&hidden, self.norm.as_ref(), self.down, Epilogue { dropout: self.dropout, ..epilogue })
    }
}
