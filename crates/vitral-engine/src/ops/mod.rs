//! The operations, one file each: shapes, recording, and tests. What computes them is the device.

mod activation;
mod attention;
mod border;
mod convolution;
mod elementwise;
mod group_norm;
mod linear;
mod loss;
mod norm;
mod patches;
mod pooling;
mod relation;
mod resample;
mod rotary;
mod tokens;
mod window;

#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod sizes;

pub use attention::{Attention, AttentionOutput};
pub use convolution::{Convolution, Padding};
pub use linear::{Epilogue, Linear};
pub use loss::ClassLoss;
pub use norm::{ChannelNorm, Norm, NormKind};
pub use relation::Relations;
pub use resample::{AxisWeights, resample};
pub use rotary::{Places, Rotation};
