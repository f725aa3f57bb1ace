//! Large images, looked at in overlapping windows that are joined again: one grid of patch features, or one map, for
//! an image of any size. In memory there are the image, one row of windows, and, for maps of a class, the logits of each window.
//!
//! A [`Tiling`] says where the windows are. They begin at whole patches, so every window puts its patches onto the same
//! grid over the image. Where windows overlap, a patch is the mean of what they say, and each counts the more the
//! further the patch is from its edges ([`Join`]), so that no edge of a window shows.

mod error;
mod join;
mod tiling;
mod windows;

pub use error::TilesError;
pub use join::Join;
pub use tiling::{Tile, TileOptions, Tiling};
pub use windows::WindowScores;
