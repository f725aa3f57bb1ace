//! Rotary positions, relative positions, and resampled grids.

use std::sync::Arc;

use super::kernels::{Kernel, Lanes};
use super::parameter::plain;
use super::{Cpu, values};
use crate::device::backend::{AxisMatrix, GridPlaces, Positions, RotationTable};
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// One head of one token: `(a, b)` becomes `(a cos − b sin, b cos + a sin)`.
struct Turn<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    cosines: &'a [f32],
    sines: &'a [f32],
    sign: f32,
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Turn { x, out, cosines, sines, sign } = self;
        let (first, second) = x.split_at(cosines.len());
        let (out_first, out_second) = out.split_at_mut(cosines.len());
        for i in 0..cosines.len() {
            let sine = sign * sines[i];
            out_first[i] = first[i] * cosines[i] - second[i] * sine;
            out_second[i] = second[i] * cosines[i] + first[i] * sine;
        }
    }
}

/// Cosines and sines of frequencies times every place of an axis, `[places, heads · pairs]`, of both axes.
struct AxisTurns {
    axes: [[Vec<f32>; 2]; 2],
    width: usize,
}

impl AxisTurns {
    fn new(frequencies: &[f32], places: GridPlaces) -> Self {
        let width = frequencies.len() / 2;
        let extents = if places.rows_first { places.grid } else { [places.grid[1], places.grid[0]] };
        let axes = std::array::from_fn(|axis| {
            let frequencies = &frequencies[axis * width..][..width];
            let angles = (0..extents[axis]).flat_map(|place| frequencies.iter().map(move |f| f * place as f32));
            let (sines, cosines) = angles.map(f32::sin_cos).unzip::<_, _, Vec<_>, Vec<_>>();
            [cosines, sines]
        });
        AxisTurns { axes, width }
    }

    /// Cosines and sines of the sums of both axes' angles.
    fn at(&self, place: [usize; 2], cosines: &mut [f32], sines: &mut [f32]) {
        let row = |axis: usize, part: usize| &self.axes[axis][part][place[axis] * self.width..][..self.width];
        let ([cos_a, sin_a], [cos_b, sin_b]) = ([row(0, 0), row(0, 1)], [row(1, 0), row(1, 1)]);
        for i in 0..self.width {
            cosines[i] = cos_a[i] * cos_b[i] - sin_a[i] * sin_b[i];
            sines[i] = sin_a[i] * cos_b[i] + cos_a[i] * sin_b[i];
        }
    }
}

