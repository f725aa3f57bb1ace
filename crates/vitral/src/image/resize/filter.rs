//! Resampling filters, by name and by code.

use serde::{Deserialize, Serialize};

/// A resampling filter, by Pillow's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The pixel under the center; no antialiasing.
    Nearest,
    /// The mean over the pixel's own area.
    Box,
    /// A triangle, of support 1.
    Bilinear,
    /// A cosine-windowed sinc, of support 1: sharper than the triangle.
    Hamming,
    /// Cubic convolution with a = −0.5, of support 2.
    Bicubic,
    /// A sinc windowed by a sinc, of support 3.
    Lanczos,
}

impl Filter {
    /// Every filter.
    pub const ALL: [Filter; 6] =
        [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos];

    /// The name in timm and Pillow.
    pub const fn name(self) -> &'static str {
        match self {
            Filter::Nearest => "nearest",
            Filter::Box => "box",
            Filter::Bilinear => "bilinear",
            Filter::Hamming => "hamming",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        }
    }

    /// The filter with this name in timm and Pillow.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// The filter with this code in Pillow and in Hugging Face's `resample`.
    pub fn from_pillow(number: u64) -> Option<Self> {
        match number {
            0 => Some(Filter::Nearest),
            1 => Some(Filter::Lanczos),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            4 => Some(Filter::Box),
            5 => Some(Filter::Hamming),
            _ => None,
        }
    }
}

impl std::fmt::Display for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
