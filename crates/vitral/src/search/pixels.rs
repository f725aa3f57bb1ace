//! Whether two files show the same image: encoded again, resized, mirrored, or a part of it.
//!
//! Features answer another question. Two photographs of the same kind of car are as near to each other as a photograph and
//! a part of it. So an index also keeps each image in gray with 32 pixels a side, stretched to a square, and images are
//! compared by the correlation of their brightness: over 8 × 8 cells, which some misalignment does not hurt, to find
//! candidates, then over 16 × 16 cells, at the place that fits best, to decide.

use crate::image::RgbImage;

/// The side of a small image.
pub(super) const SIDE: usize = 32;
/// Its bytes.
pub(super) const SMALL: usize = SIDE * SIDE;
/// Cells a side to find candidates.
pub(super) const COARSE: usize = 8;
/// Cells a side to decide.
const FINE: usize = 16;
/// A mean deviation of cells from their mean, in levels of gray, below which an image is flat: what is left is noise.
const FLAT: f64 = 1.5;
/// The narrowest part of an image that is looked for, of a side.
const NARROWEST: f64 = 0.6;

/// A gray image of 32 × 32 pixels: the mean brightness of each cell of a grid over the whole image.
pub(super) fn small(image: &RgbImage) -> [u8; SMALL] {
    let (width, gray) = (image.width(), image.to_gray());
    let columns = Shares::of(width);
    let rows = Shares::of(image.height());
    let mut sums = vec![0.0f32; SMALL];
    for (row, gray) in gray.chunks_exact(width).enumerate() {
        let mut across = [0.0f32; SIDE];
        for (column, &value) in gray.iter().enumerate() {
            columns.each(column, |cell, share| across[cell] += share * f32::from(value));
        }
        rows.each(row, |cell, share| {
            sums[cell * SIDE..][..SIDE].iter_mut().zip(&across).for_each(|(sum, value)| *sum += share * value);
        });
    }
    let mut small = [0; SMALL];
    small.iter_mut().zip(sums).for_each(|(byte, sum)| *byte = sum.round() as u8);
    small
}

/// How the pixels of a side are shared by cells; the shares of each cell add up to 1.
struct Shares {
    /// Cells for each pixel.
    scale: f32,
}

impl Shares {
    fn of(side: usize) -> Self {
        Shares { scale: SIDE as f32 / side as f32 }
    }

    /// Calls `each` with the cells that a pixel lies in, and its share of them.
    fn each(&self, pixel: usize, mut each: impl FnMut(usize, f32)) {
        let (from, to) = (pixel as f32 * self.scale, (pixel + 1) as f32 * self.scale);
        for cell in from as usize..SIDE {
            let share = to.min((cell + 1) as f32) - from.max(cell as f32);
            if share <= 0.0 {
                break;
            }
            each(cell, share);
        }
    }
}

/// A part of an image, in parts of its sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Window {
    /// The whole image.
    pub(super) const WHOLE: Window = Window { left: 0.0, right: 1.0, top: 0.0, bottom: 1.0 };

    /// The part of the image's area.
    pub(super) fn area(self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// Parts that are compared with whole images: near one of them is every part of at least two thirds of a side.
    pub(super) fn starts() -> Vec<Window> {
        let mut all = vec![Window::WHOLE];
        for side in [0.9, 0.8] {
            for place in 0..9 {
                let (left, top) =
                    ((1.0 - side) * f64::from(place % 3) / 2.0, (1.0 - side) * f64::from(place / 3) / 2.0);
                all.push(Window { left, right: left + side, top, bottom: top + side });
            }
        }
        all
    }

    /// This part with its edges moved, if it is still one.
    fn moved(self, by: [f64; 4]) -> Option<Window> {
        let Window { left, right, top, bottom } = self;
        let moved = Window { left: left + by[0], right: right + by[1], top: top + by[2], bottom: bottom + by[3] };
        let inside = moved.left >= 0.0 && moved.right <= 1.0 && moved.top >= 0.0 && moved.bottom <= 1.0;
        let wide = moved.right - moved.left >= NARROWEST && moved.bottom - moved.top >= NARROWEST;
        (inside && wide).then_some(moved)
    }
}

/// A small image, as sums over all pixels above and to the left: the mean of any rectangle takes four of them.
pub(super) struct Sums(Vec<f64>);

impl Sums {
    pub(super) fn of(small: &[u8]) -> Self {
        let mut sums = vec![0.0; (SIDE + 1) * (SIDE + 1)];
        for row in 0..SIDE {
            let mut across = 0.0;
            for column in 0..SIDE {
                across += f64::from(small[row * SIDE + column]);
                let above = sums[row * (SIDE + 1) + column + 1];
                sums[(row + 1) * (SIDE + 1) + column + 1] = above + across;
            }
        }
        Sums(sums)
    }

    /// The sum above and to the left of a point between pixels.
    fn at(&self, x: f64, y: f64) -> f64 {
        let (x, y) = (x.clamp(0.0, SIDE as f64), y.clamp(0.0, SIDE as f64));
        let (column, row) = ((x as usize).min(SIDE - 1), (y as usize).min(SIDE - 1));
        let (right, down) = (x - column as f64, y - row as f64);
        let of = |row: usize, column: usize| self.0[row * (SIDE + 1) + column];
        let mix = |a: f64, b: f64, share: f64| a + share * (b - a);
        let (above, below) = (
            mix(of(row, column), of(row, column + 1), right),
            mix(of(row + 1, column), of(row + 1, column + 1), right),
        );
        mix(above, below, down)
    }

