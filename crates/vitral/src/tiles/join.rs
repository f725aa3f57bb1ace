//! Joins windows to one grid.

use super::{Tile, Tiling};

/// Joins the values of overlapping windows to one grid over the image, row by row, with as many rows in memory as a
/// window has.
///
/// Each value of a patch is the mean over all windows that see it, weighted by the distance of the patch to the nearest
/// edges of the window. What one window alone sees is unchanged, to the bit, but for the sign of zero.
#[derive(Debug)]
pub struct Join<'a> {
    tiling: &'a Tiling,
    width: usize,
    /// The first row that is not given out yet.
    first: usize,
    /// Sums of the rows from `first`, each at its number modulo the rows of a window: `[rows, columns, width]`.
    sums: Vec<f64>,
    /// Sums of weights, `[rows, columns]`.
    weights: Vec<f64>,
}

impl<'a> Join<'a> {
    /// An empty grid of `width` values for each patch.
    pub fn new(tiling: &'a Tiling, width: usize) -> Self {
        let cells = tiling.patches().height * tiling.grid().width;
        Join { tiling, width, first: 0, sums: vec![0.0; cells * width], weights: vec![0.0; cells] }
    }

    /// Adds the values of a window, `[patches, width]`, and gives out the rows that no later window changes, each as its number
    /// and its values, `[columns, width]`. Windows are to be added in their order.
    ///
    /// # Errors
    /// That of `each`.
    ///
    /// # Panics
    /// If the values are not as many, or the window lies above what was given out.
    pub fn add<E>(
        &mut self,
        tile: Tile,
        values: &[f32],
        mut each: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (patches, grid) = (self.tiling.patches(), self.tiling.grid());
        assert_eq!(values.len(), patches.area() * self.width, "values of {patches} patches of {}", self.width);
        // Nothing comes above this window any more.
        self.give_out(tile.row, &mut each)?;
        for (patch, values) in values.chunks_exact(self.width).enumerate() {
            let (row, column) = (patch / patches.width, patch % patches.width);
            let (y, x) = (tile.row + row, tile.column + column);
            if y >= grid.height || x >= grid.width {
                // Beyond the image.
                continue;
            }
            // Quarters, so that a product with a 32-bit value is exact, and the quotient is the value again.
            let weight = inside(row, patches.height) * inside(column, patches.width);
            let cell = (y % patches.height) * grid.width + x;
            self.weights[cell] += weight;
            let sums = &mut self.sums[cell * self.width..][..self.width];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        if tile.index + 1 == self.tiling.count() {
            self.give_out(grid.height, &mut each)?;
        }
        Ok(())
    }

    /// Gives out the rows before `end`.
    fn give_out<E>(&mut self, end: usize, each: &mut impl FnMut(usize, &[f32]) -> Result<(), E>) -> Result<(), E> {
        let columns = self.tiling.grid().width;
        let mut values = Vec::new();
        assert!(end >= self.first, "windows in their order");
        while self.first < end {
            let start = (self.first % self.tiling.patches().height) * columns;
            let (weights, sums) =
                (&mut self.weights[start..][..columns], &mut self.sums[start * self.width..][..columns * self.width]);
            values.clear();
            for (weight, sums) in weights.iter().zip(sums.chunks_exact(self.width)) {
                values.extend(sums.iter().map(|sum| (sum / weight) as f32));
            }
            weights.fill(0.0);
            sums.fill(0.0);
            each(self.first, &values)?;
            self.first += 1;
        }
        Ok(())
    }
}

/// How far a patch is from the nearer edge of its window, in patches, to its center.
fn inside(place: usize, count: usize) -> f64 {
    place.min(count - 1 - place) as f64 + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    fn joined(tiling: &Tiling, width: usize, value: impl Fn(Tile, usize, usize) -> f32) -> Vec<f32> {
        let mut join = Join::new(tiling, width);
        let mut all = Vec::new();
        for tile in tiling.tiles() {
            let patches = tiling.patches();
            let values = (0..patches.area() * width).map(|at| {
                let patch = at / width;
                value(tile, patch / patches.width, patch % patches.width) + (at % width) as f32
            });
            let each = |row: usize, values: &[f32]| {
                assert_eq!(row * tiling.grid().width * width, all.len(), "rows in their order");
                all.extend_from_slice(values);
                Ok::<(), ()>(())
            };
            join.add(tile, &values.collect::<Vec<_>>(), each).expect("nothing fails");
        }
        assert_eq!(all.len(), tiling.grid().area() * width);
        all
    }

    #[test]
    fn what_all_windows_agree_on_is_joined_to_itself() {
        for (height, width, patches, overlap) in [(4, 4, 4, 0.5), (9, 30, 5, 0.5), (17, 6, 7, 0.25), (3, 20, 8, 0.75)] {
            let image = Size { height, width };
            let tiling = Tiling::new(image, Size::square(patches), Size::square(patches), Size::square(1), overlap);
            let of = |row: usize, column: usize| (row * 100 + column) as f32;
            let found = joined(&tiling, 3, |tile, row, column| of(tile.row + row, tile.column + column));
            for (at, found) in found.iter().enumerate() {
                let (patch, channel) = (at / 3, at % 3);
                let expected = of(patch / width, patch % width) + channel as f32;
                assert!((found - expected).abs() < 1e-3, "{image} {patch}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn one_window_keeps_its_bits() {
        let tiling = Tiling::new(Size::square(7), Size::square(7), Size::square(7), Size::square(1), 0.5);
        let value = |row: usize, column: usize| 1.0 / (3.0 + (row * 7 + column) as f32);
        let found = joined(&tiling, 1, |_, row, column| value(row, column));
        assert!((0..49).all(|at| found[at].to_bits() == value(at / 7, at % 7).to_bits()));
    }

    #[test]
    fn a_step_between_two_windows_becomes_a_slope() {
        let tiling = Tiling::new(Size { height: 8, width: 12 }, Size::square(8), Size::square(8), Size::square(1), 0.5);
        let found = joined(&tiling, 1, |tile, _, _| tile.index as f32);
        let row = &found[..12];
        assert_eq!((row[0], row[3], row[11]), (0.0, 0.0, 1.0));
        let steps: Vec<f32> = row.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| (0.0..0.3).contains(step)), "{row:?}");
    }
}
