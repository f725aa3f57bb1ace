//! Resampling a grid of embeddings: a separable linear map.

use crate::device::Device;
use crate::device::backend::AxisMatrix;
use crate::tape::Context;
use crate::tensor::Tensor;

/// Weights of one axis of a resampling.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisWeights(AxisMatrix);

/// Resamples a grid of values `[rows, columns, width]`, row by row, on the CPU.
///
/// # Panics
/// If the number of values differs.
pub fn resample(grid: &[f32], width: usize, rows: &AxisWeights, columns: &AxisWeights) -> Vec<f32> {
    let device = Device::cpu(1);
    let grid = device.constant([1, rows.0.from * columns.0.from, width], grid);
    let found = device.backend().resample(&grid, [&rows.0, &columns.0], false);
    found.to_vec().expect("the CPU computes at once and has no faults")
}

impl Context<'_> {
    /// Resamples a grid of embeddings `[rows · columns, width]`, or several `[grids, rows · columns, width]`, along
    /// both axes.
    ///
    /// # Panics
    /// If the grid is of another size than the weights take.
    pub fn resample_grid(&self, grid: &Tensor, rows: &AxisWeights, columns: &AxisWeights) -> Tensor {
        let (shape, [rows, columns]) = (grid.shape(), [&rows.0, &columns.0]);
        let width = shape.last();
        let grids = shape.count() / (rows.from * columns.from * width).max(1);
        assert_eq!(shape[shape.len() - 2], rows.from * columns.from, "a grid of {} × {}", rows.from, columns.from);
        let several = grid.reshape([grids, rows.from * columns.from, width]);
        let output = self.backend().resample(&several, [rows, columns], false);
        let output = if shape.len() == 2 { output.reshape([rows.to * columns.to, width]) } else { output };
        let (node, rows, columns) = (grid.node, rows.clone(), columns.clone());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    let grad = grad.reshape([grids, rows.to * columns.to, width]);
                    g.backend().resample(&grad, [&rows, &columns], true)
                });
            })
        })
    }
}

impl AxisWeights {
    /// Weights `[to, from]`.
    ///
    /// # Panics
    /// If their number differs.
    pub fn new(from: usize, to: usize, weights: Vec<f32>) -> Self {
        assert_eq!(weights.len(), to * from, "weights of {to} by {from}");
        AxisWeights(AxisMatrix { from, to, weights: weights.into() })
    }

    /// Input extent.
    pub fn from_extent(&self) -> usize {
        self.0.from
    }

    /// Output extent.
    pub fn to_extent(&self) -> usize {
        self.0.to
    }

    /// `[to, from]`: output `i` is the sum of `weights[i · from + j]` times input `j`.
    pub fn weights(&self) -> &[f32] {
        &self.0.weights
    }

    /// Bicubic with a = −0.75, pixel centers at half, edges repeated: PyTorch's `bicubic` without antialias.
    pub fn bicubic(from: usize, to: usize) -> Self {
        AxisWeights::bicubic_as_if(from, to, to as f64)
    }

    /// The same at the steps of a target of `length`, which need not be whole: PyTorch's `bicubic` with a scale factor of
    /// `length / from` instead of a size.
    pub fn bicubic_as_if(from: usize, to: usize, length: f64) -> Self {
        const A: f64 = -0.75;
        let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
        let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
        AxisWeights::build(from, to, |i, add| {
            let center = (i as f64 + 0.5) * from as f64 / length - 0.5;
            let t = center - center.floor();
            for (k, weight) in [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].into_iter().enumerate() {
                let j = (center.floor() as isize - 1 + k as isize).clamp(0, from as isize - 1);
                add(j as usize, weight);
            }
        })
    }

    /// Bicubic with a = −0.5 and a support that grows when shrinking: PyTorch's `bicubic` with antialias, and Pillow's.
    pub fn bicubic_antialias(from: usize, to: usize) -> Self {
        const A: f64 = -0.5;
        AxisWeights::antialiased(from, to, 2.0, |x: f64| {
            let x = x.abs();
            if x < 1.0 {
                ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * A
            } else {
                0.0
            }
        })
    }

    /// Linear with a support that grows when shrinking: PyTorch's `bilinear` with antialias, and Pillow's.
    pub fn linear_antialias(from: usize, to: usize) -> Self {
        AxisWeights::antialiased(from, to, 1.0, |x: f64| (1.0 - x.abs()).max(0.0))
    }

    /// A filter that is zero beyond `support`, stretched over as many inputs as an output stands for.
    fn antialiased(from: usize, to: usize, support: f64, filter: impl Fn(f64) -> f64) -> Self {
        AxisWeights::build(from, to, |i, add| {
            let scale = from as f64 / to as f64;
            let stretch = scale.max(1.0);
            let center = scale * (i as f64 + 0.5);
            let low = ((center - support * stretch + 0.5) as isize).max(0) as usize;
            let high = ((center + support * stretch + 0.5) as usize).min(from);
            let weights: Vec<f64> = (low..high).map(|j| filter((j as f64 - center + 0.5) / stretch)).collect();
            let total: f64 = weights.iter().sum();
            for (j, weight) in (low..high).zip(weights) {
                add(j, weight / total);
            }
        })
    }