    /// The brightness of a part in `cells` × `cells` cells, less its mean, scaled to length 1; zero if it is flat.
    fn cells(&self, part: Window, cells: usize) -> Vec<f64> {
        let edge = |from: f64, to: f64, at: usize| SIDE as f64 * (from + (to - from) * at as f64 / cells as f64);
        let points: Vec<f64> = (0..=cells)
            .flat_map(|row| {
                let y = edge(part.top, part.bottom, row);
                (0..=cells).map(move |column| (edge(part.left, part.right, column), y))
            })
            .map(|(x, y)| self.at(x, y))
            .collect();
        let of = |row: usize, column: usize| points[row * (cells + 1) + column];
        let area = part.area() * (SIDE * SIDE) as f64 / (cells * cells) as f64;
        let mut values: Vec<f64> = (0..cells * cells)
            .map(|cell| {
                let (row, column) = (cell / cells, cell % cells);
                (of(row + 1, column + 1) - of(row + 1, column) - of(row, column + 1) + of(row, column)) / area
            })
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter_mut().for_each(|value| *value -= mean);
        let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let flat = length < FLAT * cells as f64;
        values.iter_mut().for_each(|value| *value = if flat { 0.0 } else { *value / length });
        values
    }

    /// A part in coarse cells.
    pub(super) fn coarse(&self, part: Window) -> impl Iterator<Item = f32> {
        self.cells(part, COARSE).into_iter().map(|value| value as f32)
    }

    /// The whole image in fine cells.
    pub(super) fn fine(&self) -> Vec<f64> {
        self.cells(Window::WHOLE, FINE)
    }

    /// The part of this image near `start` that correlates most with a whole image in fine cells, and its correlation.
    pub(super) fn best_part(&self, whole: &[f64], start: Window) -> (f64, Window) {
        let correlation =
            |part: Window| self.cells(part, FINE).iter().zip(whole).map(|(a, b)| a * b).sum::<f64>().clamp(-1.0, 1.0);
        // Sideways, up and down, wider, higher, larger.
        const MOVES: [[f64; 4]; 5] = [
            [1.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 1.0],
            [1.0, -1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, -1.0],
            [1.0, -1.0, 1.0, -1.0],
        ];
        let (mut best, mut part) = (correlation(start), start);
        let mut step = 0.06;
        while step > 0.007 {
            let before = best;
            for by in MOVES.iter().flat_map(|by| [by.map(|x| x * step), by.map(|x| -x * step)]) {
                let Some(moved) = part.moved(by) else { continue };
                let found = correlation(moved);
                if found > best + 1e-6 {
                    (best, part) = (found, moved);
                }
            }
            if best <= before {
                step /= 2.0;
            }
        }
        (best, part)
    }
}

/// A small image, mirrored.
pub(super) fn mirrored(small: &[u8]) -> Vec<u8> {
    small.chunks_exact(SIDE).flat_map(|row| row.iter().rev().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, height: usize, pixel: impl Fn(f64, f64) -> f64) -> RgbImage {
        let gray: Vec<u8> = (0..width * height)
            .map(|at| {
                pixel((at % width) as f64 / width as f64, (at / width) as f64 / height as f64).clamp(0.0, 255.0) as u8
            })
            .collect();
        RgbImage::from_gray(width, height, &gray).expect("an image")
    }

    fn scene(x: f64, y: f64) -> f64 {
        120.0 + 50.0 * (7.0 * x + 2.0 * y * y).sin() + 40.0 * (9.0 * y - 4.0 * x).cos() + 30.0 * (x * y * 20.0).sin()
    }

    #[test]
    fn a_small_image_keeps_the_mean_of_each_cell() {
        for (width, height) in [(1, 1), (31, 33), (32, 32), (100, 57), (640, 480)] {
            let even = small(&image(width, height, |_, _| 77.0));
            assert_eq!(even, [77; SMALL], "{width} × {height}");
        }
        let left = small(&image(64, 64, |x, _| if x < 0.5 { 200.0 } else { 0.0 }));
        assert_eq!((left[0], left[15], left[16], left[31]), (200, 200, 0, 0));
        assert_eq!(mirrored(&left)[0], 0);
    }

    #[test]
    fn a_part_of_an_image_is_found_in_it() {
        let whole = Sums::of(&small(&image(300, 200, scene)));
        for (left, top, side) in [(0.0, 0.0, 0.85), (0.1, 0.05, 0.8), (0.2, 0.17, 0.75)] {
            let part = Sums::of(&small(&image(240, 160, |x, y| scene(left + side * x, top + side * y)))).fine();
            let tried = Window::starts().into_iter().map(|start| whole.best_part(&part, start));
            let (found, window) = tried.max_by(|a, b| a.0.total_cmp(&b.0)).expect("some");
            assert!(found > 0.99, "{found} {window:?}");
            assert!((window.left - left).abs() < 0.03 && (window.bottom - top - side).abs() < 0.03, "{window:?}");
        }
        // Another image is not.
        let other = Sums::of(&small(&image(240, 160, |x, y| scene(y, 1.0 - x * x)))).fine();
        assert!(Window::starts().into_iter().all(|start| whole.best_part(&other, start).0 < 0.9));
        // Flat images have nothing to compare.
        let flat = Sums::of(&[9; SMALL]).fine();
        assert!(flat.iter().all(|value| *value == 0.0));
    }
}
