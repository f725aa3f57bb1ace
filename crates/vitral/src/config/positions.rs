//! The choices for position embeddings, as data.

use serde::{Deserialize, Serialize};

use super::size::Size;

/// The kind of position embedding, and which tokens it is added to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// No positions.
    None,
    /// Learned, one for every token, prefix tokens included; added after the tokens are concatenated.
    LearnedAll,
    /// Learned, for the class token, the distillation token and the patches, but not for registers (Hugging Face DINOv2
    /// with registers).
    LearnedWithoutRegisters,
    /// Learned, for patches only; added before the prefix tokens are prepended (timm `no_embed_class`, big_vision).
    LearnedPatches,
    /// Fixed 2D sine-cosine for patches only, as in big_vision and lucidrains' SimpleViT.
    SinCos2d,
    /// Rotary (RoPE): nothing is added; in every block, the queries and keys of patches are rotated by their row and
    /// column (arXiv:2104.09864), which run from −1 to 1 over the image (DINOv3). Works with any grid.
    Rotary {
        /// Ratio of the fastest frequency, 2π per unit, to the slowest.
        theta: f32,
    },
}

/// Relative position bias: a learned bias for every offset in rows and columns between key and query, added to the
/// attention scores of each head (BEiT, arXiv:2106.08254). A table is `[(2h − 1)(2w − 1) + 3, heads]` for a grid of
/// `h × w`: the offsets row by row, then class token to patch, patch to class token, class token to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelativePositions {
    /// No relative positions.
    None,
    /// A table in each block.
    Blocks,
    /// One table shared by all blocks.
    Shared,
    /// The sum of a block's own table and a shared one.
    Both,
}

/// How a relative position table is resampled to another grid. The class token's entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelativeResample {
    /// Linear over the offsets, with half-pixel centers (Hugging Face).
    Linear,
    /// Linear between geometrically spaced offsets, denser near zero (BEiT's own code, timm).
    Geometric,
}

impl RelativePositions {
    /// Whether each block has a table.
    pub fn in_blocks(self) -> bool {
        matches!(self, RelativePositions::Blocks | RelativePositions::Both)
    }

    /// Whether there is a table shared by all blocks.
    pub fn shared(self) -> bool {
        matches!(self, RelativePositions::Shared | RelativePositions::Both)
    }

    /// Number of entries in a table for this grid.
    pub fn entries(grid: Size) -> usize {
        Self::offsets(grid).area() + 3
    }

    /// Number of distinct offsets between patches of this grid, by axis.
    pub(crate) fn offsets(grid: Size) -> Size {
        Size { height: (2 * grid.height).saturating_sub(1), width: (2 * grid.width).saturating_sub(1) }
    }
}

/// How a grid of position embeddings is resampled to another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionResample {
    /// Bicubic with antialiasing (timm; Hugging Face DINOv2 with registers).
    BicubicAntialias,
    /// Bicubic, a = −0.75, no antialiasing (most of Hugging Face).
    Bicubic,
    /// Linear with aligned corners, like `scipy.ndimage.zoom(order=1)` (Google's JAX code).
    LinearAligned,
}

/// What happens when an image's size differs from the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherSizes {
    /// An error.
    Refuse,
    /// Positions are resampled to the new grid.
    Resample {
        /// The resampling kernel.
        kernel: PositionResample,
        /// Zero-pad right and bottom to whole patches (timm `dynamic_img_pad`); otherwise a remainder is an error.
        pad: bool,
    },
}
