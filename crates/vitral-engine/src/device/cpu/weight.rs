//! Parameters prepared for products: matrices packed once, others in place.

use std::sync::OnceLock;

use super::buffer::Buffer;
use super::kernels::{Isa, MatrixB, PackedB, Words, pack, pack_narrow};
use super::processor::Processor;
use crate::dtype::DType;

/// How a matrix is kept.
#[derive(Clone, Copy)]
pub(super) enum Stored {
    /// In a type, for products in 32 bits.
    As(DType),
    /// In words, for products in 16 or 8 bits.
    Words(Words),
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
