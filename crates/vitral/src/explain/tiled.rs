//! Maps over large images, joined from overlapping windows.

use std::convert::Infallible;
use std::ops::ControlFlow;

use super::{InputImage, Layout, Map, Method, Options, Progress, Target, progress};
use crate::config::{Problem, Size};
use crate::error::Error;
use crate::image::resize::Window;
use crate::image::{AsImage, Filter, ImageView, RgbImage, resize};
use crate::load::Model;
use crate::tiles::{Join, Tiling};

/// A large image as it is shown under its maps: resized to at most `longest` pixels along a side, with a part of a patch more where
/// the last patches extend beyond the image. Of an image of bands, those are shown
/// whose numbers, from 0, are given.
///
/// # Errors
/// If the image does not have such bands.
pub fn shown(
    image: &impl AsImage,
    tiling: &Tiling,
    longest: usize,
    bands: Option<[usize; 3]>,
) -> Result<RgbImage, Error> {
    let of_bands;
    let whole = match image.view() {
        ImageView::Rgb(image) => image,
        ImageView::Bands(image) => {
            of_bands = bands.map_or_else(|| Ok(image.to_rgb()), |bands| image.shown(bands))?;
            &of_bands
        }
    };
    let (size, cell, grid) = (whole.size(), tiling.cell(), tiling.grid());
    let scale = (longest as f64 / size.height.max(size.width) as f64).min(1.0);
    let scaled = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    let small = resize(whole, Size { height: scaled(size.height), width: scaled(size.width) }, Filter::Bicubic);
    // The last patches may extend beyond the image, and with them the map.
    let covered = Size { height: scaled(grid.height * cell.height), width: scaled(grid.width * cell.width) };
    Ok(small.view().part(Window::whole(covered)).into_rgb())
}

impl Model {
    /// The map of a large image, one value for each patch of the tiling's grid, joined from the maps of its windows. Maps over
    /// pixels are averaged over patches. If the method explains a target, each window's map is as it is drawn
    /// ([`Method::painted`]) and counts as much as the window's score in `scores`: the values of a class activation map alone
    /// do not say whether there is anything of the class in a window. Numbers of a regression do not count.
    ///
    /// # Errors
    /// As [`Model::explain`], and if `progress`, which gets the number of windows done, stops the work.
    ///
    /// # Panics
    /// If there are not as many scores as windows, or the method is about one patch.
    pub fn explain_tiled(
        &self,
        image: &impl AsImage,
        tiling: &Tiling,
        method: Method,
        target: Option<(&Target, &[f32])>,
        options: &Options,
        progress: Progress<'_>,
    ) -> Result<Map, Error> {
        assert!(!method.needs_patch(), "a map of one patch is not one of all windows");
        let preprocess = self.window_preprocess(tiling)?;
        let layout = Layout::new(self.vit.config(), tiling.input(), tiling.patches());
        let mut join = Join::new(tiling, 1);
        let mut values = Vec::with_capacity(tiling.grid().area());
        for tile in tiling.tiles() {
            let part = image.view().part(tiling.pixels(tile));
            let input = InputImage::of_window(self, &preprocess, &part, layout)?;
            let within = &mut |_| ControlFlow::Continue(());
            let map = self.explain(&input, method, target.map(|(target, _)| target), options, within)?;
            let mut map = method.painted(&map).pooled(tiling.patches());
            if let Some((_, scores)) =
                target.filter(|_| method.needs_target() && self.vit.config().problem != Problem::Regression)
            {
                map.values.iter_mut().for_each(|value| *value *= scores[tile.index]);
            }
            let Ok(()) = join.add(tile, &map.values, |_, row| {
                values.extend_from_slice(row);
                Ok::<(), Infallible>(())
            });
            progress::report(progress, 1)?;
        }
        Ok(Map::new(tiling.grid(), values))
    }
}
