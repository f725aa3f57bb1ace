//! Pillow's `ImageEnhance`: an image blended with a degraded version of itself.

use vitral::image::RgbImage;

/// Away from gray (factor above 1) or towards it.
pub(super) fn color(image: &RgbImage, factor: f64) -> RgbImage {
    let gray = image.to_gray();
    blend(image, factor, |at, _| gray[at])
}

/// Away from the mean brightness (factor above 1) or towards it.
pub(super) fn contrast(image: &RgbImage, factor: f64) -> RgbImage {
    let gray = image.to_gray();
    let sum: u64 = gray.iter().map(|&level| u64::from(level)).sum();
    let mean = (sum as f64 / gray.len() as f64 + 0.5) as u8;
    blend(image, factor, |_, _| mean)
}

/// Away from black (factor above 1) or towards it.
pub(super) fn brightness(image: &RgbImage, factor: f64) -> RgbImage {
    blend(image, factor, |_, _| 0)
}

/// Away from a smoothed image (factor above 1) or towards it.
pub(super) fn sharpness(image: &RgbImage, factor: f64) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let pixels = image.pixels();
    let (side, middle) = (1.0f32 / 13.0, 5.0f32 / 13.0);
    blend(image, factor, |at, channel| {
        let (row, column) = (at / width, at % width);
        if row == 0 || column == 0 || row + 1 == height || column + 1 == width {
            return pixels[at * 3 + channel];
        }
        let line = |row: usize, kernel: [f32; 3]| {
            let start = (row * width + column - 1) * 3 + channel;
            let [a, b, c] = [0, 3, 6].map(|step| f32::from(pixels[start + step]));
            a * kernel[0] + b * kernel[1] + c * kernel[2]
        };
        // Pillow adds the rows from bottom to top, and one half for rounding first.
        let sum = 0.5 + line(row + 1, [side; 3]) + line(row, [side, middle, side]) + line(row - 1, [side; 3]);
        sum.clamp(0.0, 255.0) as u8
    })
}

/// `lesser + factor · (image − lesser)` in 32 bits, truncated towards zero.
pub(super) fn blend(image: &RgbImage, factor: f64, lesser: impl Fn(usize, usize) -> u8) -> RgbImage {
    let factor = factor as f32;
    if factor == 1.0 {
        return image.clone();
    }
    let blended = image.pixels().iter().enumerate().map(|(index, &level)| {
        let base = f32::from(lesser(index / 3, index % 3));
        (base + factor * (f32::from(level) - base)).clamp(0.0, 255.0) as u8
    });
    RgbImage::new(image.width(), image.height(), blended.collect()).expect("as many pixels as before")
}
