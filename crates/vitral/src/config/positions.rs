//! Where positions come from, as data.

use serde::{Deserialize, Serialize};

use super::size::Size;

/// Where position embeddings come from and which tokens they are added to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// No positions.
    None,
    /// Learned, one for every token, prefix tokens included; added after the tokens are joined.
    LearnedAll,
    /// Learned, for the class token, the distillation token and the patches, registers getting none (Hugging Face
    /// DINOv2 with registers).
    LearnedWithoutRegisters,
    /// Learned, for patches only; added before the prefix tokens are joined (timm `no_embed_class`, big_vision).
    LearnedPatches,
    /// Fixed sine-cosine in two dimensions for patches only, as big_vision and lucidrains' SimpleViT make it.
    SinCos2d,
    /// Nothing is added: in every block, queries and keys of patches turn by their row and column (arXiv:2104.09864), which
    /// run from −1 to 1 over the image (DINOv3). Any grid will do.
    Rotary {
        /// The slowest turn is so many times slower than the fastest, 2π a unit.
        theta: f32,
    },
}

/// What attention learns of how far a key stands from a query: a bias for every offset in rows and columns, added to the
/// scores of each head (BEiT, arXiv:2106.08254). A table is `[(2h − 1)(2w − 1) + 3, heads]` for a grid of `h × w`: the offsets
/// row by row, then class token to patch, patch to class token, class token to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelativePositions {
    /// Nothing.
    None,
    /// A table in each block.
    Blocks,
    /// One table for all blocks.
    Shared,
    /// The sum of a block's own table and of one for all.
    Both,
}

/// How a table of relative positions is brought to another grid. The class token's entries stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelativeResample {
    /// Linear over the offsets, pixel centers at half (Hugging Face).
    Linear,
    /// Linear between offsets that are spread geometrically, near ones closer together (BEiT's own code, timm).
    Geometric,
}

impl RelativePositions {
    /// Whether each block has a table.
    pub fn in_blocks(self) -> bool {
        matches!(self, RelativePositions::Blocks | RelativePositions::Both)
    }

    /// Whether there is a table for all blocks.
    pub fn shared(self) -> bool {
        matches!(self, RelativePositions::Shared | RelativePositions::Both)
    }

    /// Entries of a table for this grid.
    pub fn entries(grid: Size) -> usize {
        Self::offsets(grid).area() + 3
    }

    /// Offsets that patches of this grid have to each other.
    pub(crate) fn offsets(grid: Size) -> Size {
        Size { height: (2 * grid.height).saturating_sub(1), width: (2 * grid.width).saturating_sub(1) }
    }
}

/// How a position grid is resampled to another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionResample {
    /// Bicubic with antialiasing (timm; Hugging Face DINOv2 with registers).
    BicubicAntialias,
    /// Bicubic, a = −0.75, no antialiasing (most of Hugging Face).
    Bicubic,
    /// Linear with aligned corners, as `scipy.ndimage.zoom(order=1)` (Google's JAX code).
    LinearAligned,
}

/// What happens when an image has another size than the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OtherSizes {
    /// An error.
    Refuse,
    /// Positions are resampled to the new grid.
    Resample {
        /// By which kernel.
        kernel: PositionResample,
        /// Zero-pad right and bottom to whole patches (timm `dynamic_img_pad`); without it a remainder is an error.
        pad: bool,
    },
}
