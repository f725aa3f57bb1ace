//! Everything that a device must do, a trait for each group of operations.
//!
//! A device implements these traits, a method for each fused operation and one for its backward. Shapes are checked
//! before (`ops/`), so a method may rely on them. Nothing here waits for the device: methods return tensors that may be
//! computed later, and errors stick until the next download. Gradients of parameters are added to a flat buffer, at the
//! ranges that are wanted.

mod attention;
mod elements;
mod images;
mod losses;
mod memory;
mod norms;
mod positions;
mod products;
mod tokens;
mod updates;

pub(crate) use super::storage::GradientRange;
pub(crate) use attention::{AttentionCall, AttentionOps};
pub(crate) use elements::{Draw, Elements};
pub(crate) use images::{Images, PatchLayout, Windows};
pub(crate) use losses::{LossCall, LossKind, Losses};
pub(crate) use memory::{Blocks, Memory, Source};
pub(crate) use norms::{ChannelNormCall, GroupNormCall, NormCall, Norms, Segments};
pub(crate) use positions::{AxisMatrix, GridPlaces, Positions, RotationTable};
pub(crate) use products::{
    ConvolutionCall, ConvolutionExtents, ConvolutionGradients, LinearBackward, LinearCall, Products,
};
pub(crate) use tokens::Tokens;
pub(crate) use updates::{ClipCall, UpdateBuffers, UpdateCall, Updates};
pub use updates::{UpdateGroup, UpdateRule};

/// A device: all of these traits.
pub(crate) trait Backend:
    Memory + Products + Elements + Norms + AttentionOps + Positions + Tokens + Images + Losses + Updates
{
}
