//! Tensors and the two dozen operations a Vision Transformer needs, forward and backward.
//!
//! The engine knows no model, no file and no image. It is not a general framework: tensors are contiguous and
//! row-major, and there is one operation for each thing a ViT does, written well.

pub mod arena;
pub mod device;
pub mod ops;
pub mod packs;
pub mod tape;
pub mod tensor;

pub use arena::{Adapter, Declarations, ParameterId, ParameterKind, ParameterSpec, Parameters};
pub use device::cpu::Cpu;
pub use device::cpu::kernels::Storage;
pub use ops::Activation;
pub use packs::Packs;
pub use tape::{Context, Observer, Stages};
pub use tensor::{Shape, Tensor};
