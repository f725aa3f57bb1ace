//! Maps of values over an image.

use vitral_engine::ops::{AxisWeights, resample};

use crate::config::Size;
use crate::numbers::{largest, smallest};

/// A value for every cell of a grid: patches, or pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Rows and columns.
    pub size: Size,
    /// `[rows, columns]`.
    pub values: Vec<f32>,
}

impl Map {
    /// A map with one value per cell of its grid.
    ///
    /// # Panics
    /// If the number of values does not match.
    pub fn new(size: Size, values: Vec<f32>) -> Self {
        assert_eq!(values.len(), size.area(), "a map of {size} does not hold {} values", values.len());
        Map { size, values }
    }

    /// Scaled to 0 (the minimum) to 1 (the maximum); all 0 if all values are equal.
    #[must_use]
    pub fn normalized(&self) -> Map {
        let (low, high) = self.range();
        let scale = if high > low { 1.0 / (high - low) } else { 0.0 };
        Map { size: self.size, values: self.values.iter().map(|x| (x - low) * scale).collect() }
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> (f32, f32) {
        (smallest(self.values.iter().copied()), largest(self.values.iter().copied()))
    }

    /// The smallest and the largest value that are left if a fraction `share` of all is left out at either end; those of
    /// all values if nothing would be left between them.
    pub fn range_without(&self, share: f32) -> (f32, f32) {
        let mut sorted = self.values.clone();
        sorted.sort_by(f32::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let cut = (share * last as f32).round() as usize;
        let (low, high) = (sorted[cut.min(last)], sorted[last - cut.min(last)]);
        if low < high { (low, high) } else { self.range() }
    }

    /// Scaled to 0 to 1 with a fraction `share` of the values clipped at either end: for maps with a few outliers.
    #[must_use]
    pub fn clipped(&self, share: f32) -> Map {
        let (low, high) = self.range_without(share);
        if low.is_nan() || high.is_nan() {
            return self.normalized();
        }
        Map { size: self.size, values: self.values.iter().map(|x| x.clamp(low, high)).collect() }.normalized()
    }

    /// Resampled to another grid: bicubic, which smooths the edges of patches; antialiased when shrinking.
    #[must_use]
    pub fn resized(&self, to: Size) -> Map {
        if to == self.size {
            return self.clone();
        }
        let rows = AxisWeights::bicubic_antialias(self.size.height, to.height);
        let columns = AxisWeights::bicubic_antialias(self.size.width, to.width);
        Map { size: to, values: resample(&self.values, 1, &rows, &columns) }
    }

    /// Means over the cells of a coarser grid.
    #[must_use]
    pub fn pooled(&self, to: Size) -> Map {
        let mut sums = vec![0.0f64; to.area()];
        let mut counts = vec![0usize; to.area()];
        for (i, &value) in self.values.iter().enumerate() {
            let row = (i / self.size.width) * to.height / self.size.height;
            let cell = row * to.width + (i % self.size.width) * to.width / self.size.width;
            sums[cell] += f64::from(value);
            counts[cell] += 1;
        }
        let mean = |(sum, count): (&f64, &usize)| (sum / (*count).max(1) as f64) as f32;
        Map { size: to, values: sums.iter().zip(&counts).map(mean).collect() }
    }

    /// A mask, as 1 and 0, of the fewest cells that hold the fraction `share` of the sum of positive values: the mask
    /// that DINO (arXiv:2104.14294) shows over its attention.
    #[must_use]
    pub fn mass(&self, share: f32) -> Map {
        let total: f64 = self.values.iter().map(|x| f64::from(x.max(0.0))).sum();
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_by(|&a, &b| self.values[b].total_cmp(&self.values[a]).then(a.cmp(&b)));
        let mut mask = vec![0.0; self.values.len()];
        let mut held = 0.0;
        for cell in order {
            if held >= f64::from(share) * total {
                break;
            }
            held += f64::from(self.values[cell].max(0.0));
            mask[cell] = 1.0;
        }
        Map { size: self.size, values: mask }
    }

    /// Cells in order of decreasing value; ties keep their order.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_by(|&a, &b| self.values[b].total_cmp(&self.values[a]).then(a.cmp(&b)));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { height: 2, width: 3 };

    #[test]
    fn a_mask_holds_its_mass_with_the_fewest_cells() {
        let map = Map::new(SIZE, vec![0.1, 0.4, 0.05, 0.25, 0.2, 0.0]);
        assert_eq!(map.mass(0.6).values, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(map.mass(0.66).values, [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(map.order(), [1, 3, 4, 0, 2, 5]);
    }

    #[test]
    fn maps_grow_shrink_and_keep_their_range() {
        let map = Map::new(SIZE, vec![1.0, 2.0, 3.0, 3.0, 2.0, 1.0]);
        assert_eq!(map.normalized().values, [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]);
        assert_eq!(Map::new(SIZE, vec![2.0; 6]).normalized().values, [0.0; 6]);
        let large = map.resized(Size { height: 20, width: 30 });
        assert_eq!(large.values.len(), 600);
        let back = large.pooled(SIZE);
        for (found, expected) in back.values.iter().zip(&map.values) {
            assert!((found - expected).abs() < 0.25, "{found} {expected}");
        }
        let wild = Map::new(Size { height: 1, width: 5 }, vec![0.0, 1.0, 2.0, 3.0, 1000.0]);
        assert_eq!(wild.clipped(0.25).values, [0.0, 0.0, 0.5, 1.0, 1.0]);
    }
}
