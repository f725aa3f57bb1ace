//! Predicted masks, as files and beside the truth.

use std::io::Cursor;

use vitral::config::Size;
use vitral::image::{Filter, RgbImage, resize};

/// The color of the class at a place in the list: Pascal VOC's palette, in which every number has a color of its own.
pub(super) fn color(class: usize) -> [u8; 3] {
    let mut color = [0u8; 3];
    for bit in 0..8 {
        for (channel, value) in color.iter_mut().enumerate() {
            *value |= ((class >> (3 * bit + channel) & 1) << (7 - bit)) as u8;
        }
    }
    color
}

/// The number of a class for each pixel, as a gray PNG: of 8 bits, or of 16 if a number needs them.
pub(super) fn mask(size: Size, values: &[u16]) -> Result<Vec<u8>, image::ImageError> {
    let mut png = Cursor::new(Vec::new());
    let (width, height) = (size.width as u32, size.height as u32);
    let small: Option<Vec<u8>> = values.iter().map(|&value| u8::try_from(value).ok()).collect();
    match small {
        Some(values) => image::GrayImage::from_raw(width, height, values)
            .expect("a value for each pixel")
            .write_to(&mut png, image::ImageFormat::Png)?,
        None => image::ImageBuffer::<image::Luma<u16>, _>::from_raw(width, height, values.to_vec())
            .expect("a value for each pixel")
            .write_to(&mut png, image::ImageFormat::Png)?,
    }
    Ok(png.into_inner())
}

/// A row of a sheet: the image, the truth and the prediction over it, at the same height.
pub(super) struct Row {
    tiles: [RgbImage; 3],
}

/// The height of a row.
const HEIGHT: usize = 192;

impl Row {
    /// `truth` and `predicted` have the place of a class in the list for each pixel; `None` is ignored.
    pub(super) fn new(image: &RgbImage, truth: &[Option<usize>], predicted: &[usize]) -> Self {
        let size = Size { height: HEIGHT, width: (image.width() * HEIGHT / image.height()).max(1) };
        let over = |class: &dyn Fn(usize) -> Option<usize>| {
            let mixed = image.pixels().chunks_exact(3).enumerate().flat_map(|(at, own)| {
                let color = class(at).map(color);
                let mix = move |channel: usize| match color {
                    Some(color) => ((u16::from(own[channel]) + 2 * u16::from(color[channel])) / 3) as u8,
                    None => 255,
                };
                [mix(0), mix(1), mix(2)]
            });
            RgbImage::new(image.width(), image.height(), mixed.collect()).expect("as many pixels")
        };
        let tiles = [image.clone(), over(&|at| truth[at]), over(&|at| Some(predicted[at]))];
        Row { tiles: tiles.map(|tile| resize(&tile, size, Filter::Bilinear)) }
    }
}

/// A PNG of all rows.
pub(super) fn sheet(rows: &[Row]) -> Result<Vec<u8>, image::ImageError> {
    const GAP: usize = 6;
    let wide = |row: &Row| row.tiles.iter().map(RgbImage::width).sum::<usize>() + 2 * GAP;
    let width = rows.iter().map(wide).max().unwrap_or(1);
    let height = (rows.len() * (HEIGHT + GAP)).saturating_sub(GAP).max(1);
    let mut canvas = vec![255u8; width * height * 3];
    for (index, row) in rows.iter().enumerate() {
        let mut left = 0;
        for tile in &row.tiles {
            for (line, pixels) in tile.pixels().chunks_exact(3 * tile.width()).enumerate() {
                let at = 3 * ((index * (HEIGHT + GAP) + line) * width + left);
                canvas[at..at + pixels.len()].copy_from_slice(pixels);
            }
            left += tile.width() + GAP;
        }
    }
    let mut png = Cursor::new(Vec::new());
    let canvas = image::RgbImage::from_raw(width as u32, height as u32, canvas).expect("as many pixels");
    canvas.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palette_is_pascal_voc_s() {
        assert_eq!([0, 1, 2, 15, 20].map(color), [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128]]);
    }
}
