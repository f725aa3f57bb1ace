//! Options of an assignment.

use crate::config::{ModelConfig, OtherSizes, PositionResample, Positions, Rotary, Size};

/// What `resolve` needs to know about the model besides its parameters, and what the caller allows.
#[derive(Clone, Debug)]
pub struct ResolveOptions {
    /// Patch height and width, for dialects with another order of a patch's values.
    pub patch_size: Size,
    /// Width of a head, for dialects with another order of a head's channels.
    pub head_width: usize,
    /// The model's rotary positions, which the order of channels depends on.
    pub rotary: Option<Rotary>,
    /// How positions are resampled to this model's grid if the file has another one.
    pub positions: Option<PositionAdaptation>,
    /// Names that need not match, ours or the file's, with `*` as a wildcard. A parameter listed here is not assigned,
    /// and a tensor listed here is not read.
    pub ignore: Vec<String>,
}

/// How positions of another grid are resampled.
#[derive(Clone, Copy, Debug)]
pub struct PositionAdaptation {
    /// Number of positions that are not part of the grid and are kept.
    pub prefix: usize,
    /// The grid the file was trained on; square if absent.
    pub trained: Option<Size>,
    /// The grid of this model.
    pub grid: Size,
    /// The resampling kernel.
    pub kernel: PositionResample,
}

impl ResolveOptions {
    /// The options for a model's configuration. Positions are resampled if the configuration allows other sizes.
    pub fn for_model(config: &ModelConfig) -> Self {
        let prefix = match config.positions {
            Positions::LearnedAll => config.prefix_tokens(),
            Positions::LearnedWithoutRegisters => config.prefix_tokens() - config.registers,
            Positions::LearnedPatches | Positions::None | Positions::SinCos2d => 0,
        };
        let positions = match config.other_sizes {
            OtherSizes::Refuse => None,
            OtherSizes::Resample { kernel, .. } => {
                Some(PositionAdaptation { prefix, trained: None, grid: config.grid(), kernel })
            }
        };
        ResolveOptions {
            patch_size: config.patch_size,
            head_width: config.head_width,
            rotary: config.rotary,
            positions,
            ignore: Vec::new(),
        }
    }

    /// Allows these names to be missing, unused or of another shape.
    #[must_use]
    pub fn ignoring(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignore.extend(names.into_iter().map(Into::into));
        self
    }
}
