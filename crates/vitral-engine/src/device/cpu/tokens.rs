//! Choosing tokens, adding positions to them, and pooling them.

use std::sync::Arc;

use super::{Cpu, values};
use crate::device::backend::Tokens;
use crate::shape::Shape;
use crate::tensor::Tensor;

fn extents(x: &Tensor) -> [usize; 3] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("tokens are [batch, tokens, width], not {:?}", x.shape()))
}

impl Tokens for Cpu {
    fn gather_tokens(&self, x: &Tensor, kept: &Arc<[usize]>, count: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        self.tensor([batch, count, width], |out| {
            for (i, (out, index)) in out.chunks_exact_mut(width).zip(&**kept).enumerate() {
                out.copy_from_slice(&values(x)[(i / count * tokens + index) * width..][..width]);
            }
        })
    }

    fn scatter_tokens(&self, grad: &Tensor, kept: &Arc<[usize]>, shape: Shape) -> Tensor {
        let [_, count, width] = extents(grad);
        let tokens = shape[1];
        self.tensor(shape, |out| {
            out.fill(0.0);
            for (i, (grad, index)) in values(grad).chunks_exact(width).zip(&**kept).enumerate() {
                let out = &mut out[(i / count * tokens + index) * width..][..width];
                for (out, grad) in out.iter_mut().zip(grad) {
                    *out += grad;
                }
            }
        })
    }

    fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let sample = x.shape().item().max(1);
        self.tensor(x.shape(), |out| {
            for (out, x) in out.chunks_exact_mut(sample).zip(values(x).chunks_exact(sample)) {
                for ((out, x), position) in out.iter_mut().zip(x).zip(values(positions)) {
                    *out = x + position;
                }
            }
        })
    }

    fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        let count = (tokens - first) as f32;
        self.tensor([batch, width], |out| {
            out.fill(0.0);
            for (out, x) in out.chunks_exact_mut(width).zip(values(x).chunks_exact(tokens * width)) {
                for token in x[first * width..].chunks_exact(width) {
                    for (out, x) in out.iter_mut().zip(token) {
                        *out += x;
                    }
                }
                for out in out {
                    *out /= count;
                }
            }
        })
    }

    fn mean_tokens_backward(&self, grad: &Tensor, tokens: usize, first: usize) -> Tensor {
        let (batch, width) = (grad.extent(0), grad.extent(1));
        let count = (tokens - first) as f32;
        self.tensor([batch, tokens, width], |out| {
            for (out, grad) in out.chunks_exact_mut(tokens * width).zip(values(grad).chunks_exact(width)) {
                out[..first * width].fill(0.0);
                for token in out[first * width..].chunks_exact_mut(width) {
                    for (out, grad) in token.iter_mut().zip(grad) {
                        *out = grad / count;
                    }
                }
            }
        })
    }

    fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        self.tensor([batch, width], |out| {
            out.fill(f32::NEG_INFINITY);
            for (out, x) in out.chunks_exact_mut(width).zip(values(x).chunks_exact(tokens * width)) {
                for token in x[first * width..].chunks_exact(width) {
                    for (out, &x) in out.iter_mut().zip(token) {
                        // A NaN stays.
                        if x > *out || x.is_nan() {
                            *out = x;
                        }
                    }
                }
            }
        })
    }

    fn max_tokens_backward(&self, x: &Tensor, top: &Tensor, grad: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        let (x_values, top, grad) = (values(x), values(top), values(grad));
        self.tensor(x.shape(), |out| {
            out.fill(0.0);
            for sample in 0..batch {
                for c in 0..width {
                    let at = |t: usize| (sample * tokens + t) * width + c;
                    let top = top[sample * width + c];
                    let equal = (first..tokens).filter(|&t| x_values[at(t)] == top).count();
                    for t in first..tokens {
                        if x_values[at(t)] == top {
                            out[at(t)] = grad[sample * width + c] / equal as f32;
                        }
                    }
                }
            }
        })
    }
}
