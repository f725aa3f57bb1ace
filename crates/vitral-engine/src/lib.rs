//! Tensors and the two dozen operations a Vision Transformer needs, forward and backward.
//!
//! The engine knows no model, no file and no image. It is not a general framework: tensors are contiguous and
//! row-major, and there is one operation for each thing a ViT does, written well. Operations are methods of
//! [`Context`]; a [`Device`] computes them.
//!
//! ```
//! use vitral_engine::ops::Linear;
//! use vitral_engine::{Context, DType, Declarations, Device, ParameterKind, Parameters};
//!
//! let mut declarations = Declarations::default();
//! let weight = declarations.declare("weight", &[2, 3], ParameterKind::Matrix);
//! let values: &[f32] = &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
//! let parameters =
//!     Parameters::prepared(declarations, Device::cpu(0), DType::F32, |_| Ok::<_, vitral_engine::DeviceError>(values.into()))?;
//!
//! let context = Context::inference(&parameters);
//! let x = context.device().upload([1, 3], &[1.0, 2.0, 3.0])?;
//! let y = context.linear(&x, Linear { weight, bias: None });
//! assert_eq!(y.to_vec()?, [1.0, 2.0]);
//! # Ok::<(), vitral_engine::DeviceError>(())
//! ```
//!
//! The memory of a tensor cannot be borrowed, only copied:
//!
//! ```compile_fail
//! # use vitral_engine::Device;
//! let tensor = Device::cpu(1).zeros([2]);
//! let numbers: &[f32] = tensor.values();
//! ```

mod activation;
mod arena;
mod device;
mod dtype;
mod gradients;
pub mod int8;
pub mod ops;
mod precision;
pub mod random;
mod shape;
mod tape;
mod tensor;
mod update;

pub use activation::Activation;
pub use arena::{Adapter, Declarations, ParameterId, ParameterKind, ParameterSpec, Parameters};
pub use device::Device;
pub use device::backend::{UpdateGroup, UpdateRule};
pub use device::cpu::Cpu;
pub use device::cpu::plan::{BatchExtent, leaves};
pub use device::cuda::Cuda;
pub use device::cuda::peers::{PeerLibrary, Peers};
pub use device::cuda::recording::Replays;
pub use device::error::DeviceError;
pub use device::reference::Reference;
pub use device::storage::FlatBuffer;
pub use dtype::DType;
pub use gradients::{GradientSum, Lane, Segment};
pub use precision::{Precision, UnknownPrecision};
pub use shape::Shape;
pub use tape::{Context, DrawKey, Observer, Stages, WatchedGradients};
pub use tensor::Tensor;
pub use update::{Clip, Moments, Update};
