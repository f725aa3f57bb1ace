//! What is asked of an assignment.

use crate::config::{ModelConfig, OtherSizes, PositionResample, Positions, Size};

/// What `resolve` needs to know of the model beside its parameters, and what the caller allows.
#[derive(Clone, Debug)]
pub struct ResolveOptions {
    /// Patch height and width, for dialects that order a patch's values differently.
    pub patch_size: Size,
    /// How positions are brought to this model's grid, should the file have another one.
    pub positions: Option<PositionAdaptation>,
    /// Names that need not fit, ours or theirs, with `*` for anything. A parameter left out this way is not assigned, and
    /// a tensor left out is not read.
    pub ignore: Vec<String>,
}

/// How positions of another grid are resampled.
#[derive(Clone, Copy, Debug)]
pub struct PositionAdaptation {
    /// Positions that are not part of the grid and stay.
    pub prefix: usize,
    /// The grid the file was trained on; square if not given.
    pub trained: Option<Size>,
    /// The grid of this model.
    pub grid: Size,
    /// By which kernel.
    pub kernel: PositionResample,
}

impl ResolveOptions {
    /// What a model's configuration says. Positions are adapted where the configuration allows another size.
    pub fn for_model(config: &ModelConfig) -> Self {
        let prefix = match config.positions {
            Positions::LearnedAll => config.prefix_tokens(),
            Positions::LearnedWithoutRegisters => config.prefix_tokens() - config.registers,
            Positions::LearnedPatches | Positions::None | Positions::SinCos2d | Positions::Rotary { .. } => 0,
        };
        let positions = match config.other_sizes {
            OtherSizes::Refuse => None,
            OtherSizes::Resample { kernel, .. } => {
                Some(PositionAdaptation { prefix, trained: None, grid: config.grid(), kernel })
            }
        };
        ResolveOptions { patch_size: config.patch_size, positions, ignore: Vec::new() }
    }

    /// Lets these names be missing, unused or misshapen.
    #[must_use]
    pub fn ignoring(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.ignore.extend(names.into_iter().map(Into::into));
        self
    }
}
