//! One color map for everything: perceptually uniform, from near black through violet, red and orange to pale yellow,
//! so that it also works in grayscale. Computed here: a path through OKLab (Ottosson 2020) of increasing lightness,
//! sampled in equal steps.

use std::sync::OnceLock;

/// Number of colors in the map.
pub const COLORS: usize = 256;

/// The color of a value from 0 to 1.
pub fn color(value: f32) -> [u8; 3] {
    static TABLE: OnceLock<Vec<[u8; 3]>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let bytes = |lab: [f64; 3]| srgb(lab).map(|x| (255.0 * x.clamp(0.0, 1.0)).round() as u8);
        even_steps(COLORS).into_iter().map(bytes).collect()
    });
    // NaN is painted like the minimum.
    table[((value.clamp(0.0, 1.0) * (COLORS - 1) as f32).round() as usize).min(COLORS - 1)]
}

/// The path from 0 to 1: lightness, and two chroma axes.
fn path(at: f64) -> [f64; 3] {
    let lightness = 0.15 + 0.81 * at;
    let hue = (282.0 + 185.0 * at.powf(0.9)).to_radians();
    let chroma = 0.055 + 0.16 * (std::f64::consts::PI * at.powf(0.85)).sin();
    let lab = |chroma: f64| [lightness, chroma * hue.cos(), chroma * hue.sin()];
    let on_screen = |chroma: f64| srgb(lab(chroma)).iter().all(|x| (0.0..=1.0).contains(x));
    // Only colors inside the sRGB gamut; gray always is.
    let (mut inside, mut outside) = (0.0, chroma);
    for _ in 0..40 {
        let middle = (inside + outside) / 2.0;
        if on_screen(middle) { inside = middle } else { outside = middle }
    }
    let chroma = inside;
    lab(chroma)
}

/// `count` equidistant points of the path.
fn even_steps(count: usize) -> Vec<[f64; 3]> {
    const FINE: usize = 4096;
    let points: Vec<[f64; 3]> = (0..=FINE).map(|i| path(i as f64 / FINE as f64)).collect();
    let mut along = vec![0.0];
    for pair in points.windows(2) {
        along.push(along[along.len() - 1] + distance(pair[0], pair[1]));
    }
    let whole = along[FINE];
    let at = |i: usize| {
        let wanted = whole * i as f64 / (count - 1) as f64;
        points[along.partition_point(|&x| x < wanted).min(FINE)]
    };
    (0..count).map(at).collect()
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// OKLab to sRGB from 0 to 1; outside that range for colors outside the gamut.
fn srgb([l, a, b]: [f64; 3]) -> [f64; 3] {
    let cube = |x: f64| x * x * x;
    let long = cube(l + 0.396_337_777_4 * a + 0.215_803_757_3 * b);
    let medium = cube(l - 0.105_561_345_8 * a - 0.063_854_172_8 * b);
    let short = cube(l - 0.089_484_177_5 * a - 1.291_485_548_0 * b);
    let linear = [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ];
    linear.map(|x| if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_even_and_grow_brighter() {
        let steps = even_steps(COLORS);
        let sizes: Vec<f64> = steps.windows(2).map(|pair| distance(pair[0], pair[1])).collect();
        let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
        assert!(sizes.iter().all(|size| (0.8 * mean..1.2 * mean).contains(size)), "{sizes:?}");
        assert!(steps.windows(2).all(|pair| pair[0][0] < pair[1][0]));
        let luma = |value: f32| color(value).iter().zip([0.2, 0.7, 0.1]).map(|(x, y)| f32::from(*x) * y).sum::<f32>();
        assert!(luma(0.0) < 30.0 && luma(1.0) > 225.0, "{:?} {:?}", color(0.0), color(1.0));
        assert_eq!(color(f32::NAN), color(0.0));
    }
}
