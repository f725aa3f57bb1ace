//! Random crops.

use serde::{Deserialize, Serialize};
use vitral::config::Size;
use vitral::image::Filter;
use vitral::image::preprocess::Target;
use vitral::image::resize::Window;

use super::raster::Raster;
use crate::draws::Draws;

/// A random crop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Crop {
    /// A crop of random size and aspect ratio, resized (Inception's crop).
    RandomResized(RandomResized),
    /// The image at the model's size, shifted by up to `pixels`.
    Padded(Padding),
}

/// A crop of random size and aspect ratio, as in torchvision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomResized {
    /// Minimum and maximum fraction of the image's area.
    pub scale: [f64; 2],
    /// Minimum and maximum width divided by height.
    pub ratio: [f64; 2],
    /// Filter for resizing.
    pub filter: Filter,
}

impl Default for RandomResized {
    fn default() -> Self {
        RandomResized { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], filter: Filter::Bicubic }
    }
}

/// A crop of a padded image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Padding {
    /// Pixels of padding on every side.
    pub pixels: usize,
    /// Whether the padding mirrors the image, as in DeiT III, or is black.
    pub reflect: bool,
    /// Filter for first resizing images of other sizes until they cover the model's size.
    pub filter: Filter,
}

impl Default for Padding {
    fn default() -> Self {
        Padding { pixels: 4, reflect: false, filter: Filter::Bicubic }
    }
}

impl Crop {
    pub(super) fn of<R: Raster>(&self, image: &R, size: Size, draws: &mut Draws) -> R {
        match self {
            Crop::RandomResized(crop) => {
                let window = crop.window(image.size(), &mut || draws.unit());
                image.cut(window).resized(size, crop.filter)
            }
            Crop::Padded(padding) => padding.of(image, size, draws),
        }
    }
}

impl RandomResized {
    /// The region to crop: up to ten attempts with area, aspect ratio and position from the uniform numbers of `unit`,
    /// then the largest center crop within the aspect ratios.
    pub fn window(&self, of: Size, unit: &mut dyn FnMut() -> f64) -> Window {
        let area = of.area() as f64;
        let [low, high] = self.ratio;
        for _ in 0..10 {
            let target = area * (self.scale[0] + (self.scale[1] - self.scale[0]) * unit());
            let ratio = (low.ln() + (high.ln() - low.ln()) * unit()).exp();
            let width = (target * ratio).sqrt().round_ties_even() as usize;
            let height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=of.width).contains(&width) && (1..=of.height).contains(&height) {
                let mut place = |spare: usize| ((unit() * (spare + 1) as f64) as usize).min(spare);
                let (top, left) = (place(of.height - height), place(of.width - width));
                return Window { top, left, size: Size { height, width } };
            }
        }
        let ratio = of.width as f64 / of.height as f64;
        let rounded = |side: f64| (side.round_ties_even() as usize).max(1);
        let size = match ratio {
            _ if ratio < low => Size { height: rounded(of.width as f64 / low).min(of.height), ..of },
            _ if ratio > high => Size { width: rounded(of.height as f64 * high).min(of.width), ..of },
            _ => of,
        };
        Window { top: (of.height - size.height) / 2, left: (of.width - size.width) / 2, size }
    }
}

impl Padding {
    fn of<R: Raster>(&self, image: &R, size: Size, draws: &mut Draws) -> R {
        let cover = Target::Cover(size).of(image.size());
        // A very long image is cropped before it is resized: its ends would need much memory and rarely be visible.
        let resized = match image.size() == size {
            true => image.clone(),
            false if cover.area() > 64 * size.area() => middle(image, size).resized(size, self.filter),
            false => image.resized(cover, self.filter),
        };
        let place = |draws: &mut Draws, side: usize, wanted: usize| {
            draws.below(side + 2 * self.pixels - wanted + 1) as isize - self.pixels as isize
        };
        let top = place(draws, resized.size().height, size.height);
        let left = place(draws, resized.size().width, size.width);
        let inside = |first: isize, wanted: usize, side: usize| -> Vec<Option<usize>> {
            (first..first + wanted as isize).map(|at| self.inside(at, side)).collect()
        };
        let rows = inside(top, size.height, resized.size().height);
        resized.gathered(&rows, &inside(left, size.width, resized.size().width))
    }

    /// The position in the image of a padded coordinate.
    fn inside(&self, at: isize, side: usize) -> Option<usize> {
        let last = side as isize - 1;
        match at {
            _ if (0..=last).contains(&at) => Some(at as usize),
            _ if !self.reflect => None,
            _ if last == 0 => Some(0),
            _ => {
                let turn = at.rem_euclid(2 * last);
                Some(turn.min(2 * last - turn) as usize)
            }
        }
    }
}

/// The largest center crop with the aspect ratio of `size`.
fn middle<R: Raster>(image: &R, size: Size) -> R {
    let of = image.size();
    let scale = (of.height as f64 / size.height as f64).min(of.width as f64 / size.width as f64);
    let side = |wanted: usize, most: usize| ((wanted as f64 * scale).round() as usize).clamp(1, most);
    let part = Size { height: side(size.height, of.height), width: side(size.width, of.width) };
    image.cut(Window { top: (of.height - part.height) / 2, left: (of.width - part.width) / 2, size: part })
}