impl Positions for Cpu {
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let (width, sample) = (packed / 3, tokens * packed);
        let (head, sign) = (2 * rotation.pairs, if back { -1.0 } else { 1.0 });
        let source = values(qkv);
        self.tensor(qkv.shape(), |out| {
            self.processor.parallel_chunks(out, sample, |i, out| {
                let x = &source[i * sample..][..sample];
                out.copy_from_slice(x);
                for token in 0..rotation.tokens() {
                    let row = (rotation.prefix + token) * packed;
                    let at = token * rotation.pairs..(token + 1) * rotation.pairs;
                    let (cosines, sines) = (&rotation.cosines[at.clone()], &rotation.sines[at]);
                    // Queries and keys are side by side, with heads inside: the same rotation applies to all.
                    let heads = out[row..row + 2 * width].chunks_exact_mut(head);
                    for (x, out) in x[row..row + 2 * width].chunks_exact(head).zip(heads) {
                        self.processor.isa().run(Turn { x, out, cosines, sines, sign });
                    }
                }
            });
        })
    }

    fn rotate_by(&self, qkv: &Tensor, frequencies: ParameterView<'_>, places: GridPlaces, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let (width, sample, head) = (packed / 3, tokens * packed, 2 * places.pairs);
        let turns = AxisTurns::new(plain(frequencies), places);
        let sign = if back { -1.0 } else { 1.0 };
        let source = values(qkv);
        self.tensor(qkv.shape(), |out| {
            self.processor.parallel_chunks(out, sample, |i, out| {
                let x = &source[i * sample..][..sample];
                out.copy_from_slice(x);
                let (mut cosines, mut sines) = (vec![0.0; width / 2], vec![0.0; width / 2]);
                for token in 0..tokens - places.prefix {
                    turns.at(places.of(token), &mut cosines, &mut sines);
                    let row = (places.prefix + token) * packed;
                    // Queries and keys turn alike, each head by its own angles.
                    for start in [row, row + width] {
                        let heads = out[start..start + width].chunks_exact_mut(head);
                        let angles = cosines.chunks_exact(places.pairs).zip(sines.chunks_exact(places.pairs));
                        for ((x, out), (cosines, sines)) in
                            x[start..start + width].chunks_exact(head).zip(heads).zip(angles)
                        {
                            self.processor.isa().run(Turn { x, out, cosines, sines, sign });
                        }
                    }
                }
            });
        })
    }

    fn rotate_by_backward(&self, turned: &Tensor, grad: &Tensor, places: GridPlaces) -> Tensor {
        let [_, tokens, packed] = turned.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let (width, pairs) = (packed / 3, places.pairs);
        let mut angles = vec![0.0f32; width / 2];
        self.tensor([1, width], |out| {
            out.fill(0.0);
            let (first, second) = out.split_at_mut(width / 2);
            let rows = values(turned).chunks_exact(packed).zip(values(grad).chunks_exact(packed));
            for (i, (turned, grad)) in rows.enumerate().filter(|(i, _)| i % tokens >= places.prefix) {
                angles.fill(0.0);
                for start in [0, width] {
                    let heads = turned[start..start + width].chunks_exact(2 * pairs);
                    let heads = heads.zip(grad[start..start + width].chunks_exact(2 * pairs));
                    for (angles, (turned, grad)) in angles.chunks_exact_mut(pairs).zip(heads) {
                        let ((a, b), (grad_a, grad_b)) = (turned.split_at(pairs), grad.split_at(pairs));
                        for j in 0..pairs {
                            angles[j] += a[j] * grad_b[j] - b[j] * grad_a[j];
                        }
                    }
                }
                let place = places.of(i % tokens - places.prefix).map(|place| place as f32);
                for (axis, place) in [&mut *first, &mut *second].into_iter().zip(place) {
                    axis.iter_mut().zip(&angles).for_each(|(sum, angle)| *sum += place * angle);
                }
            }
        })
    }

    fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterView<'_>, value: ParameterView<'_>) -> Tensor {
        let (biases, packed) = ([query, value].map(plain), qkv.shape().last());
        let width = packed / 3;
        self.tensor(qkv.shape(), |out| {
            out.copy_from_slice(values(qkv));
            for row in out.chunks_exact_mut(packed) {
                for (start, bias) in [0, 2 * width].into_iter().zip(biases) {
                    row[start..start + width].iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        })
    }

    fn relation_bias(&self, table: &Tensor, tokens: usize, indices: &Arc<[u32]>) -> Tensor {
        let heads = table.shape().last();
        self.tensor([heads, tokens, tokens], |out| {
            self.processor.parallel_chunks(out, tokens * tokens, |head, out| {
                // A head's own entries side by side: they stay in cache while they are looked up.
                let own: Vec<f32> = values(table).iter().skip(head).step_by(heads).copied().collect();
                for (out, &index) in out.iter_mut().zip(&**indices) {
                    *out = own[index as usize];
                }
            });
        })
    }

    fn relation_bias_backward(&self, grad: &Tensor, entries: usize, indices: &Arc<[u32]>) -> Tensor {
        let [heads, tokens, _] = grad.shape()[..] else { panic!("biases are [heads, tokens, tokens]") };
        let mut own = vec![0.0; entries * heads];
        self.processor.parallel_chunks(&mut own, entries, |head, sums| {
            for (grad, &index) in values(grad)[head * tokens * tokens..].iter().zip(&**indices) {
                sums[index as usize] += grad;
            }
        });
        self.tensor([entries, heads], |out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = own[i % heads * entries + i / heads];
            }
        })
    }

    fn resample(&self, grid: &Tensor, axes: [&AxisMatrix; 2], transposed: bool) -> Tensor {
        let [grids, _, width] = grid.shape()[..] else { panic!("grids are [grids, rows · columns, width]") };
        let [rows, columns] = axes;
        let ends = |axis: &AxisMatrix| if transposed { (axis.to, axis.from) } else { (axis.from, axis.to) };
        let ((rows_in, rows_out), (columns_in, columns_out)) = (ends(rows), ends(columns));
        let (input, output) = (rows_in * columns_in * width, rows_out * columns_out * width);
        let mut half = vec![0.0; if transposed { rows_in * columns_out } else { rows_out * columns_in } * width];
        self.tensor([grids, rows_out * columns_out, width], |out| {
            for (i, out) in out.chunks_exact_mut(output).enumerate() {
                let grid = &values(grid)[i * input..][..input];
                // Backward goes through the axes in the other order.
                if transposed {
                    along(columns, rows_in, width, grid, &mut half, true);
                    along(rows, 1, columns_out * width, &half, out, true);
                } else {
                    along(rows, 1, columns_in * width, grid, &mut half, false);
                    along(columns, rows_out, width, &half, out, false);
                }
            }
        })
    }
}

/// `out[i, x] = Σ_j weights[i, j] · input[j, x]` for rows of `inner` values.
fn along(axis: &AxisMatrix, outer: usize, inner: usize, input: &[f32], out: &mut [f32], transposed: bool) {
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
