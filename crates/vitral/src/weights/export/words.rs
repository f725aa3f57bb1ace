//! A model's choices in words, for the differences that are reported.

use crate::config::{OtherSizes, PositionResample, Positions};

/// The kind of positions.
pub(super) fn positions(positions: Positions) -> &'static str {
    match positions {
        Positions::None => "none",
        Positions::LearnedAll => "learned, for all tokens",
        Positions::LearnedWithoutRegisters => "learned, for all tokens except registers",
        Positions::LearnedPatches => "learned, for patches",
        Positions::SinCos2d => "sine-cosine",
    }
}

/// What happens to images of another size.
pub(super) fn other_sizes(choice: OtherSizes) -> &'static str {
    match choice {
        OtherSizes::Refuse => "images of its own size only",
        OtherSizes::Resample { kernel: PositionResample::Bicubic, .. } => "positions resampled to any size (bicubic)",
        OtherSizes::Resample { kernel: PositionResample::BicubicOffset, .. } => {
            "positions resampled to any size (bicubic, with DINO's steps)"
        }
        OtherSizes::Resample { kernel: PositionResample::BicubicAntialias, .. } => {
            "positions resampled to any size (bicubic with antialiasing)"
        }
        OtherSizes::Resample { kernel: PositionResample::BicubicAntialiasInSquare, .. } => {
            "positions resampled to any size (bicubic with antialiasing, keeping proportions)"
        }
        OtherSizes::Resample { kernel: PositionResample::LinearAntialias, .. } => {
            "positions resampled to any size (linear with antialiasing)"
        }
        OtherSizes::Resample { kernel: PositionResample::LinearAligned, .. } => {
            "positions resampled to any size (linear)"
        }
    }
}
