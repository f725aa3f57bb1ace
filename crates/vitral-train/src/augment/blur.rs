//! Pillow's Gaussian blur: three box blurs with a fractional radius, in fixed point.

use vitral::image::RgbImage;

/// Gaussian blur with this standard deviation, in pixels.
pub(super) fn gaussian(image: RgbImage, deviation: f64) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let radius = box_radius(deviation as f32);
    if radius <= 0.0 {
        return image;
    }
    let mut pixels = image.into_pixels();
    for _ in 0..3 {
        pixels = boxed(&pixels, height, width, [width * 3, 3], radius);
    }
    for _ in 0..3 {
        pixels = boxed(&pixels, width, height, [3, width * 3], radius);
    }
    RgbImage::new(width, height, pixels).expect("as many pixels as before")
}

/// The radius of the boxes (Gwosdek and others, SSVM 2011).
fn box_radius(deviation: f32) -> f32 {
    let variance = f64::from(deviation * deviation / 3.0);
    let length = (12.0 * variance + 1.0).sqrt();
    let whole = ((length - 1.0) / 2.0).floor();
    let part = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
        / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
    (whole + part) as f32
}

/// One box blur along lines of `length` pixels; `strides` are between lines and along a line.
fn boxed(pixels: &[u8], lines: usize, length: usize, strides: [usize; 2], radius: f32) -> Vec<u8> {
    let whole = radius as isize;
    let weight = ((1u32 << 24) as f32 / (radius * 2.0 + 1.0)) as u32;
    let edge = ((1u32 << 24) - (whole as u32 * 2 + 1) * weight) / 2;
    let mut out = vec![0; pixels.len()];
    for line in 0..lines {
        for channel in 0..3 {
            let at = |index: isize| {
                let index = index.clamp(0, length as isize - 1) as usize;
                line * strides[0] + index * strides[1] + channel
            };
            let level = |index: isize| u32::from(pixels[at(index)]);
            let mut sum: u32 = (-whole..=whole).map(level).sum();
            for index in 0..length as isize {
                let edges = level(index - whole - 1) + level(index + whole + 1);
                out[at(index)] = ((sum * weight + edges * edge + (1 << 23)) >> 24) as u8;
                sum = sum + level(index + whole + 1) - level(index - whole);
            }
        }
    }
    out
}
