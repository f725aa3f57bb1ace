//! The Vision Transformer, written once: training, inference and explanation run the same forward.
//!
//! Read `vit.rs`, then `block.rs`. Every part declares its parameters when it is built and uses them in `forward`.

mod attention;
mod block;
mod build;
mod corrupted;
pub mod cost;
mod error;
mod head;
pub mod init;
mod masked;
mod mlp;
mod output;
mod patches;
mod relative;
mod resnet;
mod resnet_d;
mod rotary;
mod stem;
mod storage;
mod text;
mod tokens;
pub mod variants;
mod vit;

pub use corrupted::{COLOR_LEVELS, Corrupted, CorruptedPatch, MaskedPatches, Replacement};
pub use error::ModelError;
pub use init::Initialization;
pub use masked::{DecoderConfig, MaskedAutoencoder, Visible};
pub use output::{Input, Output};
pub(crate) use relative::relation_entries;
pub(crate) use rotary::rotation_angles;
pub use storage::storage;
pub use text::TextTower;
pub(crate) use tokens::sin_cos_2d;
pub use vit::Vit;
