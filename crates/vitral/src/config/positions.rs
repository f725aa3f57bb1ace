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
}

/// Rotary positions (RoPE, arXiv:2104.09864): in every block, the queries and keys of patches are turned by angles that
/// follow from a patch's row and column. Channel `i` of the first half of a head and channel `i` of the second are a
/// pair, which turns by one angle; models that pair neighboring channels have theirs reordered on the way in and out.
/// Prefix tokens do not turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotary {
    /// DINOv3 (arXiv:2508.10104): half of a head's pairs turn with the row, the others with the column, which run from −1
    /// to 1 over the image. Works with any grid.
    Normalized {
        /// Ratio of the fastest frequency, 2π per unit, to the slowest.
        theta: f32,
    },
    /// Axial (EVA-02, arXiv:2303.11331; RoPE-ViT, arXiv:2403.13298; Perception Encoder, arXiv:2504.13181): half of a
    /// head's pairs turn with the row, the others with the column, counted in patches.
    Axial {
        /// Ratio of the fastest frequency, 1 per patch, to the slowest.
        theta: f32,
        /// The axis that the first pairs turn with.
        first: Axis,
        /// The place of the first row and column.
        #[serde(default)]
        offset: f32,
        /// The grid whose places the model knows: those of another grid are scaled to it. Without one, they are counted
        /// on.
        #[serde(default)]
        reference: Option<Size>,
    },
    /// Mixed (RoPE-ViT, arXiv:2403.13298): every pair of every head of every block has frequencies of its own for both
    /// axes, counted in patches, which are learned.
    Mixed {
        /// Ratio of the fastest frequency to the slowest, where training starts.
        theta: f32,
        /// The axis of the first frequencies.
        first: Axis,
    },
}

/// One of the two axes of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// From row to row.
    Rows,
    /// From column to column.
    Columns,
}

impl Rotary {
    /// Whether the angles are learned.
    pub fn is_learned(self) -> bool {
        matches!(self, Rotary::Mixed { .. })
    }

    /// The ratio of the fastest frequency to the slowest.
    pub fn theta(self) -> f32 {
        match self {
            Rotary::Normalized { theta } | Rotary::Axial { theta, .. } | Rotary::Mixed { theta, .. } => theta,
        }
    }
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
    /// The same at the steps of a grid that is a tenth of a patch longer: the code of DINO and of DINOv2 without registers,
    /// which adds 0.1 to the number of patches so that their quotient is not rounded down.
    BicubicOffset,
    /// Linear with aligned corners, like `scipy.ndimage.zoom(order=1)` (Google's JAX code).
    LinearAligned,
    /// Linear with antialiasing (Hugging Face's SigLIP 2 NaFlex).
    LinearAntialias,
    /// Bicubic with antialiasing, to a square as wide as the longer side, of which the grid is the top left part: steps
    /// from row to row and from column to column stay alike (timm's NaFlex with `pos_embed_ar_preserving`).
    BicubicAntialiasInSquare,
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
