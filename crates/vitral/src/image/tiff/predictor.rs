//! Predictors: samples stored as differences from their left neighbor.

use super::fault::unsupported;
use crate::image::ImageError;

/// How samples were changed before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Each sample is the difference from the pixel to its left.
    Horizontal,
    /// The bytes of a row are sorted by significance, then stored as differences.
    FloatingPoint,
}

impl Predictor {
    pub(super) fn read(number: u64, bits: u32, float: bool) -> Result<Self, ImageError> {
        match number {
            1 => Ok(Predictor::None),
            2 if matches!(bits, 8 | 16 | 32 | 64) => Ok(Predictor::Horizontal),
            3 if float && matches!(bits, 16 | 32 | 64) => Ok(Predictor::FloatingPoint),
            2 | 3 => Err(unsupported(format!("predictor {number} with samples of {bits} bits"))),
            _ => Err(unsupported(format!("predictor {number}"))),
        }
    }

    /// Restores a row of little-endian samples of `size` bytes; a pixel has `samples` of them.
    pub(super) fn undo(self, row: &mut [u8], samples: usize, size: usize) {
        match self {
            Predictor::None => {}
            Predictor::Horizontal => add_neighbors(row, samples, size),
            Predictor::FloatingPoint => {
                add_neighbors(row, samples, 1);
                // The most significant bytes come first.
                let sorted = row.to_vec();
                let count = row.len() / size;
                for (index, sample) in row.chunks_exact_mut(size).enumerate() {
                    for (significance, byte) in sample.iter_mut().rev().enumerate() {
                        *byte = sorted[significance * count + index];
                    }
                }
            }
        }
    }
}

fn add_neighbors(row: &mut [u8], samples: usize, size: usize) {
    let step = samples * size;
    match size {
        1 => {
            for at in step..row.len() {
                row[at] = row[at].wrapping_add(row[at - step]);
            }
        }
        2 => {
            for at in (step..row.len() - 1).step_by(2) {
                let word = |at: usize| u16::from_le_bytes([row[at], row[at + 1]]);
                let sum = word(at).wrapping_add(word(at - step));
                row[at..at + 2].copy_from_slice(&sum.to_le_bytes());
            }
        }
        _ => {
            for at in (step..row.len() + 1 - size).step_by(size) {
                let mut carry = 0;
                for byte in at..at + size {
                    let sum = u16::from(row[byte]) + u16::from(row[byte - step]) + carry;
                    row[byte] = sum as u8;
                    carry = sum >> 8;
                }
            }
        }
    }
}
