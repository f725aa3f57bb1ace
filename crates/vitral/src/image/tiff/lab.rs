//! CIE L*a*b* to sRGB, as Little CMS does it for Pillow: a table of 33 × 33 × 33 colors, and tetrahedra between them.
//!
//! The exact formula differs from it by up to 47 levels in saturated colors. Colors of the table are rounded to 32 bits
//! between the steps of their conversion, as there.

use std::sync::LazyLock;

/// Colors along each side of the table.
const SIDE: usize = 33;

/// The white point of ICC profiles (D50), and that of sRGB (D65) as chromaticities.
const D50: [f64; 3] = [0.9642, 1.0, 0.8249];
const D65: [f64; 2] = [0.3127, 0.3290];
/// The primaries of sRGB as chromaticities.
const PRIMARIES: [[f64; 2]; 3] = [[0.64, 0.33], [0.30, 0.60], [0.15, 0.06]];
/// Bradford's cone responses.
const BRADFORD: Matrix = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]];

/// The largest value of X, Y or Z in a profile.
const MOST_XYZ: f64 = 1.0 + 32767.0 / 32768.0;

type Matrix = [[f64; 3]; 3];

static TABLE: LazyLock<Vec<[u16; 3]>> = LazyLock::new(table);

/// Converts samples of 8 bits: lightness, and two signed color differences.
pub(super) fn to_rgb(samples: &[u8]) -> Vec<u8> {
    let table = &TABLE[..];
    let wide = |byte: u8| u32::from(byte) * 257;
    let color = |pixel: &[u8]| {
        let place = [wide(pixel[0]), wide(pixel[1] ^ 128), wide(pixel[2] ^ 128)];
        between(table, place).map(|value| ((u64::from(value) * 65281 + (1 << 23)) >> 24) as u8)
    };
    samples.chunks_exact(3).flat_map(color).collect()
}

/// A color of the table's range, by the four corners of the tetrahedron that it is in.
fn between(table: &[[u16; 3]], place: [u32; 3]) -> [u16; 3] {
    const STEPS: [usize; 3] = [SIDE * SIDE, SIDE, 1];
    // In 16-bit fixed point, where 65,535 is the last color of the table.
    let fixed = place.map(|value| {
        let scaled = value * (SIDE as u32 - 1);
        scaled + (scaled + 0x7FFF) / 0xFFFF
    });
    let mut at: usize = fixed.iter().zip(STEPS).map(|(&value, step)| (value >> 16) as usize * step).sum();
    let rest = fixed.map(|value| i64::from(value & 0xFFFF));
    // The way from the first corner to the last goes along the sides, in the order of what is left of each.
    let mut order = [0, 1, 2];
    order.sort_by_key(|&side| std::cmp::Reverse(rest[side]));
    let first = table[at].map(i64::from);
    let (mut previous, mut sum) = (first, [0x8001; 3]);
    for side in order {
        if place[side] < 0xFFFF {
            at += STEPS[side];
        }
        let corner = table[at].map(i64::from);
        for channel in 0..3 {
            sum[channel] += (corner[channel] - previous[channel]) * rest[side];
        }
        previous = corner;
    }
    [0, 1, 2].map(|channel| (first[channel] + ((sum[channel] + (sum[channel] >> 16)) >> 16)) as u16)
}

fn table() -> Vec<[u16; 3]> {
    let to_rgb = inverse(&rgb_to_xyz()).map(|row| row.map(|value| value * MOST_XYZ));
    let node = |index: usize| {
        let stored = ((index * 65535) as f64 / (SIDE - 1) as f64).round();
        f64::from(stored as f32 / 65535.0)
    };
    let nodes =
        (0..SIDE * SIDE * SIDE).map(|index| [index / (SIDE * SIDE), index / SIDE % SIDE, index % SIDE].map(node));
    nodes.map(|[lightness, a, b]| srgb(&to_rgb, [lightness * 100.0, a * 255.0 - 128.0, b * 255.0 - 128.0])).collect()
}

fn srgb(to_rgb: &Matrix, [lightness, a, b]: [f64; 3]) -> [u16; 3] {
    let rounded = |value: f64| f64::from(value as f32);
    let y = (lightness + 16.0) / 116.0;
    let linear = |value: f64| match value <= 24.0 / 116.0 {
        true => (108.0 / 841.0) * (value - 16.0 / 116.0),
        false => value * value * value,
    };
    let xyz = [linear(y + 0.002 * a) * D50[0], linear(y) * D50[1], linear(y - 0.005 * b) * D50[2]];
    times(to_rgb, xyz.map(|value| rounded(value / MOST_XYZ))).map(|light| {
        let light = rounded(light);
        let coded = match light >= ((0.04045 + 0.055) / 1.055f64).powf(2.4) {
            true => (light.powf(1.0 / 2.4) - 0.055 / 1.055) / (1.0 / 1.055),
            false => light / (1.0 / 12.92),
        };
        (rounded(coded) * 65535.0).round().clamp(0.0, 65535.0) as u16
    })
}

/// The colors of sRGB under the white point of ICC profiles.
fn rgb_to_xyz() -> Matrix {
    let xyz = |[x, y]: [f64; 2]| [x / y, 1.0, (1.0 - x - y) / y];
    let white = xyz(D65);
    let primaries = transposed(&PRIMARIES.map(|[x, y]| [x, y, 1.0 - x - y]));
    let amounts = times(&inverse(&primaries), white);
    let native = primaries.map(|row| [0, 1, 2].map(|column| row[column] * amounts[column]));
    let (before, after) = (times(&BRADFORD, white), times(&BRADFORD, D50));
    let scaled = [0, 1, 2].map(|row| BRADFORD[row].map(|value| value * after[row] / before[row]));
    product(&product(&inverse(&BRADFORD), &scaled), &native)
}

fn times(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2])
}

fn transposed(matrix: &Matrix) -> Matrix {
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| matrix[column][row]))
}

fn product(left: &Matrix, right: &Matrix) -> Matrix {
    transposed(&transposed(right).map(|column| times(left, column)))
}

fn inverse(matrix: &Matrix) -> Matrix {
    let minor = |row: usize, column: usize| {
        let at = |row: usize, column: usize| matrix[row % 3][column % 3];
        at(row + 1, column + 1) * at(row + 2, column + 2) - at(row + 1, column + 2) * at(row + 2, column + 1)
    };
    let determinant: f64 = (0..3).map(|column| matrix[0][column] * minor(0, column)).sum();
    [0, 1, 2].map(|row| [0, 1, 2].map(|column| minor(column, row) / determinant))
}
