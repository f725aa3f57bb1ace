//! Pillow's affine transform, with its exact arithmetic.

use vitral::image::{Filter, RgbImage};

/// An image transformed by `[a, b, c, d, e, f]`: the pixel at `(x, y)` comes from `(a·x + b·y + c, d·x + e·y + f)`,
/// with pixel centers at halves. Pixels from outside the image become `fill`. All filters except nearest and bilinear
/// are treated as bicubic, with a = −1, which Pillow uses only here.
pub(super) fn transform(image: &RgbImage, matrix: [f64; 6], filter: Filter, fill: [u8; 3]) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let [a, b, c, d, e, f] = matrix;
    let mut out = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        for column in 0..width {
            let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
            let (x, y) = (a * x + b * y + c, d * x + e * y + f);
            let inside = x >= 0.0 && x < width as f64 && y >= 0.0 && y < height as f64;
            out.extend(match filter {
                _ if !inside => fill,
                Filter::Nearest => image.pixel(y as usize, x as usize),
                Filter::Bilinear => bilinear(image, x - 0.5, y - 0.5),
                _ => bicubic(image, x - 0.5, y - 0.5),
            });
        }
    }
    RgbImage::new(width, height, out).expect("as many pixels as before")
}

/// Rotates counter-clockwise about the center, by degrees.
pub(super) fn rotate(image: &RgbImage, degrees: f64, filter: Filter, fill: [u8; 3]) -> RgbImage {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return image.clone();
    }
    let angle = -degrees.to_radians();
    let rounded = |value: f64| (value * 1e15).round() / 1e15;
    let (cos, sin) = (rounded(angle.cos()), rounded(angle.sin()));
    let (x, y) = (image.width() as f64 / 2.0, image.height() as f64 / 2.0);
    let negative = rounded(-angle.sin());
    let matrix = [cos, sin, cos * -x + sin * -y + x, negative, cos, negative * -x + cos * -y + y];
    transform(image, matrix, filter, fill)
}

fn bilinear(image: &RgbImage, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let columns = [left as isize, left as isize + 1];
    let line = |row: isize, channel: usize| {
        let [a, b] = columns.map(|column| value(image, row, column, channel));
        a + (b - a) * dx
    };
    std::array::from_fn(|channel| {
        let above = line(top as isize, channel);
        let below = if inside(top as isize + 1, image) { line(top as isize + 1, channel) } else { above };
        (above + (below - above) * dy) as u8
    })
}

fn bicubic(image: &RgbImage, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let line = |row: isize, channel: usize| {
        let taps = std::array::from_fn(|tap| value(image, row, left as isize - 1 + tap as isize, channel));
        cubic(taps, dx)
    };
    std::array::from_fn(|channel| {
        let first = top as isize - 1;
        let mut lines = [line(first, channel); 4];
        for tap in 1..4 {
            let row = first + tap as isize;
            lines[tap] = if inside(row, image) { line(row, channel) } else { lines[tap - 1] };
        }
        cubic(lines, dy).clamp(0.0, 255.0) as u8
    })
}

fn cubic([v1, v2, v3, v4]: [f64; 4], d: f64) -> f64 {
    let (p2, p3, p4) = (-v1 + v3, 2.0 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4);
    v2 + d * (p2 + d * (p3 + d * p4))
}

fn inside(row: isize, image: &RgbImage) -> bool {
    row >= 0 && row < image.height() as isize
}

/// A pixel value, with coordinates clamped to the image.
fn value(image: &RgbImage, row: isize, column: isize, channel: usize) -> f64 {
    let row = row.clamp(0, image.height() as isize - 1) as usize;
    let column = column.clamp(0, image.width() as isize - 1) as usize;
    f64::from(image.pixels()[(row * image.width() + column) * 3 + channel])
}
