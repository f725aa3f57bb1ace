//! The operations, one file each: forward, backward, a plain reference and tests side by side.

pub(crate) mod activation;
pub(crate) mod adapter;
pub(crate) mod attention;
pub(crate) mod border;
pub(crate) mod convolution;
pub(crate) mod elementwise;
pub(crate) mod group_norm;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod patches;
pub(crate) mod pooling;
pub(crate) mod product;
pub(crate) mod queries;
pub mod random;
pub(crate) mod relation;
pub(crate) mod resample;
pub(crate) mod rotary;
pub(crate) mod tokens;
pub(crate) mod window;

#[cfg(test)]
mod check;

pub use crate::device::cpu::kernels::Activation;
pub use attention::{Attention, AttentionOutput};
pub use convolution::{Convolution, Padding};
pub use linear::{After, Linear};
pub use loss::one_hot;
pub use norm::{ChannelNorm, Norm, NormKind};
pub use product::{Factor, product};
pub use relation::Relations;
pub use resample::{AxisWeights, resample};
pub use rotary::Rotation;
