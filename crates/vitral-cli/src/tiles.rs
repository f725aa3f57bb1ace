//! Large images in overlapping windows: the options, for all commands that take them.

use clap::Args;
use vitral::config::Size;
use vitral::tiles::{TileOptions, Tiling};
use vitral::{Error, Model};

use crate::fault::Usage;

/// Whether large images are looked at in windows, and in which.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TileArgs {
    /// Look at large images in overlapping windows, at their own resolution, and join the results; `--tiles=N` takes windows of
    /// N pixels and resizes each to the model's input [default: windows of the model's input]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, conflicts_with = "max_patches")]
    tiles: Option<Option<usize>>,
    /// The fraction of its side that a window has in common with the next one, from 0 to 0.95
    #[arg(long, value_name = "FRACTION", default_value = "0.5", requires = "tiles")]
    tile_overlap: f32,
}

impl TileArgs {
    /// The windows that were asked for.
    pub(crate) fn options(self) -> Option<TileOptions> {
        self.tiles.map(|side| TileOptions { side, overlap: self.tile_overlap })
    }
}

/// The windows of an image; what cannot be is wrong usage.
pub(crate) fn tiling(model: &Model, image: Size, options: TileOptions) -> anyhow::Result<Tiling> {
    model.tiling(image, options).map_err(|fault| match fault {
        Error::Tiles(fault) => Usage(format!("`--tiles`: {fault}")).into(),
        fault => fault.into(),
    })
}
