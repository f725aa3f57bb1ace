//! Patch tokens of an image, and what its mask says about each patch.

use vitral::config::Size;
use vitral::image::mask::Mask;
use vitral::image::{AsImage, Filter, Image, ImageView, resize};
use vitral::tiles::{TileOptions, Tiling};
use vitral::{Error, Model};

/// The patch tokens of an image: a grid that covers all of it.
pub(super) struct Tokens {
    pub(super) grid: Size,
    /// `[rows, columns, width]`.
    pub(super) values: Vec<f32>,
}

/// The patch tokens of an image whose short side is resized to `short` pixels, and to no less than the model's input covers, in
/// windows where it is larger than that. Its sides become whole numbers of patches, which changes its proportions by less
/// than half a patch.
pub(super) fn tokens(model: &Model, image: &Image, short: Option<usize>, batch: usize) -> Result<Tokens, Error> {
    let own = model.tiling(Size::square(1), TileOptions::default())?;
    let (window, cell, patches) = (own.window(), own.cell(), own.patches());
    let size = image.size();
    // At least a window in both directions, so that nothing is stretched to fill one.
    let least = (window.height as f64 / size.height as f64).max(window.width as f64 / size.width as f64);
    let scale = short.map_or(least, |short| least.max(short as f64 / size.height.min(size.width) as f64));
    let whole = |side: usize, cell: usize| ((side as f64 * scale / cell as f64).round() as usize).max(1) * cell;
    let to = Size { height: whole(size.height, cell.height), width: whole(size.width, cell.width) };
    let resized = match image.view() {
        ImageView::Rgb(image) => Image::Rgb(resize(image, to, Filter::Bicubic)),
        ImageView::Bands(image) => Image::Bands(image.resized(to, Filter::Bicubic)),
    };
    let tiling = Tiling::new(to, own.input(), patches, cell, TileOptions::default().overlap);
    let mut values = Vec::with_capacity(tiling.grid().area() * model.vit().config().width);
    let add = |_: usize, row: &[f32]| {
        values.extend_from_slice(row);
        Ok::<(), Error>(())
    };
    model.tile_tokens(&resized, &tiling, batch, |_| Ok(()), add)?;
    Ok(Tokens { grid: tiling.grid(), values })
}

/// What a mask says about each patch of a grid: how much of the patch has each value, for those that occur. Pixels of an
/// ignored value do not count; a patch may have none.
pub(super) fn shares(mask: &Mask, grid: Size, ignored: &[u16]) -> Vec<Vec<(u16, f32)>> {
    let size = mask.size();
    let mut counts: Vec<Vec<(u16, f32)>> = vec![Vec::new(); grid.area()];
    for (at, value) in mask.values().iter().enumerate() {
        if ignored.contains(value) {
            continue;
        }
        let row = at / size.width * grid.height / size.height;
        let column = at % size.width * grid.width / size.width;
        let counts = &mut counts[row * grid.width + column];
        match counts.iter_mut().find(|(other, _)| other == value) {
            Some((_, count)) => *count += 1.0,
            None => counts.push((*value, 1.0)),
        }
    }
    for counts in &mut counts {
        let total: f32 = counts.iter().map(|(_, count)| count).sum();
        counts.iter_mut().for_each(|(_, count)| *count /= total);
        counts.sort_by_key(|(value, _)| *value);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_is_not_ignored() {
        let size = Size { height: 2, width: 6 };
        let mask = Mask::new(size, vec![1, 1, 5, 255, 255, 255, 1, 7, 5, 5, 255, 255]);
        let found = shares(&mask, Size { height: 1, width: 3 }, &[255]);
        assert_eq!(found, [vec![(1, 0.75), (7, 0.25)], vec![(5, 1.0)], vec![]]);
    }
}
