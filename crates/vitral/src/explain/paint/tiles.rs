//! Figures that are grids of small images.

use super::super::Map;
use super::super::figures::Filters;
use super::canvas::short;
use super::{Caption, Legend, Sheet, Tile, color};
use crate::config::Size;
use crate::error::Error;
use crate::image::{Filter, RgbImage, resize};
use crate::numbers::{largest, smallest};

/// Least side of the tile of a filter, in pixels: wide enough for its caption.
const TILE: usize = 72;

/// The cosines `[patches, patches]` of position embeddings, with one tile per patch in the patch's position: figure 7,
/// center. For a large grid, only every second (third…) patch has a tile.
///
/// # Errors
/// None for a valid figure.
pub fn position_tiles(grid: Size, cosines: &[f32]) -> Result<RgbImage, Error> {
    let patches = grid.area();
    let least = smallest(cosines.iter().copied().chain([1.0]));
    let every = grid.height.max(grid.width).div_ceil(16);
    let pixels = (48 / grid.height.max(grid.width)).max(1);
    let tile = |patch: usize| -> Result<Tile, Error> {
        let values = &cosines[patch * patches..(patch + 1) * patches];
        // All tiles share one scale, as in the paper.
        let shown = values.iter().flat_map(|value| color((value - least) / (1.0 - least).max(f32::MIN_POSITIVE)));
        let image = RgbImage::new(grid.width, grid.height, shown.collect())?;
        let size = Size { height: grid.height * pixels, width: grid.width * pixels };
        Ok(resize(&image, size, Filter::Nearest).into())
    };
    let rows = (0..grid.height).step_by(every).map(|row| {
        (0..grid.width).step_by(every).map(|column| tile(row * grid.width + column)).collect::<Result<Vec<_>, _>>()
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let about = match every {
        1 => "One tile for each patch, in its place".to_owned(),
        2 => "One tile for every second patch, in its place".to_owned(),
        _ => format!("One tile for one patch in {every} by {every}, in its place"),
    };
    Sheet::new(rows, grid.height.max(grid.width) * pixels, 3)
        .title("Similarity of position embeddings")
        .columns("column", (0..grid.width).step_by(every).map(|column| column.to_string()))
        .sides((0..grid.height).step_by(every).map(|row| format!("row {row}")))
        .legend(Legend::Scale(format!("cosine {}", short(least)), "1: the same".into()))
        .legend(Legend::Text(about + ": its cosine similarity to all patches."))
        .paint()
}

/// Filters as tiles, seven per row, each scaled from its minimum to its maximum: figure 7, left, with its number and its
/// share of the variance below. Channels beyond the third are left out; a single channel is gray.
///
/// # Errors
/// None for a valid figure.
pub fn filter_tiles(filters: &Filters) -> Result<RgbImage, Error> {
    let (patch, channels) = (filters.patch, filters.channels);
    let tile = |values: &[f32]| -> Result<RgbImage, Error> {
        // From −1 to 1 around middle gray, so that a filter that sums to 0 is gray on average.
        let most = largest(values.iter().map(|x| x.abs()).chain([f32::MIN_POSITIVE]));
        let byte = |x: f32| (127.5 + 127.5 * x / most).round() as u8;
        let bytes = values.chunks_exact(channels).flat_map(|pixel| [0, 1, 2].map(|c| byte(pixel[c.min(channels - 1)])));
        let image = RgbImage::new(patch.width, patch.height, bytes.collect())?;
        let factor = TILE.div_ceil(patch.height.max(patch.width));
        Ok(resize(&image, Size { height: patch.height * factor, width: patch.width * factor }, Filter::Bicubic))
    };
    let tiles = filters.values.chunks_exact(patch.area() * channels).map(tile).collect::<Result<Vec<_>, _>>()?;
    let captions = filters.shares.iter().enumerate().map(|(i, share)| format!("{}: {:.1}%", i + 1, 100.0 * share));
    let tiles: Vec<Tile> =
        tiles.into_iter().zip(captions).map(|(image, text)| Tile::new(image, Caption::Text(text))).collect();
    let rows: Vec<Vec<Tile>> = tiles.chunks(7).map(<[_]>::to_vec).collect();
    let cell = TILE.div_ceil(patch.height.max(patch.width)) * patch.height.max(patch.width);
    Sheet::new(rows, cell, 6)
        .title("Principal components of the patch embedding")
        .legend(Legend::Text(
            "Number and share of the filters' variance. Middle gray is 0; each tile has a scale of its own.".into(),
        ))
        .paint()
}

/// Colors `[patches, 3]` from 0 to 1 as an image of `size`.
///
/// # Errors
/// None for a valid figure.
pub fn principal_tiles(grid: Size, colors: &[f32], size: Size) -> Result<RgbImage, Error> {
    let plane = |channel: usize| {
        let values: Vec<f32> = colors.iter().skip(channel).step_by(3).copied().collect();
        Map::new(grid, values).resized(size).values
    };
    let planes = [plane(0), plane(1), plane(2)];
    let byte = |x: f32| (255.0 * x.clamp(0.0, 1.0)).round() as u8;
    let pixels = (0..size.area()).flat_map(|i| [0, 1, 2].map(|channel: usize| byte(planes[channel][i]))).collect();
    Ok(RgbImage::new(size.width, size.height, pixels)?)
}
