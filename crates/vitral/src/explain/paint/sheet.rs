//! A contact sheet of many images.

use crate::config::Size;
use crate::error::Error;
use crate::image::{Filter, RgbImage, resize};

/// Images in rows, each scaled to at most `cell` with its aspect ratio kept, on white with a `gap` between them.
///
/// # Errors
/// If the sheet is larger than an image can be.
pub fn sheet(rows: &[Vec<RgbImage>], cell: usize, gap: usize) -> Result<RgbImage, Error> {
    let mut fitted = Vec::with_capacity(rows.len());
    for row in rows {
        let fit = |image: &RgbImage| {
            let longest = image.height().max(image.width());
            let to = Size {
                height: (image.height() * cell).div_ceil(longest),
                width: (image.width() * cell).div_ceil(longest),
            };
            resize(image, to, if longest <= cell { Filter::Nearest } else { Filter::Lanczos })
        };
        fitted.push(row.iter().map(fit).collect::<Vec<_>>());
    }
    let columns = fitted.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let widths: Vec<usize> = (0..columns)
        .map(|column| fitted.iter().filter_map(|row| row.get(column)).map(RgbImage::width).max().unwrap_or(1))
        .collect();
    let heights: Vec<usize> = fitted.iter().map(|row| row.iter().map(RgbImage::height).max().unwrap_or(1)).collect();
    let along = |sides: &[usize]| sides.iter().sum::<usize>() + gap * sides.len().saturating_sub(1);
    let (width, height) = (along(&widths), along(&heights).max(1));
    let mut pixels = vec![255; width * height * 3];
    let mut top = 0;
    for (row, tall) in fitted.iter().zip(&heights) {
        let mut left = 0;
        for (image, wide) in row.iter().zip(&widths) {
            for (y, line) in image.pixels().chunks_exact(image.width() * 3).enumerate() {
                let start = ((top + y) * width + left) * 3;
                pixels[start..start + line.len()].copy_from_slice(line);
            }
            left += wide + gap;
        }
        top += tall + gap;
    }
    Ok(RgbImage::new(width, height, pixels)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_holds_rows_of_any_length() {
        let image = |width, height| RgbImage::new(width, height, vec![0; width * height * 3]).expect("an image");
        let found = sheet(&[vec![image(10, 10), image(20, 10)], vec![image(10, 20)]], 20, 2).expect("a sheet");
        assert_eq!((found.width(), found.height()), (42, 42));
        assert_eq!(found.pixel(0, 0), [0; 3]);
        assert_eq!(found.pixel(41, 41), [255; 3]);
    }
}
