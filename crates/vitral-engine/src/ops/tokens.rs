//! Joining, selecting and adding to tokens.

use super::random::mix;
use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Puts learned tokens before those of every sample: `[batch, tokens, width]` to `[batch, more, width]`. Each
    /// parameter holds one token `[width]` or several `[count, width]`.
    pub fn prepend_tokens(&self, x: &Tensor, learned: &[ParameterId]) -> Tensor {
        let [batch, tokens, width] = extents(x);
        let prefix: usize = learned.iter().map(|&id| self.parameters.plain(id).len() / width).sum();
        let output = Tensor::filled(self.device, [batch, prefix + tokens, width], |out| {
            for (out, x) in out.chunks_exact_mut((prefix + tokens) * width).zip(x.values().chunks(tokens * width)) {
                let (mut before, rest) = out.split_at_mut(prefix * width);
                for &id in learned {
                    let values = self.parameters.plain(id);
                    let (target, others) = before.split_at_mut(values.len());
                    target.copy_from_slice(values);
                    before = others;
                }
                rest.copy_from_slice(x);
            }
        });
        let (node, learned) = (x.node, learned.to_vec());
        self.record(output, self.depends(x, learned.iter().copied()), || {
            Box::new(move |grad, gradients| {
                for sample in grad.values().chunks_exact((prefix + tokens) * width) {
                    let mut start = 0;
                    for &id in &learned {
                        let count = gradients.parameters.plain(id).len();
                        gradients.add_parameter(id, &sample[start..start + count]);
                        start += count;
                    }
                }
                gradients.add(node, |g| slice(g.device, grad, prefix, tokens));
            })
        })
    }

    /// Tokens `first … first + count − 1` of every sample: `[batch, count, width]`.
    pub fn tokens(&self, x: &Tensor, first: usize, count: usize) -> Tensor {
        let shape = x.shape();
        let [batch, tokens, width] = extents(x);
        assert!(first + count <= tokens, "tokens {first}…{} of {tokens}", first + count);
        let node = x.node;
        self.record(slice(self.device, x, first, count), node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        out.fill(0.0);
                        for sample in 0..batch {
                            out[(sample * tokens + first) * width..][..count * width]
                                .copy_from_slice(&grad.values()[sample * count * width..][..count * width]);
                        }
                    })
                });
            })
        })
    }

    /// One token of every sample: `[batch, width]`.
    pub fn token(&self, x: &Tensor, index: usize) -> Tensor {
        let [batch, _, width] = extents(x);
        self.tokens(x, index, 1).reshape([batch, width])
    }

    /// Keeps, of every sample, the tokens whose indices stand in `kept`, `count` for each sample in turn.
    pub fn keep_tokens(&self, x: &Tensor, kept: Vec<usize>, count: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        assert_eq!(kept.len(), batch * count, "{count} tokens kept of each of {batch} samples");
        assert!(kept.iter().all(|&index| index < tokens), "a kept index is beyond {tokens} tokens");
        let output = Tensor::filled(self.device, [batch, count, width], |out| {
            for (i, (out, index)) in out.chunks_exact_mut(width).zip(&kept).enumerate() {
                out.copy_from_slice(&x.values()[(i / count * tokens + index) * width..][..width]);
            }
        });
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        out.fill(0.0);
                        for (i, (grad, index)) in grad.values().chunks_exact(width).zip(&kept).enumerate() {
                            let out = &mut out[(i / count * tokens + index) * width..][..width];
                            for (out, grad) in out.iter_mut().zip(grad) {
                                *out += grad;
                            }
                        }
                    })
                });
            })
        })
    }

    /// Patch dropout (arXiv:2212.00794): in training, leaves out this fraction of the tokens after the first `prefix`,
    /// others in every sample, keeping at least one and their order.
    pub fn drop_tokens(&self, x: &Tensor, prefix: usize, rate: f32) -> Tensor {
        let Some(seed) = self.draw().filter(|_| rate > 0.0) else { return x.clone() };
        let [batch, tokens, _] = extents(x);
        let patches = tokens - prefix;
        let count = ((patches as f32 * (1.0 - rate)) as usize).max(1);
        let mut kept = Vec::with_capacity(batch * (prefix + count));
        for sample in 0..batch {
            let mut order: Vec<usize> = (0..patches).collect();
            order.sort_by_key(|&i| (mix(seed ^ mix((sample * patches + i) as u64)), i));
            order.truncate(count);
            order.sort_unstable();
            kept.extend((0..prefix).chain(order.into_iter().map(|i| prefix + i)));
        }
        self.keep_tokens(x, kept, prefix + count)
    }

    /// Adds one `[tokens, width]` to every sample of `[batch, tokens, width]`: position embeddings.
    pub fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let [_, tokens, width] = extents(x);
        assert_eq!(positions.shape()[..], [tokens, width], "positions for {:?}", x.shape());
        let output = Tensor::filled(self.device, x.shape(), |out| {
            for (out, x) in out.chunks_exact_mut(tokens * width).zip(x.values().chunks_exact(tokens * width)) {
                for ((out, x), position) in out.iter_mut().zip(x).zip(positions.values()) {
                    *out = x + position;
                }
            }
        });
        let (x, positions) = (x.node, positions.node);
        self.record(output, x.is_some() || positions.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(x, |_| grad.clone());
                gradients.add(positions, |g| {
                    Tensor::filled(g.device, [tokens, width], |out| {
                        out.fill(0.0);
                        for sample in grad.values().chunks_exact(tokens * width) {
                            for (out, grad) in out.iter_mut().zip(sample) {
                                *out += grad;
                            }
                        }
                    })
                });
            })
        })
    }

    /// Rows of `a`, then those of `b`: `[rows a, width]` and `[rows b, width]` to `[both, width]`.
    pub fn join_rows(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let (width, split) = (a.shape().last(), a.shape().count());
        assert_eq!(width, b.shape().last(), "{:?} above {:?}", a.shape(), b.shape());
        let output = Tensor::filled(self.device, [a.rows() + b.rows(), width], |out| {
            out[..split].copy_from_slice(a.values());
            out[split..].copy_from_slice(b.values());
        });
        let (a, b) = ((a.node, a.shape()), (b.node, b.shape()));
        self.record(output, a.0.is_some() || b.0.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(a.0, |g| Tensor::from_slice(g.device, a.1, &grad.values()[..split]));
                gradients.add(b.0, |g| Tensor::from_slice(g.device, b.1, &grad.values()[split..]));
            })
        })
    }

    /// Rows of `a` and `b` side by side: `[rows, width a]` and `[rows, width b]` to `[rows, both]`.
    pub fn side_by_side(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let (left, right) = (a.shape().last(), b.shape().last());
        assert_eq!(a.rows(), b.rows(), "{:?} beside {:?}", a.shape(), b.shape());
        let output = Tensor::filled(self.device, a.shape().with_last(left + right), |out| {
            for (i, out) in out.chunks_exact_mut(left + right).enumerate() {
                out[..left].copy_from_slice(&a.values()[i * left..][..left]);
                out[left..].copy_from_slice(&b.values()[i * right..][..right]);
            }
        });
        let (a, b) = ((a.node, a.shape()), (b.node, b.shape()));
        self.record(output, a.0.is_some() || b.0.is_some(), || {
            Box::new(move |grad, gradients| {
                for ((node, shape), range) in [(a, 0..left), (b, left..left + right)] {
                    gradients.add(node, |g| {
                        Tensor::filled(g.device, shape, |out| {
                            let rows = grad.values().chunks_exact(left + right);
                            for (out, grad) in out.chunks_exact_mut(range.len()).zip(rows) {
                                out.copy_from_slice(&grad[range.clone()]);
                            }
                        })
                    });
                }
            })
        })
    }
}

