//! Class activation maps over tokens: the activations of a layer at each patch, weighted by their effect on the target.
//! The grid is known, so nothing has to be configured.
//!
//! All take `values` and `gradient` `[patches, width]` of one image, without prefix tokens, and return one value per
//! patch.

use super::algebra;

/// The kind of class activation map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cam {
    /// Grad-CAM (arXiv:1610.02391): channels weighted by their mean gradient, then the positive part.
    GradCam,
    /// Grad-CAM++ (arXiv:1710.11063): positive gradients, weighted so that small regions count as much as large ones.
    GradCamPlusPlus,
    /// XGrad-CAM (arXiv:2008.02312): gradients weighted by the fraction of the activation at each patch.
    XGradCam,
    /// HiResCAM (arXiv:2011.08891): activation times gradient at each patch, then the positive part.
    HiResCam,
    /// LayerCAM (IEEE TIP 2021): activation times the positive gradient at each patch.
    LayerCam,
}

impl Cam {
    /// The map.
    pub fn map(self, values: &[f32], gradient: &[f32], width: usize) -> Vec<f32> {
        let factor: Vec<f64> = match self {
            Cam::GradCam => channels(values, gradient, width, |sums| sums.gradient / sums.count),
            Cam::XGradCam => channels(values, gradient, width, |sums| sums.product / (sums.value + 1e-7)),
            Cam::GradCamPlusPlus => return plus_plus(values, gradient, width),
            Cam::HiResCam | Cam::LayerCam => vec![],
        };
        let patch = |(values, gradient): (&[f32], &[f32])| -> f32 {
            let pairs = values.iter().zip(gradient).map(|(a, g)| (f64::from(*a), f64::from(*g)));
            let sum: f64 = match self {
                Cam::HiResCam => pairs.map(|(a, g)| a * g).sum(),
                Cam::LayerCam => pairs.map(|(a, g)| a * g.max(0.0)).sum(),
                _ => pairs.zip(&factor).map(|((a, _), factor)| a * factor).sum(),
            };
            sum.max(0.0) as f32
        };
        values.chunks_exact(width).zip(gradient.chunks_exact(width)).map(patch).collect()
    }
}

/// Sums of one channel over patches.
#[derive(Clone, Copy, Default)]
struct Sums {
    value: f64,
    gradient: f64,
    product: f64,
    count: f64,
}

fn channels(values: &[f32], gradient: &[f32], width: usize, weight: impl Fn(&Sums) -> f64) -> Vec<f64> {
    let mut sums = vec![Sums::default(); width];
    for (values, gradient) in values.chunks_exact(width).zip(gradient.chunks_exact(width)) {
        for ((sums, value), gradient) in sums.iter_mut().zip(values).zip(gradient) {
            let (value, gradient) = (f64::from(*value), f64::from(*gradient));
            sums.value += value;
            sums.gradient += gradient;
            sums.product += value * gradient;
            sums.count += 1.0;
        }
    }
    sums.iter().map(weight).collect()
}

/// `α = g² / (2 g² + Σ a · g³)`, and channels weighted by `Σ α · g⁺`.
fn plus_plus(values: &[f32], gradient: &[f32], width: usize) -> Vec<f32> {
    let totals = channels(values, gradient, width, |sums| sums.value);
    let mut weights = vec![0.0f64; width];
    for gradient in gradient.chunks_exact(width) {
        for ((weight, total), gradient) in weights.iter_mut().zip(&totals).zip(gradient) {
            let gradient = f64::from(*gradient);
            let below = 2.0 * gradient.powi(2) + total * gradient.powi(3) + 1e-6;
            if gradient != 0.0 {
                *weight += gradient.powi(2) / below * gradient.max(0.0);
            }
        }
    }
    let patch =
        |values: &[f32]| values.iter().zip(&weights).map(|(a, w)| f64::from(*a) * w).sum::<f64>().max(0.0) as f32;
    values.chunks_exact(width).map(patch).collect()
}

/// Eigen-CAM (arXiv:2008.00299): the first principal component of the activations, without gradients. Its sign is such
/// that most of the spread is positive.
pub fn eigen(values: &[f32], width: usize) -> Vec<f32> {
    let found = algebra::principal(values, width, 1);
    let scores = found.project(values);
    let cubes: f64 = scores.iter().map(|x| f64::from(*x).powi(3)).sum();
    scores.iter().map(|x| if cubes < 0.0 { -x } else { *x }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f32; 6] = [1.0, 2.0, -1.0, 0.5, 3.0, 1.0];
    const GRADIENT: [f32; 6] = [0.3, -0.6, 0.6, 0.3, 0.0, -0.3];

    fn near(found: &[f32], expected: [f32; 3]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn maps_match_those_computed_by_hand() {
        // Mean gradients 0.3 and −0.2.
        near(&Cam::GradCam.map(&VALUES, &GRADIENT, 2), [0.0, 0.0, 0.7]);
        near(&Cam::HiResCam.map(&VALUES, &GRADIENT, 2), [0.0, 0.0, 0.0]);
        near(&Cam::LayerCam.map(&VALUES, &GRADIENT, 2), [0.3, 0.0, 0.0]);
        // (0.3 − 0.6) / 3 = −0.1 and (−1.2 + 0.15 − 0.3) / 3.5.
        near(&Cam::XGradCam.map(&VALUES, &GRADIENT, 2), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_first_component_separates_what_differs_most() {
        let found = eigen(&[1.0, 0.0, 1.1, 0.1, 9.0, 0.0], 2);
        assert!(found[2] > 0.0 && found[0] < 0.0 && found[1] < 0.0, "{found:?}");
    }
}
