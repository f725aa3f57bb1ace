//! The order of tokens in the sequence.

use crate::config::{ModelConfig, Pooling, Size};

/// The pixels of one patch in the model's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchArea {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Rows and columns.
    pub size: Size,
}

/// The tokens of one image: prefix tokens (class, distillation, registers), then patches row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Number of tokens before the patches.
    pub prefix: usize,
    /// Rows and columns of patches.
    pub grid: Size,
    /// The model's input size, in pixels.
    pub image: Size,
    /// Pixels between neighboring patches.
    pub stride: Size,
}

impl Layout {
    /// The layout for an image of `image` pixels, split into `grid` patches.
    pub fn new(config: &ModelConfig, image: Size, grid: Size) -> Self {
        Layout { prefix: config.prefix_tokens(), grid, image, stride: config.token_stride() }
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.prefix + self.grid.area()
    }

    /// How much each token contributes to the output, `[tokens]`, summing to 1: only the class token, or both tokens
    /// with a distillation head, otherwise all patches equally (and the prefix, if it is pooled too).
    pub fn readers(&self, config: &ModelConfig) -> Vec<f32> {
        let mut readers = vec![0.0; self.tokens()];
        let (prefix, rest) = readers.split_at_mut(self.prefix);
        let share = 1.0 / rest.len() as f32;
        match config.pooling {
            Pooling::Class if config.distillation_head => prefix[..2].fill(0.5),
            Pooling::Class => prefix[0] = 1.0,
            Pooling::ClassAndMean => {
                prefix[0] = 0.5;
                rest.fill(0.5 * share);
            }
            Pooling::MeanAll => readers.fill(1.0 / self.tokens() as f32),
            Pooling::None if config.class_token => prefix[0] = 1.0,
            Pooling::Mean | Pooling::Max | Pooling::AverageMax | Pooling::Attention | Pooling::None => rest.fill(share),
        }
        readers
    }

    /// The index of the patch that contains a pixel (row, column) of the model's input.
    pub fn patch_at(&self, [row, column]: [usize; 2]) -> usize {
        let row = (row / self.stride.height).min(self.grid.height - 1);
        row * self.grid.width + (column / self.stride.width).min(self.grid.width - 1)
    }

    /// The pixels that belong to a patch: up to the next one, or to the edge of the image.
    ///
    /// # Panics
    /// If there is no such patch.
    pub fn area_of(&self, patch: usize) -> PatchArea {
        assert!(patch < self.grid.area(), "patch {patch} is not one of {}", self.grid.area());
        let (row, column) = (patch / self.grid.width, patch % self.grid.width);
        let (top, left) = (row * self.stride.height, column * self.stride.width);
        let side = |start: usize, stride: usize, whole: usize| stride.min(whole.saturating_sub(start)).max(1);
        let size = Size {
            height: side(top, self.stride.height, self.image.height),
            width: side(left, self.stride.width, self.image.width),
        };
        PatchArea { top, left, size }
    }

    /// Pixels between the centers of all pairs of patches, `[patches, patches]`.
    pub fn distances(&self) -> Vec<f32> {
        let at = |patch: usize| {
            let (row, column) = (patch / self.grid.width, patch % self.grid.width);
            ((row * self.stride.height) as f64, (column * self.stride.width) as f64)
        };
        let patches = self.grid.area();
        let mut distances = Vec::with_capacity(patches * patches);
        for from in 0..patches {
            let (y, x) = at(from);
            distances.extend((0..patches).map(|to| {
                let (v, u) = at(to);
                (y - v).hypot(x - u) as f32
            }));
        }
        distances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_sum_to_one_and_distances_are_in_pixels() {
        let layout = Layout {
            prefix: 2,
            grid: Size { height: 2, width: 3 },
            image: Size { height: 32, width: 24 },
            stride: Size { height: 16, width: 8 },
        };
        for pooling in [Pooling::Class, Pooling::Mean, Pooling::MeanAll, Pooling::ClassAndMean, Pooling::Attention] {
            let config = ModelConfig { pooling, ..ModelConfig::default() };
            let readers = layout.readers(&config);
            assert!((readers.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{pooling:?}");
        }
        let distances = layout.distances();
        assert_eq!((distances[1], distances[3]), (8.0, 16.0));
        assert!((distances[6 * 5] - (16f32 * 16.0 + 16.0 * 16.0).sqrt()).abs() < 1e-4);
        assert_eq!(layout.patch_at([31, 23]), 5);
        assert_eq!(layout.patch_at([16, 7]), 3);
        let size = Size { height: 16, width: 8 };
        assert_eq!(layout.area_of(5), PatchArea { top: 16, left: 16, size });
    }
}
