//! Resampling a grid of embeddings: a separable linear map.

use crate::tape::Context;
use crate::tensor::Tensor;

/// Weights of one axis of a resampling: output `i` is the sum of `weights[i · from + j]` times input `j`.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisWeights {
    /// Input extent.
    pub from: usize,
    /// Output extent.
    pub to: usize,
    /// `[to, from]`.
    pub weights: Vec<f32>,
}

/// `out[i, x] = Σ_j weights[i, j] · input[j, x]` for rows of `inner` numbers.
fn along(axis: &AxisWeights, outer: usize, inner: usize, input: &[f32], out: &mut [f32], transposed: bool) {
    let (from, to) = if transposed { (axis.to, axis.from) } else { (axis.from, axis.to) };
    out.fill(0.0);
    for block in 0..outer {
        let input = &input[block * from * inner..][..from * inner];
        let out = &mut out[block * to * inner..][..to * inner];
        for i in 0..to {
            for j in 0..from {
                let weight = axis.weights[if transposed { j * axis.from + i } else { i * axis.from + j }];
                if weight != 0.0 {
                    for (out, x) in out[i * inner..][..inner].iter_mut().zip(&input[j * inner..][..inner]) {
                        *out += weight * x;
                    }
                }
            }
        }
    }
}

/// Resamples `[rows, columns, width]`; values are row by row.
pub fn resample(grid: &[f32], width: usize, rows: &AxisWeights, columns: &AxisWeights) -> Vec<f32> {
    let mut half = vec![0.0; rows.to * columns.from * width];
    along(rows, 1, columns.from * width, grid, &mut half, false);
    let mut out = vec![0.0; rows.to * columns.to * width];
    along(columns, rows.to, width, &half, &mut out, false);
    out
}

impl Context<'_> {
    /// Resamples a grid of embeddings `[rows · columns, width]` along both axes.
    pub fn resample_grid(&self, grid: &Tensor, rows: &AxisWeights, columns: &AxisWeights) -> Tensor {
        let width = grid.shape().last();
        assert_eq!(grid.shape()[..], [rows.from * columns.from, width], "a grid of {} × {}", rows.from, columns.from);
        let output = Tensor::filled(self.device, [rows.to * columns.to, width], |out| {
            out.copy_from_slice(&resample(grid.values(), width, rows, columns));
        });
        let (node, rows, columns) = (grid.node, rows.clone(), columns.clone());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    let mut half = vec![0.0; rows.to * columns.from * width];
                    along(&columns, rows.to, width, grad.values(), &mut half, true);
                    Tensor::filled(g.device, [rows.from * columns.from, width], |out| {
                        along(&rows, 1, columns.from * width, &half, out, true);
                    })
                });
            })
        })
    }
}

impl AxisWeights {
    /// Bicubic with a = −0.75, pixel centres at half, edges repeated: PyTorch's `bicubic` without antialias.
    pub fn bicubic(from: usize, to: usize) -> Self {
        const A: f64 = -0.75;
        let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
        let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
        AxisWeights::build(from, to, |i, add| {
            let centre = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let t = centre - centre.floor();
            for (k, weight) in [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].into_iter().enumerate() {
                let j = (centre.floor() as isize - 1 + k as isize).clamp(0, from as isize - 1);
                add(j as usize, weight);
            }
        })
    }

    /// Bicubic with a = −0.5 and a support that grows when shrinking: PyTorch's `bicubic` with antialias, and Pillow's.
    pub fn bicubic_antialias(from: usize, to: usize) -> Self {
        const A: f64 = -0.5;
        let filter = |x: f64| {
            let x = x.abs();
            if x < 1.0 {
                ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
            } else if x < 2.0 {
                (((x - 5.0) * x + 8.0) * x - 4.0) * A
            } else {
                0.0
            }
        };
        AxisWeights::build(from, to, |i, add| {
            let scale = from as f64 / to as f64;
            let stretch = scale.max(1.0);
            let centre = scale * (i as f64 + 0.5);
            let low = ((centre - 2.0 * stretch + 0.5) as isize).max(0) as usize;
            let high = ((centre + 2.0 * stretch + 0.5) as usize).min(from);
            let weights: Vec<f64> = (low..high).map(|j| filter((j as f64 - centre + 0.5) / stretch)).collect();
            let total: f64 = weights.iter().sum();
            for (j, weight) in (low..high).zip(weights) {
                add(j, weight / total);
            }
        })
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

    /// Linear, pixel centres at half, edges repeated: PyTorch's `bilinear` without antialias.
    pub fn linear(from: usize, to: usize) -> Self {
        AxisWeights::build(from, to, |i, add| {
            let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
            let j = (at as usize).min(from - 1);
            add(j, 1.0 - (at - j as f64));
            add((j + 1).min(from - 1), at - j as f64);
        })
    }

    /// Linear between distances that grow geometrically from the middle, so that the last of `from` comes to stand where the
    /// last of `to` is: how BEiT brings a table of relative positions to another grid. Both extents are odd, `2n − 1` for `n`
    /// places.
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
        AxisWeights { from, to, weights: weights.into_iter().map(|weight| weight as f32).collect() }
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
            for (i, row) in axis.weights.chunks(5).enumerate() {
                for (j, &weight) in row.iter().enumerate() {
                    assert_eq!(weight, if i == j { 1.0 } else { 0.0 });
                }
            }
        }
    }
}
