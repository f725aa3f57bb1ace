//! A tensor's type, shape and location in its file.

use std::ops::Range;

use super::zip;

/// The type of a stored tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// 32-bit floating point.
    Float32,
    /// 16-bit floating point (IEEE 754 binary16).
    Float16,
    /// 16-bit floating point with float32's exponent.
    BFloat16,
    /// 64-bit floating point.
    Float64,
    /// 64-bit integer.
    Int64,
    /// 32-bit integer.
    Int32,
    /// 16-bit integer.
    Int16,
    /// 8-bit integer.
    Int8,
    /// 8-bit unsigned integer.
    UInt8,
    /// A byte that is 0 or 1.
    Bool,
    /// A type that weights do not have: small floats, complex numbers.
    Other {
        /// Bits per element.
        bits: usize,
    },
}

impl DataType {
    /// Bits per element.
    pub fn bits(self) -> usize {
        match self {
            DataType::Float64 | DataType::Int64 => 64,
            DataType::Float32 | DataType::Int32 => 32,
            DataType::Float16 | DataType::BFloat16 | DataType::Int16 => 16,
            DataType::Int8 | DataType::UInt8 | DataType::Bool => 8,
            DataType::Other { bits } => bits,
        }
    }

    /// The name, as NumPy and PyTorch write it.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Float32 => "float32",
            DataType::Float16 => "float16",
            DataType::BFloat16 => "bfloat16",
            DataType::Float64 => "float64",
            DataType::Int64 => "int64",
            DataType::Int32 => "int32",
            DataType::Int16 => "int16",
            DataType::Int8 => "int8",
            DataType::UInt8 => "uint8",
            DataType::Bool => "bool",
            DataType::Other { .. } => "other",
        }
    }

    /// Whether the values are floating point, so that weights can be read from them.
    pub fn is_float(self) -> bool {
        matches!(self, DataType::Float32 | DataType::Float16 | DataType::BFloat16 | DataType::Float64)
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor's elements are in its file.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// Contiguous, in row-major order.
    Contiguous { bytes: Range<usize> },
    /// Strided over a storage, with strides in elements: a transposed or sliced view.
    Strided { storage: Range<usize>, offset: usize, strides: Vec<usize> },
    /// Deflated, after a header of `skip` bytes; checked when the file was opened. Has strides if not in row-major
    /// order.
    Deflated { place: zip::Place, skip: usize, strides: Option<Vec<usize>> },
}

/// A tensor's location and shape.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) file: usize,
    pub(crate) data_type: DataType,
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
    pub(crate) big_endian: bool,
}
