//! Operations that map levels with one lookup table per channel.

use vitral::image::RgbImage;

type Table = [u8; 256];

/// Applies the same table to every channel.
pub(super) fn each(image: RgbImage, level: impl Fn(u8) -> u8) -> RgbImage {
    let table: Table = std::array::from_fn(|index| level(index as u8));
    through(image, &[table; 3])
}

/// Stretches every channel so that its darkest level is 0 and its brightest 255.
pub(super) fn auto_contrast(image: RgbImage) -> RgbImage {
    by_histogram(image, |histogram| {
        let low = histogram.iter().position(|&count| count > 0)?;
        let high = histogram.iter().rposition(|&count| count > 0)?;
        let scale = if high > low { 255.0 / (high - low) as f64 } else { return None };
        let offset = -(low as f64) * scale;
        Some(std::array::from_fn(|level| (level as f64 * scale + offset).clamp(0.0, 255.0) as u8))
    })
}

/// Equalizes the histogram of every channel.
pub(super) fn equalize(image: RgbImage) -> RgbImage {
    by_histogram(image, |histogram| {
        let last = histogram.iter().rev().copied().find(|&count| count > 0)?;
        if histogram.iter().filter(|&&count| count > 0).count() <= 1 {
            return None;
        }
        let step = (histogram.iter().sum::<usize>() - last) / 255;
        if step == 0 {
            return None;
        }
        let mut sum = step / 2;
        Some(std::array::from_fn(|level| {
            let new = (sum / step).min(255) as u8;
            sum += histogram[level];
            new
        }))
    })
}

/// Applies a table per channel, made from its histogram; without a table, the channel is unchanged.
fn by_histogram(image: RgbImage, table: impl Fn(&[usize; 256]) -> Option<Table>) -> RgbImage {
    let mut histograms = [[0; 256]; 3];
    for pixel in image.pixels().chunks_exact(3) {
        for (histogram, &level) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(level)] += 1;
        }
    }
    let same = || std::array::from_fn(|level| level as u8);
    through(image, &histograms.map(|histogram| table(&histogram).unwrap_or_else(same)))
}

fn through(image: RgbImage, tables: &[Table; 3]) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let mut pixels = image.into_pixels();
    for pixel in pixels.chunks_exact_mut(3) {
        for (level, table) in pixel.iter_mut().zip(tables) {
            *level = table[usize::from(*level)];
        }
    }
    RgbImage::new(width, height, pixels).expect("as many pixels as before")
}