pub(crate) fn extents(x: &Tensor) -> [usize; 3] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("tokens are [batch, tokens, width], not {:?}", x.shape()))
}

fn slice(device: &Cpu, x: &Tensor, first: usize, count: usize) -> Tensor {
    let [batch, tokens, width] = extents(x);
    Tensor::filled(device, [batch, count, width], |out| {
        for sample in 0..batch {
            out[sample * count * width..][..count * width]
                .copy_from_slice(&x.values()[(sample * tokens + first) * width..][..count * width]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn gradients_are_those_of_differences() {
        let mut check = Check::new();
        let learned = [check.vector(4), check.plain(&[2, 4])];
        let x = check.input(&[2, 3, 4]);
        let positions = check.input(&[3, 4]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.prepend_tokens(&x[0], &learned));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.tokens(&x[0], 1, 2));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.keep_tokens(&x[0], vec![2, 0, 1, 1], 2));
        check.differences_in_training(std::slice::from_ref(&x), |cx, x| cx.drop_tokens(&x[0], 1, 0.5));
        check.differences(&[x.clone(), positions], |cx, x| cx.add_positions(&x[0], &x[1]));
        let rows = [check.input(&[3, 2]), check.input(&[3, 5])];
        check.differences(&rows, |cx, x| cx.side_by_side(&x[0], &x[1]));
        let rows = [check.input(&[3, 2]), check.input(&[1, 2])];
        check.differences(&rows, |cx, x| cx.join_rows(&x[0], &x[1]));
    }

    #[test]
    fn learned_tokens_come_first_in_order() {
        let mut check = Check::new();
        let (one, two) = (check.vector(2), check.plain(&[2, 2]));
        let x = check.tensor(&[1, 1, 2], &[9.0, 8.0]);
        let y = check.run(&[x], |cx, x| cx.prepend_tokens(&x[0], &[one, two]));
        let expected = [check.values(one), check.values(two), vec![9.0, 8.0]].concat();
        assert_eq!(y.values(), expected);
    }
}