    /// The weights of the first `to` outputs.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn first(&self, to: usize) -> Self {
        AxisWeights::new(self.0.from, to, self.0.weights[..to * self.0.from].to_vec())
    }

    /// Linear with the corners aligned: `scipy.ndimage.zoom(order=1)`, and PyTorch's `align_corners=True`.
    pub fn linear_aligned(from: usize, to: usize) -> Self {
        AxisWeights::build(from, to, |i, add| {
            let at = if to > 1 { i as f64 * (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
            let j = (at as usize).min(from - 1);
            add(j, 1.0 - (at - j as f64));
            add((j + 1).min(from - 1), at - j as f64);
        })
    }

    /// Linear, pixel centers at half, edges repeated: PyTorch's `bilinear` without antialias.
    pub fn linear(from: usize, to: usize) -> Self {
        AxisWeights::build(from, to, |i, add| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let j = (at as usize).min(from - 1);
            add(j, 1.0 - (at - j as f64));
            add((j + 1).min(from - 1), at - j as f64);
        })
    }

    /// Linear between distances that grow geometrically from the middle, so that the last of `from` falls where the
    /// last of `to` is: how BEiT brings a table of relative positions to another grid. Both extents are odd, `2n − 1`
    /// for `n` places.
    pub fn geometric(from: usize, to: usize) -> Self {
        let (reach, wanted) = (from / 2, (to / 2) as f64);
        let sum = |ratio: f64| (1.0 - ratio.powi(reach as i32)) / (1.0 - ratio);
        // By halving, to the same end as the original: a table that shrinks is cut at a ratio of 1.01.
        let (mut low, mut high) = (1.01, 1.5);
        let mut ratio = low;
        while high - low > 1e-6 {
            ratio = (low + high) / 2.0;
            if sum(ratio) > wanted { high = ratio } else { low = ratio }
        }
        let distance = |steps: usize| (0..steps).map(|step| ratio.powi(step as i32)).sum::<f64>();
        let place = |j: usize| if j < reach { -distance(reach - j) } else { distance(j - reach) };
        let places: Vec<f64> = (0..from).map(place).collect();
        AxisWeights::build(from, to, |i, add| {
            let at = i as f64 - wanted;
            let right = places.partition_point(|&place| place < at);
            if right == 0 || right == from {
                return add(right.min(from - 1), 1.0);
            }
            let (before, after) = (at - places[right - 1], places[right] - at);
            add(right - 1, after / (before + after));
            add(right, before / (before + after));
        })
    }

    fn build(from: usize, to: usize, row: impl Fn(usize, &mut dyn FnMut(usize, f64))) -> Self {
        assert!(from > 0 && to > 0, "resampling {from} to {to}");
        let mut weights = vec![0.0f64; to * from];
        for i in 0..to {
            row(i, &mut |j, weight| weights[i * from + j] += weight);
        }
        AxisWeights::new(from, to, weights.into_iter().map(|weight| weight as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equals_pytorch() {
        type Kernel = fn(usize, usize) -> AxisWeights;
        let kernels: [(&str, Kernel); 4] = [
            ("linear", AxisWeights::linear),
            ("bicubic", AxisWeights::bicubic),
            ("bicubic_antialias", AxisWeights::bicubic_antialias),
            ("linear_aligned", AxisWeights::linear_aligned),
        ];
        for (name, kernel) in kernels {
            for (height, width) in [(8, 9), (4, 4), (14, 3)] {
                let golden = Golden::load(&format!("resample_{name}_{height}x{width}")).reshaped(&[
                    ("x", &[35, 6]),
                    ("grad_x", &[35, 6]),
                    ("y", &[height * width, 6]),
                    ("grad_y", &[height * width, 6]),
                ]);
                let check = Check::new();
                check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| {
                    cx.resample_grid(&x[0], &kernel(5, height), &kernel(7, width))
                });
            }
        }
    }

    /// By `torch.nn.functional.interpolate` of PyTorch 2.15 with `scale_factor=(to + 0.1) / 5` and `mode="bicubic"`.
    #[test]
    fn a_scale_factor_is_not_a_size() {
        let x = [0.5, -1.0, 2.0, 0.25, 3.0];
        let expected: [&[f32]; 2] = [
            &[
                0.640_770_14,
                -0.359_630_17,
                -0.940_854_3,
                1.144_212_5,
                1.763_964_3,
                0.249_957_32,
                1.503_277_8,
                3.202_538_5,
            ],
            &[-0.075_374_246, 1.887_438_8, 1.571_913_5],
        ];
        for expected in expected {
            let to = expected.len();
            let axis = AxisWeights::bicubic_as_if(5, to, to as f64 + 0.1);
            for (weights, expected) in axis.weights().chunks(5).zip(expected) {
                let found: f32 = weights.iter().zip(x).map(|(weight, x)| weight * x).sum();
                assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        }
    }

    #[test]
    fn distances_that_grow_geometrically_equal_timm() {
        for (rows, columns) in [(9, 13), (3, 11), (13, 3)] {
            let golden = Golden::load(&format!("resample_geometric_{rows}x{columns}"))
                .reshaped(&[("x", &[35, 6]), ("y", &[rows * columns, 6])]);
            let found = Check::new().run(&[golden.tensor("x")], |cx, x| {
                cx.resample_grid(&x[0], &AxisWeights::geometric(5, rows), &AxisWeights::geometric(7, columns))
            });
            golden.compare("y", &found);
        }
    }

    #[test]
    fn the_same_size_is_the_identity() {
        let kernels =
            [AxisWeights::linear, AxisWeights::bicubic, AxisWeights::bicubic_antialias, AxisWeights::linear_aligned];
        for kernel in kernels {
            let axis = kernel(5, 5);
            for (i, row) in axis.weights().chunks(5).enumerate() {
                for (j, &weight) in row.iter().enumerate() {
                    assert_eq!(weight, if i == j { 1.0 } else { 0.0 });
                }
            }
        }
    }
}
