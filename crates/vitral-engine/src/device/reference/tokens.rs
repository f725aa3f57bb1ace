//! Choosing tokens, adding positions to them, and pooling them.

use std::sync::Arc;

use super::{Reference, stored};
use crate::device::backend::Tokens;
use crate::shape::Shape;
use crate::tensor::Tensor;

fn extents(x: &Tensor) -> [usize; 3] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("tokens are [batch, tokens, width], not {:?}", x.shape()))
}

impl Tokens for Reference {
    fn gather_tokens(&self, x: &Tensor, kept: &Arc<[usize]>, count: usize) -> Tensor {
        let ([batch, tokens, width], kept) = (extents(x), Arc::clone(kept));
        self.compute([batch, count, width], [stored(x)], move |[x], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (row, c) = (i / width, i % width);
                *out = x[(row / count * tokens + kept[row]) * width + c];
            }
        })
    }

    fn scatter_tokens(&self, grad: &Tensor, kept: &Arc<[usize]>, shape: Shape) -> Tensor {
        let ([_, count, width], tokens, kept) = (extents(grad), shape[1], Arc::clone(kept));
        self.compute(shape, [stored(grad)], move |[grad], out| {
            out.fill(0.0);
            for (i, grad) in grad.iter().enumerate() {
                let (row, c) = (i / width, i % width);
                out[(row / count * tokens + kept[row]) * width + c] += grad;
            }
        })
    }

    fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        self.compute(x.shape(), [stored(x), stored(positions)], |[x, positions], out| {
            for i in 0..out.len() {
                out[i] = x[i] + positions[i % positions.len()];
            }
        })
    }

    fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        self.compute([batch, width], [stored(x)], move |[x], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (sample, c) = (i / width, i % width);
                let sum: f64 = (first..tokens).map(|token| x[(sample * tokens + token) * width + c]).sum();
                *out = sum / (tokens - first) as f64;
            }
        })
    }

    fn mean_tokens_backward(&self, grad: &Tensor, tokens: usize, first: usize) -> Tensor {
        let (batch, width) = (grad.extent(0), grad.extent(1));
        self.compute([batch, tokens, width], [stored(grad)], move |[grad], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (sample, token, c) = (i / (tokens * width), i / width % tokens, i % width);
                *out = if token < first { 0.0 } else { grad[sample * width + c] / (tokens - first) as f64 };
            }
        })
    }

    fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        self.compute([batch, width], [stored(x)], move |[x], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (sample, c) = (i / width, i % width);
                let column = (first..tokens).map(|token| x[(sample * tokens + token) * width + c]);
                // A NaN stays.
                *out = column.fold(f64::NEG_INFINITY, |top, x| if x > top || x.is_nan() { x } else { top });
            }
        })
    }

    fn max_tokens_backward(&self, x: &Tensor, top: &Tensor, grad: &Tensor, first: usize) -> Tensor {
        let [_, tokens, width] = extents(x);
        self.compute(x.shape(), [stored(x), stored(top), stored(grad)], move |[x, top, grad], out| {
            for (i, out) in out.iter_mut().enumerate() {
                let (sample, token, c) = (i / (tokens * width), i / width % tokens, i % width);
                let wins = |token: usize| x[(sample * tokens + token) * width + c] == top[sample * width + c];
                let winners = (first..tokens).filter(|&token| wins(token)).count();
                *out = if token >= first && wins(token) { grad[sample * width + c] / winners as f64 } else { 0.0 };
            }
        })
    }
}
