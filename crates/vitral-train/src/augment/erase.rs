//! Random erasing (arXiv:1708.04896), with timm's modes.

use serde::{Deserialize, Serialize};
use vitral::config::Size;

use crate::draws::Draws;

/// Erases rectangles of a normalized image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Erasing {
    /// Probability of erasing anything in an image.
    pub probability: f64,
    /// Fill of the rectangles.
    pub filling: Filling,
    /// Minimum and maximum fraction of the image's area.
    pub area: [f64; 2],
    /// Minimum and maximum height divided by width.
    pub aspect: [f64; 2],
    /// Maximum number of rectangles per image; they share the area.
    pub most: usize,
}

impl Default for Erasing {
    fn default() -> Self {
        let (filling, area, aspect) = (Filling::Const, [0.02, 1.0 / 3.0], [0.3, 1.0 / 0.3]);
        Erasing { probability: 0.25, filling, area, aspect, most: 1 }
    }
}

/// Fill of an erased rectangle, by timm's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filling {
    /// Zero, which is the mean.
    Const,
    /// One normally distributed value per channel.
    Rand,
    /// A normally distributed value for every pixel and channel.
    Pixel,
}

impl Erasing {
    pub(super) fn of(&self, numbers: &mut [f32], channels: usize, size: Size, draws: &mut Draws) {
        if !draws.happens(self.probability) {
            return;
        }
        let count = 1 + draws.below(self.most);
        for _ in 0..count {
            for _ in 0..10 {
                let target = draws.between(self.area[0], self.area[1]) * size.area() as f64 / count as f64;
                let aspect = draws.between(self.aspect[0].ln(), self.aspect[1].ln()).exp();
                let height = (target * aspect).sqrt().round_ties_even() as usize;
                let width = (target / aspect).sqrt().round_ties_even() as usize;
                if height < size.height && width < size.width {
                    let (top, left) = (draws.below(size.height - height + 1), draws.below(size.width - width + 1));
                    for channel in 0..channels {
                        let color = if self.filling == Filling::Rand { draws.normal() as f32 } else { 0.0 };
                        for row in top..top + height {
                            let start = (channel * size.height + row) * size.width + left;
                            numbers[start..start + width].fill_with(|| match self.filling {
                                Filling::Pixel => draws.normal() as f32,
                                _ => color,
                            });
                        }
                    }
                    break;
                }
            }
        }
    }
}
