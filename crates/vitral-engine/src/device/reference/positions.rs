//! Rotary positions, relative positions, and resampled grids.

use std::sync::Arc;

use super::{Parameter, Reference, stored};
use crate::device::backend::{AxisMatrix, GridPlaces, Positions, RotationTable};
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

impl Positions for Reference {
    /// `x · cos + rotate_half(x) · sin`, cosines and sines repeated over both halves of a head.
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let rotation = rotation.clone();
        self.compute(qkv.shape(), [stored(qkv)], move |[x], out| {
            let (pairs, sign) = (rotation.pairs, if back { -1.0 } else { 1.0 });
            for (i, out) in out.iter_mut().enumerate() {
                let (token, channel) = (i / packed % tokens, i % packed);
                if token < rotation.prefix || channel >= packed / 3 * 2 {
                    *out = x[i];
                    continue;
                }
                let (place, pair) = (channel % (2 * pairs), channel % pairs);
                let at = (token - rotation.prefix) * pairs + pair;
                let half = if place < pairs { -x[i + pairs] } else { x[i - pairs] };
                *out = x[i] * f64::from(rotation.cosines[at]) + sign * half * f64::from(rotation.sines[at]);
            }
        })
    }

    fn rotate_by(&self, qkv: &Tensor, frequencies: ParameterView<'_>, places: GridPlaces, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let frequencies = Parameter::of(frequencies);
        let own = frequencies.range();
        self.compute(qkv.shape(), [stored(qkv), &frequencies.memory], move |[x, frequencies], out| {
            let (frequencies, width) = (&frequencies[own], packed / 3);
            let (pairs, sign) = (places.pairs, if back { -1.0 } else { 1.0 });
            for (i, out) in out.iter_mut().enumerate() {
                let (token, channel) = (i / packed % tokens, i % packed);
                if token < places.prefix || channel >= 2 * width {
                    *out = x[i];
                    continue;
                }
                let place = places.of(token - places.prefix).map(|place| place as f64);
                let pair = channel % width / (2 * pairs) * pairs + channel % pairs;
                let angle = place[0] * frequencies[pair] + place[1] * frequencies[width / 2 + pair];
                let half = if channel % (2 * pairs) < pairs { -x[i + pairs] } else { x[i - pairs] };
                *out = x[i] * angle.cos() + sign * half * angle.sin();
            }
        })
    }

    /// An angle's derivative of a turned pair `(a, b)` is `(−b, a)`.
    fn rotate_by_backward(&self, turned: &Tensor, grad: &Tensor, places: GridPlaces) -> Tensor {
        let [_, tokens, packed] = turned.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        self.compute([1, packed / 3], [stored(turned), stored(grad)], move |[turned, grad], out| {
            out.fill(0.0);
            let (pairs, width) = (places.pairs, packed / 3);
            for i in 0..turned.len() {
                let (token, channel) = (i / packed % tokens, i % packed);
                if token < places.prefix || channel >= 2 * width || channel % (2 * pairs) >= pairs {
                    continue;
                }
                let angle = turned[i] * grad[i + pairs] - turned[i + pairs] * grad[i];
                let pair = channel % width / (2 * pairs) * pairs + channel % pairs;
                for (axis, place) in places.of(token - places.prefix).into_iter().enumerate() {
                    out[axis * (width / 2) + pair] += angle * place as f64;
                }
            }
        })
    }

    fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterView<'_>, value: ParameterView<'_>) -> Tensor {
        let (query, value, packed) = (Parameter::of(query), Parameter::of(value), qkv.shape().last());
        let (at_query, at_value) = (query.range(), value.range());
        self.compute(qkv.shape(), [stored(qkv), &query.memory, &value.memory], move |[x, query, value], out| {
            let (query, value, width) = (&query[at_query], &value[at_value], packed / 3);
            for (i, out) in out.iter_mut().enumerate() {
                let bias = match i % packed / width {
                    0 => query[i % packed],
                    1 => 0.0,
                    _ => value[i % packed - 2 * width],
                };
                *out = x[i] + bias;
            }
        })
    }

    fn relation_bias(&self, table: &Tensor, tokens: usize, indices: &Arc<[u32]>) -> Tensor {
        let (heads, indices) = (table.shape().last(), Arc::clone(indices));
        self.compute([heads, tokens, tokens], [stored(table)], move |[table], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (head, pair) = (i / (tokens * tokens), i % (tokens * tokens));
                *out = table[indices[pair] as usize * heads + head];
            }
        })
    }

    fn relation_bias_backward(&self, grad: &Tensor, entries: usize, indices: &Arc<[u32]>) -> Tensor {
        let (heads, indices) = (grad.extent(0), Arc::clone(indices));
        self.compute([entries, heads], [stored(grad)], move |[grad], out| {
            out.fill(0.0);
            for (i, grad) in grad.iter().enumerate() {
                out[indices[i % indices.len()] as usize * heads + i / indices.len()] += grad;
            }
        })
    }

    fn resample(&self, grid: &Tensor, axes: [&AxisMatrix; 2], transposed: bool) -> Tensor {
        let [grids, _, width] = grid.shape()[..] else { panic!("grids are [grids, rows · columns, width]") };
        let [rows, columns] = axes.map(Clone::clone);
        let (from, to) = ([rows.from, columns.from], [rows.to, columns.to]);
        let (input, output) = if transposed { (to, from) } else { (from, to) };
        self.compute([grids, output[0] * output[1], width], [stored(grid)], move |[grid], out| {
            let weight = |axis: &AxisMatrix, out: usize, input: usize| {
                let (out, input) = if transposed { (input, out) } else { (out, input) };
                f64::from(axis.weights[out * axis.from + input])
            };
            for (i, out) in out.iter_mut().enumerate() {
                let (g, c) = (i / (output[0] * output[1] * width), i % width);
                let (y, x) = (i / (output[1] * width) % output[0], i / width % output[1]);
                *out = 0.0;
                for (from_y, from_x) in (0..input[0]).flat_map(|y| (0..input[1]).map(move |x| (y, x))) {
                    let value = grid[((g * input[0] + from_y) * input[1] + from_x) * width + c];
                    *out += weight(&rows, y, from_y) * weight(&columns, x, from_x) * value;
                }
            }
        })
    }
}
