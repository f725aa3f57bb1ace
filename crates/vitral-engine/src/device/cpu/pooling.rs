//! Attention of one learned query to all tokens.

use super::kernels::{Kernel, Lanes};
use super::{Cpu, math, values};
use crate::tensor::Tensor;

struct SoftmaxRow<'a>(&'a mut [f32]);

impl Kernel for SoftmaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let sum = math::exp_row(l, self.0, 1.0);
        math::scale_row(l, self.0, 1.0 / sum);
    }
}

/// Where keys (0) and values (1) of a head are.
#[derive(Clone, Copy)]
struct Layout {
    batch: usize,
    tokens: usize,
    width: usize,
    heads: usize,
}

impl Layout {
    fn of(keys_values: &Tensor, heads: usize) -> Self {
        let [batch, tokens, both] = keys_values.shape()[..] else { panic!("keys and values are [batch, tokens, …]") };
        Layout { batch, tokens, width: both / 2, heads }
    }

    fn head(self) -> usize {
        self.width / self.heads
    }

    fn at(self, sample: usize, head: usize, token: usize, which: usize) -> usize {
        ((sample * self.tokens + token) * 2 + which) * self.width + head * self.head()
    }
}

pub(super) fn probe_attention(
    device: &Cpu,
    query: &Tensor,
    keys_values: &Tensor,
    heads: usize,
    scale: f32,
) -> (Tensor, Tensor) {
    let layout = Layout::of(keys_values, heads);
    let Layout { batch, tokens, width, .. } = layout;
    let (head, both) = (layout.head(), values(keys_values));
    let mut output = None;
    let weights = device.tensor([batch, heads, tokens], |all| {
        output = Some(device.tensor([batch, width], |out| {
            out.fill(0.0);
            for sample in 0..batch {
                for h in 0..heads {
                    let weights = &mut all[(sample * heads + h) * tokens..][..tokens];
                    let query = &values(query)[h * head..][..head];
                    for (t, weight) in weights.iter_mut().enumerate() {
                        let key = &both[layout.at(sample, h, t, 0)..][..head];
                        *weight = scale * query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>();
                    }
                    device.processor.isa().run(SoftmaxRow(weights));
                    let out = &mut out[sample * width + h * head..][..head];
                    for (t, weight) in weights.iter().enumerate() {
                        for (out, value) in out.iter_mut().zip(&both[layout.at(sample, h, t, 1)..][..head]) {
                            *out += weight * value;
                        }
                    }
                }
            }
        }));
    });
    (output.expect("made with the weights"), weights)
}

pub(super) fn probe_attention_backward(
    device: &Cpu,
    (query, keys_values): (&Tensor, &Tensor),
    weights: &Tensor,
    grad: &Tensor,
    (heads, scale): (usize, f32),
) -> (Tensor, Tensor) {
    let layout = Layout::of(keys_values, heads);
    let Layout { batch, tokens, width, .. } = layout;
    let (head, both) = (layout.head(), values(keys_values));
    let mut of_both = None;
    let of_query = device.tensor(query.shape(), |of_query| {
        of_query.fill(0.0);
        of_both = Some(device.tensor(keys_values.shape(), |out| {
            for sample in 0..batch {
                for h in 0..heads {
                    let weights = &values(weights)[(sample * heads + h) * tokens..][..tokens];
                    let grad = &values(grad)[sample * width + h * head..][..head];
                    let of_weights: Vec<f32> = (0..tokens)
                        .map(|t| {
                            let value = &both[layout.at(sample, h, t, 1)..][..head];
                            value.iter().zip(grad).map(|(v, g)| v * g).sum()
                        })
                        .collect();
                    let mean: f32 = weights.iter().zip(&of_weights).map(|(w, p)| w * p).sum();
                    for t in 0..tokens {
                        let score = weights[t] * (of_weights[t] - mean) * scale;
                        let (key, value) = (layout.at(sample, h, t, 0), layout.at(sample, h, t, 1));
                        for d in 0..head {
                            out[value + d] = weights[t] * grad[d];
                            out[key + d] = score * values(query)[h * head + d];
                            of_query[h * head + d] += score * both[key + d];
                        }
                    }
                }
            }
        }));
    });
    (of_query, of_both.expect("made with the query's gradient"))
}
