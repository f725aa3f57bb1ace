//! Parameters prepared for products: matrices packed once, others in place.

use std::sync::OnceLock;

use super::Cpu;
use super::buffer::Buffer;
use super::kernels::{Isa, MatrixB, PackedB, Words, pack, pack_narrow};
use super::processor::Processor;
use crate::dtype::DType;
use crate::precision::Precision;

/// How a matrix is kept.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    /// In a type, for products in 32 bits.
    As(DType),
    /// In words, for products in 16 or 8 bits.
    Words(Words),
}

impl Cpu {
    /// How a matrix of this type is kept for products in the device's precision.
    pub(super) fn stored(&self, dtype: DType) -> Stored {
        match dtype {
            DType::I8 => Stored::Words(Words::Int8),
            DType::Bf16 if self.rounds_to_bf16() => Stored::Words(Words::Bf16),
            _ => Stored::As(dtype),
        }
    }

    /// Whether products that are not in 8 bits are in bfloat16: where that was asked for, and the processor multiplies them.
    pub(super) fn rounds_to_bf16(&self) -> bool {
        matches!(self.precision(), Precision::Bf16 | Precision::Int8) && self.processor.isa().multiplies_bf16()
    }
}

/// A parameter that does not change.
pub(crate) enum PreparedWeight {
    Packed {
        packed: PackedB,
        isa: Isa,
        /// The same matrix packed for gradients of the input, made when the first is asked for.
        transposed: OnceLock<PackedB>,
    },
    Plain {
        values: Buffer,
        /// A packed form that an operation derived, such as a standardized convolution.
        derived: OnceLock<PackedB>,
    },
}

impl PreparedWeight {
    /// A matrix `[out, in]`, packed and stored in a type.
    pub(super) fn matrix(cpu: &Processor, values: &[f32], [out, width]: [usize; 2], stored: Stored) -> Self {
        let packed = match stored {
            Stored::Words(words) => pack_narrow(cpu, values, width, out, words),
            Stored::As(dtype) => pack(cpu, MatrixB::Columns { data: values, stride: width }, width, out, dtype),
        };
        PreparedWeight::Packed { packed, isa: cpu.isa(), transposed: OnceLock::new() }
    }

    /// Anything else.
    pub(crate) fn plain(values: &[f32]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.as_mut_slice().copy_from_slice(values);
        PreparedWeight::Plain { values: buffer, derived: OnceLock::new() }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            PreparedWeight::Packed { packed, transposed, .. } => {
                packed.bytes() + transposed.get().map_or(0, PackedB::bytes)
            }
            PreparedWeight::Plain { values, derived } => 4 * values.len() + derived.get().map_or(0, PackedB::bytes),
        }
    }

    /// The values as its type keeps them, row by row.
    pub(crate) fn values(&self) -> Vec<f32> {
        match self {
            PreparedWeight::Packed { packed, isa, .. } => packed.to_rows(*isa),
            PreparedWeight::Plain { values, .. } => values.as_slice().to_vec(),
        }
    }
}
