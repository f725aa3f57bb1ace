//! A white image to put other images, text and bars of colors on. The letters are bitmaps of Noto Sans Mono.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::color;
use crate::error::Error;
use crate::image::RgbImage;

const HEIGHT: RasterHeight = RasterHeight::Size16;
/// The width of every letter, in pixels.
pub(super) const LETTER: usize = get_raster_width(FontWeight::Regular, HEIGHT);
/// The height of a line of text, in pixels.
pub(super) const LINE: usize = HEIGHT.val() + 2;
/// The height of a bar of colors, in pixels.
const BAR: usize = 10;

/// The weight of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A white image to draw on.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        Canvas { width, height, pixels: vec![255; width * height * 3] }
    }

    /// Puts an image here; what would be outside is left out.
    pub(super) fn place(&mut self, image: &RgbImage, top: usize, left: usize) {
        let wide = image.width().min(self.width.saturating_sub(left));
        for (y, line) in image.pixels().chunks_exact(image.width() * 3).enumerate().take_while(|_| wide > 0) {
            if top + y >= self.height {
                break;
            }
            let start = ((top + y) * self.width + left) * 3;
            self.pixels[start..start + wide * 3].copy_from_slice(&line[..wide * 3]);
        }
    }

    /// Fills a rectangle.
    pub(super) fn fill(&mut self, [top, left]: [usize; 2], [height, width]: [usize; 2], with: [u8; 3]) {
        for y in top..(top + height).min(self.height) {
            for x in left..(left + width).min(self.width) {
                self.pixels[(y * self.width + x) * 3..][..3].copy_from_slice(&with);
            }
        }
    }

    /// Writes one line of black text. Letters that the font does not have become question marks.
    pub(super) fn text(&mut self, text: &str, top: usize, left: usize, weight: Weight) {
        let weight = match weight {
            Weight::Regular => FontWeight::Regular,
            Weight::Bold => FontWeight::Bold,
        };
        for (place, letter) in text.chars().enumerate() {
            let found = get_raster(letter, weight, HEIGHT).or_else(|| get_raster('?', weight, HEIGHT));
            let Some(letter) = found else { continue };
            for (y, line) in letter.rows().enumerate() {
                for (x, ink) in line.iter().enumerate() {
                    let (row, column) = (top + y, left + place * LETTER + x);
                    if row < self.height && column < self.width {
                        self.pixels[(row * self.width + column) * 3..][..3].fill(255 - ink);
                    }
                }
            }
        }
    }

    /// A bar with all colors of the map from left to right, as high as a line of text with its margin.
    pub(super) fn bar(&mut self, top: usize, left: usize, width: usize) {
        for x in 0..width {
            let color = color(x as f32 / width.saturating_sub(1).max(1) as f32);
            self.fill([top + (LINE - BAR) / 2, left + x], [BAR, 1], color);
        }
    }

    pub(super) fn into_image(self) -> Result<RgbImage, Error> {
        Ok(RgbImage::new(self.width, self.height, self.pixels)?)
    }
}

/// The width of a text, in pixels.
pub(super) fn width_of(text: &str) -> usize {
    text.chars().count() * LETTER
}

/// A text in lines of at most `letters`, broken after spaces, dashes and slashes where there are any; after `most` lines
/// it is cut.
pub(super) fn wrapped(text: &str, letters: usize, most: usize) -> Vec<String> {
    let letters = letters.max(4);
    let mut lines = vec![];
    for part in text.split('\n') {
        let mut rest: Vec<char> = part.trim_end().chars().collect();
        while rest.len() > letters {
            let breaks = |end: &usize| matches!(rest[end - 1], ' ' | '-' | '/' | '_') || rest[*end] == ' ';
            // A break that leaves most of a line empty is worse than one inside a word.
            let end = (letters / 3..=letters).rev().filter(|end| *end > 0).find(breaks);
            let after = rest.split_off(end.unwrap_or(letters));
            lines.push(rest.iter().collect::<String>().trim_end().to_owned());
            rest = after.into_iter().skip_while(|letter| *letter == ' ').collect();
        }
        lines.push(rest.into_iter().collect());
    }
    if lines.len() > most {
        lines.truncate(most);
        let last = &mut lines[most - 1];
        let kept: String = last.chars().take(letters.saturating_sub(3)).collect();
        *last = kept + "...";
    }
    lines
}

/// A number with three digits, for labels.
pub(super) fn short(value: f32) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_drawn_and_never_outside() {
        let mut canvas = Canvas::new(40, 20);
        canvas.text("Wé", 1, 2, Weight::Bold);
        // Not in the font, and beyond both edges.
        canvas.text("漢字 and much more", 12, 20, Weight::Regular);
        canvas.bar(15, 30, 100);
        canvas.place(&RgbImage::new(5, 5, vec![7; 75]).expect("an image"), 18, 38);
        let image = canvas.into_image().expect("an image");
        let dark = |columns: std::ops::Range<usize>| {
            columns.flat_map(|x| (0..20).map(move |y| (y, x))).filter(|&(y, x)| image.pixel(y, x)[0] < 128).count()
        };
        assert!(dark(2..2 + LETTER) > 10 && dark(2 + LETTER..2 + 2 * LETTER) > 10);
        assert_eq!(dark(0..2), 0);
        assert_eq!(image.pixel(19, 39), [7; 3]);
    }

    #[test]
    fn long_labels_are_broken_where_words_end() {
        assert_eq!(wrapped("integrated-gradients", 14, 3), ["integrated-", "gradients"]);
        assert_eq!(wrapped("short", 14, 3), ["short"]);
        assert_eq!(wrapped("abcdefghijklmnopqrstuvwxyz", 10, 2), ["abcdefghij", "klmnopq..."]);
        assert_eq!(wrapped("one two three", 7, 3), ["one two", "three"]);
        assert_eq!(wrapped("two\nlines", 7, 3), ["two", "lines"]);
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 1.0, 0.12345, -0.5, 23.456, 1234.5, 0.000_012_3, 1e9, 0.001].map(short);
        assert_eq!(found, ["0", "1", "0.123", "-0.5", "23.5", "1234", "1.2e-5", "1.0e9", "0.001"]);
        assert_eq!(short(f32::NAN), "NaN");
    }
}
