//! Errors in a file, each with the format's name.

use crate::image::{Format, ImageError};

pub(super) fn corrupt(detail: impl ToString) -> ImageError {
    ImageError::Corrupt { format: Format::Tiff.name(), detail: detail.to_string() }
}

pub(super) fn truncated(detail: impl ToString) -> ImageError {
    ImageError::Truncated { format: Format::Tiff.name(), detail: detail.to_string() }
}

pub(super) fn unsupported(detail: impl ToString) -> ImageError {
    ImageError::Unsupported { format: Format::Tiff.name(), detail: detail.to_string() }
}
