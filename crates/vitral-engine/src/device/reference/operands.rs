//! What the operands of products are rounded to, in each precision.

use super::{Reference, int8};
use crate::dtype::DType;
use crate::precision::Precision;

/// How a product rounds its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operands {
    /// Not at all.
    Exact,
    /// Both to bfloat16.
    Bf16,
    /// The weight as it is stored, rows of the input to 8 bits.
    Int8,
}

impl Reference {
    /// How a product with this parameter rounds: as the precision says, but a matrix that is stored wider is multiplied
    /// wider.
    pub(super) fn rounding(&self, stored: Option<DType>) -> Operands {
        match (self.precision(), stored) {
            (Precision::Int8, Some(DType::I8)) => Operands::Int8,
            (Precision::Bf16 | Precision::Int8, None | Some(DType::Bf16)) => Operands::Bf16,
            _ => Operands::Exact,
        }
    }
}

impl Operands {
    /// Rows of a product's input, rounded.
    pub(super) fn rows(self, x: &[f64], width: usize) -> Vec<f64> {
        match self {
            Operands::Exact => x.to_vec(),
            Operands::Bf16 => x.iter().copied().map(bf16).collect(),
            Operands::Int8 => x.chunks(width.max(1)).flat_map(int8::rounded_token).collect(),
        }
    }

    /// One value of a weight, or of what attention multiplies.
    pub(super) fn value(self, x: f64) -> f64 {
        if self == Operands::Bf16 { bf16(x) } else { x }
    }

    /// Attention's weights for one query. They are rounded as exponentials, of which the greatest is 1, before they are
    /// divided by their sum.
    pub(super) fn weights(self, weights: &[f64]) -> Vec<f64> {
        // A NaN is a NaN below, whatever the greatest of the others is.
        let most = weights.iter().copied().fold(0.0, f64::max);
        match self {
            Operands::Bf16 if most > 0.0 => weights.iter().map(|weight| bf16(weight / most) * most).collect(),
            _ => weights.to_vec(),
        }
    }
}

/// The nearest bfloat16 of the nearest 32-bit float: other devices have the latter.
fn bf16(x: f64) -> f64 {
    half::bf16::from_f32(x as f32).to_f64()
}
