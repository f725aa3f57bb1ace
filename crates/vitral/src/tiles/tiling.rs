//! Where the windows of an image are.

use super::TilesError;
use crate::config::Size;
use crate::error::Error;
use crate::image::resize::Window;
use crate::load::Model;

/// How an image is divided into windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TileOptions {
    /// Side of a window, in pixels of the image, each resized to the model's input; the model's own input if absent, which
    /// is then not resized.
    pub side: Option<usize>,
    /// The fraction of its side that a window has in common with the next one, at least.
    pub overlap: f32,
}

impl Default for TileOptions {
    fn default() -> Self {
        TileOptions { side: None, overlap: 0.5 }
    }
}

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its number, from 0, row by row.
    pub index: usize,
    /// The row of its first patch in the grid of the image.
    pub row: usize,
    /// The column of its first patch in the grid of the image.
    pub column: usize,
}

/// The windows of one image, and the grid of patches that they cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    image: Size,
    input: Size,
    patches: Size,
    cell: Size,
    grid: Size,
    rows: Vec<usize>,
    columns: Vec<usize>,
}

/// The largest side of a window, in pixels: a window is cut as a whole, also where the image is smaller.
const LARGEST: usize = 16_384;

/// The largest overlap: more costs a hundred windows and more for each patch.
const MOST: f32 = 0.95;

impl Tiling {
    /// The windows of an image of `image` pixels. A window has `patches` patches of `cell` pixels each, and is resized to
    /// `input` pixels for the model.
    ///
    /// # Panics
    /// If a size is empty, or the overlap is not between 0 and 1.
    pub fn new(image: Size, input: Size, patches: Size, cell: Size, overlap: f32) -> Self {
        assert!([image, input, patches, cell].iter().all(|size| size.height > 0 && size.width > 0), "sizes above 0");
        assert!((0.0..1.0).contains(&overlap), "an overlap of {overlap}");
        let grid = Size { height: image.height.div_ceil(cell.height), width: image.width.div_ceil(cell.width) };
        let (rows, columns) =
            (starts(grid.height, patches.height, overlap), starts(grid.width, patches.width, overlap));
        Tiling { image, input, patches, cell, grid, rows, columns }
    }

    /// The size of the image, in pixels.
    pub fn image(&self) -> Size {
        self.image
    }

    /// Rows and columns of patches over the whole image; those of the last ones may extend beyond it.
    pub fn grid(&self) -> Size {
        self.grid
    }

    /// Pixels of the image in a patch.
    pub fn cell(&self) -> Size {
        self.cell
    }

    /// Patches of a window.
    pub fn patches(&self) -> Size {
        self.patches
    }

    /// Pixels of the image in a window.
    pub fn window(&self) -> Size {
        Size { height: self.patches.height * self.cell.height, width: self.patches.width * self.cell.width }
    }

    /// Pixels that the model sees of a window.
    pub fn input(&self) -> Size {
        self.input
    }

    /// The number of windows.
    pub fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// All windows, row by row.
    pub fn tiles(&self) -> impl ExactSizeIterator<Item = Tile> + '_ {
        (0..self.count()).map(|index| Tile {
            index,
            row: self.rows[index / self.columns.len()],
            column: self.columns[index % self.columns.len()],
        })
    }

    /// The pixels of a window; they may extend beyond the image on the right and at the bottom.
    pub fn pixels(&self, tile: Tile) -> Window {
        Window { top: tile.row * self.cell.height, left: tile.column * self.cell.width, size: self.window() }
    }
}

/// Where windows of `window` patches begin along a side of `length` patches: at equal distances, so that neighbors have
/// at least the fraction `overlap` in common.
fn starts(length: usize, window: usize, overlap: f32) -> Vec<usize> {
    let Some(rest) = length.checked_sub(window).filter(|&rest| rest > 0) else { return vec![0] };
    // What is written as 0.8 is a little more than that.
    let step = ((window as f64 * (1.0 - f64::from(overlap)) + 1e-4) as usize).max(1);
    let steps = rest.div_ceil(step);
    (0..=steps).map(|index| index * rest / steps).collect()
}

impl Model {
    /// The windows of an image of `image` pixels.
    ///
    /// # Errors
    /// If the side is not a multiple of the patches in it or above 16,384, the overlap is not from 0 to 0.95, or the model's files
    /// do not say how to preprocess.
    pub fn tiling(&self, image: Size, options: TileOptions) -> Result<Tiling, Error> {
        if !(0.0..=MOST).contains(&options.overlap) {
            return Err(TilesError::Overlap { overlap: options.overlap }.into());
        }
        let input = self.preprocess()?.output_size().unwrap_or(self.vit.config().image_size);
        let patches = self.vit.grid(input)?;
        let cell = |patches: usize, own: usize| match options.side {
            // The largest windows of whole pixels for each patch that are not above the input.
            None => Ok((own / patches).max(1)),
            Some(side) if side > LARGEST => Err(TilesError::Large { side, most: LARGEST }),
            Some(side) if side >= patches && side.is_multiple_of(patches) => Ok(side / patches),
            Some(side) => {
                let below = (side / patches).max(1) * patches;
                let above = (side / patches + 1) * patches;
                Err(TilesError::Side { model: self.name.clone(), side, patches, below, above })
            }
        };
        let cell = Size { height: cell(patches.height, input.height)?, width: cell(patches.width, input.width)? };
        Ok(Tiling::new(image, input, patches, cell, options.overlap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_equal_distances_and_end_at_the_edge() {
        assert_eq!(starts(14, 14, 0.5), [0]);
        assert_eq!(starts(3, 14, 0.5), [0]);
        assert_eq!(starts(15, 14, 0.5), [0, 1]);
        assert_eq!(starts(28, 14, 0.5), [0, 7, 14]);
        assert_eq!(starts(30, 14, 0.5), [0, 5, 10, 16]);
        assert_eq!(starts(30, 14, 0.0), [0, 8, 16]);
        assert_eq!(starts(40, 20, 0.8), [0, 4, 8, 12, 16, 20], "four patches further each");
        for (length, window, overlap) in [(100, 14, 0.5), (57, 16, 0.25), (1000, 37, 0.9), (23, 1, 0.5)] {
            let starts = starts(length, window, overlap);
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, length - window));
            let step = ((window as f32 * (1.0 - overlap) + 1e-3) as usize).max(1);
            assert!(starts.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] <= step), "{starts:?}");
        }
    }

    #[test]
    fn the_grid_covers_the_image() {
        let image = Size { height: 100, width: 230 };
        let tiling = Tiling::new(image, Size::square(64), Size::square(4), Size::square(16), 0.5);
        assert_eq!(
            (tiling.grid(), tiling.window(), tiling.count()),
            (Size { height: 7, width: 15 }, Size::square(64), 21)
        );
        let last = tiling.tiles().last().expect("windows");
        assert_eq!(last, Tile { index: 20, row: 3, column: 11 });
        assert_eq!(tiling.pixels(last), Window { top: 48, left: 176, size: Size::square(64) });
    }
}
