//! Tensors and the two dozen operations a Vision Transformer needs, forward and backward.
//!
//! The engine knows no model, no file and no image. It is not a general framework: tensors are contiguous and
//! row-major, and there is one operation for each thing a ViT does, written well.

pub mod arena;
