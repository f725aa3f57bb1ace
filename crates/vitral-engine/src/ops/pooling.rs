//! Tokens to one vector: mean, maximum, and attention by a learned probe.

use super::tokens::extents;
use crate::device::cpu::kernels::{Kernel, Lanes};
use crate::device::cpu::math;
use crate::tape::Context;
use crate::tensor::Tensor;

struct ExpRow<'a>(&'a mut [f32]);

impl Kernel for ExpRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let sum = math::exp_row(l, self.0, 1.0);
        math::scale_row(l, self.0, 1.0 / sum);
    }
}

impl Context<'_> {
    /// Mean over the tokens from `first` on: `[batch, tokens, width]` to `[batch, width]`.
    pub fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        assert!(first < tokens, "no tokens from {first} on, of {tokens}");
        let count = (tokens - first) as f32;
        let output = Tensor::filled(self.device, [batch, width], |out| {
            out.fill(0.0);
            for (out, x) in out.chunks_exact_mut(width).zip(x.values().chunks_exact(tokens * width)) {
                for token in x[first * width..].chunks_exact(width) {
                    for (out, x) in out.iter_mut().zip(token) {
                        *out += x;
                    }
                }
                for out in out {
                    *out /= count;
                }
            }
        });
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        for (out, grad) in out.chunks_exact_mut(tokens * width).zip(grad.values().chunks_exact(width)) {
                            out[..first * width].fill(0.0);
                            for token in out[first * width..].chunks_exact_mut(width) {
                                for (out, grad) in token.iter_mut().zip(grad) {
                                    *out = grad / count;
                                }
                            }
                        }
                    })
                });
            })
        })
    }

    /// Maximum over the tokens from `first` on: `[batch, tokens, width]` to `[batch, width]`. Where several are equal the
    /// gradient is shared among them, as PyTorch's `amax` does.
    pub fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [batch, tokens, width] = extents(x);
        assert!(first < tokens, "no tokens from {first} on, of {tokens}");
        let output = Tensor::filled(self.device, [batch, width], |out| {
            out.fill(f32::NEG_INFINITY);
            for (out, x) in out.chunks_exact_mut(width).zip(x.values().chunks_exact(tokens * width)) {
                for token in x[first * width..].chunks_exact(width) {
                    for (out, &x) in out.iter_mut().zip(token) {
                        // A NaN stays.
                        if x > *out || x.is_nan() {
                            *out = x;
                        }
                    }
                }
            }
        });
        let (saved, top) = (x.clone(), output.clone());
        self.record(output, x.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| {
                    Tensor::filled(g.device, saved.shape(), |out| {
                        out.fill(0.0);
                        for sample in 0..batch {
                            for c in 0..width {
                                let at = |t: usize| (sample * tokens + t) * width + c;
                                let top = top.values()[sample * width + c];
                                let equal = (first..tokens).filter(|&t| saved.values()[at(t)] == top).count();
                                for t in first..tokens {
                                    if saved.values()[at(t)] == top {
                                        out[at(t)] = grad.values()[sample * width + c] / equal as f32;
                                    }
                                }
                            }
                        }
                    })
                });
            })
        })
    }

    /// Attention of one query to all tokens: `query` is `[heads · head width]`, `keys_values` is
    /// `[batch, tokens, 2 · heads · head width]`, keys first. Gives `[batch, heads · head width]`.
    pub fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> Tensor {
        let [batch, tokens, both] = extents(keys_values);
        let width = both / 2;
        assert_eq!(query.shape().count(), width, "a query of width {width}, not {:?}", query.shape());
        let head = width / heads;
        let mut weights = vec![0.0; batch * heads * tokens];
        let output = Tensor::filled(self.device, [batch, width], |out| {
            out.fill(0.0);
            for sample in 0..batch {
                for h in 0..heads {
                    let at = |t: usize, second: usize| (sample * tokens + t) * both + second * width + h * head;
                    let weights = &mut weights[(sample * heads + h) * tokens..][..tokens];
                    let query = &query.values()[h * head..][..head];
                    for (t, weight) in weights.iter_mut().enumerate() {
                        let key = &keys_values.values()[at(t, 0)..][..head];
                        *weight = scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>();
                    }
                    self.device.isa().run(ExpRow(weights));
                    let out = &mut out[sample * width + h * head..][..head];
                    for (t, weight) in weights.iter().enumerate() {
                        for (out, value) in out.iter_mut().zip(&keys_values.values()[at(t, 1)..][..head]) {
                            *out += weight * value;
                        }
                    }
                }
            }
        });
        let (query, saved) = (query.clone(), keys_values.clone());
        let needed = query.node.is_some() || saved.node.is_some();
        self.record(output, needed, || {
            Box::new(move |grad, gradients| {
                let mut query_gradient = vec![0.0; width];
                let both_gradient = Tensor::filled(gradients.device, saved.shape(), |out| {
                    for sample in 0..batch {
                        for h in 0..heads {
                            let at = |t: usize, second: usize| (sample * tokens + t) * both + second * width + h * head;
                            let weights = &weights[(sample * heads + h) * tokens..][..tokens];
                            let grad = &grad.values()[sample * width + h * head..][..head];
                            let pulled: Vec<f32> = (0..tokens)
                                .map(|t| saved.values()[at(t, 1)..][..head].iter().zip(grad).map(|(v, g)| v * g).sum())
                                .collect();
                            let mean: f32 = weights.iter().zip(&pulled).map(|(w, p)| w * p).sum();
                            for t in 0..tokens {
                                let score = weights[t] * (pulled[t] - mean) * scale;
                                for d in 0..head {
                                    out[at(t, 1) + d] = weights[t] * grad[d];
                                    out[at(t, 0) + d] = score * query.values()[h * head + d];
                                    query_gradient[h * head + d] += score * saved.values()[at(t, 0) + d];
                                }
                            }
                        }
                    }
                });
                gradients.add(saved.node, |_| both_gradient);
                gradients.add(query.node, |g| Tensor::from_slice(g.device, query.shape(), &query_gradient));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[2, 5, 6]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.mean_tokens(&x[0], 2));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.max_tokens(&x[0], 1));
        let inputs = [check.input(&[6]), check.input(&[2, 4, 12])];
        check.differences(&inputs, |cx, x| cx.probe_attention(&x[0], &x[1], 2, 0.6));
    }

    #[test]
    fn a_probe_is_one_query_of_attention() {
        let check = Check::new();
        let (query, both) = (check.input(&[6]), check.input(&[1, 4, 12]));
        let probed = check.run(&[query.clone(), both.clone()], |cx, x| cx.probe_attention(&x[0], &x[1], 2, 0.6));
        let mut packed = Vec::new();
        for both in both.values().chunks(12) {
            packed.extend_from_slice(query.values());
            packed.extend_from_slice(both);
        }
        let attended = check.run(&[check.tensor(&[1, 4, 18], &packed)], |cx, x| {
            let call = super::super::Attention {
                heads: 2,
                scale: 0.6,
                key_mask: None,
                bias: None,
                dropout: 0.0,
                queries: None,
                capture: false,
            };
            cx.attention(&x[0], call).output
        });
        for (a, b) in probed.values().iter().zip(attended.values()) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
