//! Whose arithmetic prepares an image, where Hugging Face has two.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::{Filter, ImageError};
use super::{Halving, Preprocess, Rescale, Step};

/// The arithmetic of a Hugging Face processor. Each has two implementations in transformers 5, which differ by a few
/// levels of 255 in some pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Pillow resizes, NumPy does the rest: transformers' `backend="pil"`.
    Pil,
    /// torchvision does everything, on tensors: transformers' `backend="torchvision"`, its default.
    Torchvision,
}

impl Backend {
    /// Both.
    pub const ALL: [Backend; 2] = [Backend::Pil, Backend::Torchvision];

    /// The name in transformers.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Pil => "pil",
            Backend::Torchvision => "torchvision",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Backend::ALL.into_iter().find(|backend| backend.name() == text);
        found.ok_or_else(|| format!("expected `pil` or `torchvision`, found `{text}`"))
    }
}

impl Preprocess {
    /// The same preprocessing in the arithmetic of this backend.
    ///
    /// A resize without rounding ([`Step::ResizeNumbers`]) stays what it is: transformers has one implementation of
    /// DINOv3's processor.
    ///
    /// # Errors
    /// For [`Backend::Torchvision`], if no such processor does these steps: those of timm and torchvision's presets are
    /// defined with Pillow, and torchvision has fewer filters for tensors.
    pub fn with_backend(mut self, backend: Backend) -> Result<Self, ImageError> {
        let numbers = self.steps.iter().any(|step| matches!(step, Step::ResizeNumbers { .. }));
        for step in &mut self.steps {
            *step = match (step.clone(), backend) {
                (Step::Resize { filter, .. }, Backend::Torchvision)
                    if matches!(filter, Filter::Box | Filter::Hamming) =>
                {
                    return Err(ImageError::Backend { found: format!("the filter `{filter}`") });
                }
                (Step::Resize { to, filter }, Backend::Torchvision) => Step::ResizeTensor { to, filter },
                // What transformers does for the same weights.
                (Step::Interpolate { to, .. }, Backend::Pil) => Step::Resize { to, filter: Filter::Bilinear },
                (Step::Interpolate { to, .. }, Backend::Torchvision) => {
                    Step::ResizeTensor { to, filter: Filter::Bilinear }
                }
                (Step::ResizeTensor { to, filter }, Backend::Pil) => Step::Resize { to, filter },
                (Step::CenterCrop { halving: Halving::Even, .. }, Backend::Torchvision) => {
                    return Err(ImageError::Backend {
                        found: "the center crop of timm and torchvision's presets".into(),
                    });
                }
                (Step::CenterCrop { size, halving: Halving::Down, fill }, Backend::Torchvision) => {
                    Step::CenterCrop { size, halving: Halving::TowardZero, fill }
                }
                (Step::CenterCrop { size, halving: Halving::TowardZero, fill }, Backend::Pil) => {
                    Step::CenterCrop { size, halving: Halving::Down, fill }
                }
                (step, _) => step,
            };
        }
        self.rescale = match (self.rescale, backend) {
            (Some(Rescale::Divide255 | Rescale::TypeRange), Backend::Torchvision) => {
                return Err(ImageError::Backend { found: "the scale of timm and torchvision's presets".into() });
            }
            (Some(Rescale::Multiply { factor, offset }), Backend::Torchvision) if !numbers => {
                Some(Rescale::Fused { factor, offset })
            }
            (Some(Rescale::Fused { factor, offset }), Backend::Pil) => Some(Rescale::Multiply { factor, offset }),
            (rescale, _) => rescale,
        };
        Ok(self)
    }
}
