//! Sum, scale, dropout and drop path.

use super::random::uniform;
use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Lanes, SharedMut};
use crate::device::cpu::map::Elementwise;
use crate::tape::Context;
use crate::tensor::Tensor;

#[derive(Clone, Copy)]
struct Add;

impl Elementwise<2> for Add {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a, b]: [L::V; 2]) -> L::V {
        l.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Multiply;

impl Elementwise<2> for Multiply {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a, b]: [L::V; 2]) -> L::V {
        l.mul(a, b)
    }
}

#[derive(Clone, Copy)]
struct Times(f32);

impl Elementwise<1> for Times {
    #[inline(always)]
    fn apply<L: Lanes>(self, l: L, [a]: [L::V; 1]) -> L::V {
        l.mul(a, l.splat(self.0))
    }
}

pub(crate) fn sum_of(device: &Cpu, a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.shape(), b.shape(), "sum of {:?} and {:?}", a.shape(), b.shape());
    Tensor::filled(device, a.shape(), |out| device.map([a.values(), b.values()], out, Add))
}

pub(crate) fn product_of(device: &Cpu, a: &Tensor, b: &[f32]) -> Tensor {
    Tensor::filled(device, a.shape(), |out| device.map([a.values(), b], out, Multiply))
}

pub(crate) fn times(device: &Cpu, a: &Tensor, factor: f32) -> Tensor {
    Tensor::filled(device, a.shape(), |out| device.map([a.values()], out, Times(factor)))
}

/// Every row of `a` times one row.
pub(crate) fn rows_times(device: &Cpu, a: &Tensor, row: &[f32]) -> Tensor {
    assert_eq!(a.shape().last(), row.len());
    Tensor::filled(device, a.shape(), |out| device.map_rows([a.values(), row], row.len(), out, Multiply))
}

impl Context<'_> {
    /// `a + b`, both of one shape.
    pub fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let (node_a, node_b) = (a.node, b.node);
        self.record(sum_of(self.device, a, b), node_a.is_some() || node_b.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node_a, |_| grad.clone());
                gradients.add(node_b, |_| grad.clone());
            })
        })
    }

    /// `factor · a`.
    pub fn times(&self, a: &Tensor, factor: f32) -> Tensor {
        let node = a.node;
        self.record(times(self.device, a, factor), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| times(g.device, grad, factor)))
        })
    }

    /// LayerScale (arXiv:2103.17239): every row of `x`, `[…, width]`, times one learned row.
    pub fn layer_scale(&self, x: &Tensor, scale: ParameterId) -> Tensor {
        let output = rows_times(self.device, x, self.parameters.plain(scale));
        let saved = x.clone();
        self.record(output, self.depends(x, [scale]), || {
            Box::new(move |grad, gradients| {
                if gradients.wants(scale) {
                    let product = product_of(gradients.device, grad, saved.values());
                    let device = gradients.device;
                    let sums = gradients.parameter(scale).expect("wanted");
                    device.add_row_sums(product.values(), sums);
                }
                gradients.add(saved.node, |g| rows_times(g.device, grad, g.parameters.plain(scale)));
            })
        })
    }

    /// Adds one learned row to every row.
    pub fn add_row(&self, x: &Tensor, row: ParameterId) -> Tensor {
        let values = self.parameters.plain(row);
        assert_eq!(x.shape().last(), values.len());
        let output = Tensor::filled(self.device, x.shape(), |out| {
            self.device.map_rows([x.values(), values], values.len(), out, Add);
        });
        let node = x.node;
        self.record(output, self.depends(x, [row]), || {
            Box::new(move |grad, gradients| {
                let device = gradients.device;
                if let Some(sums) = gradients.parameter(row) {
                    device.add_row_sums(grad.values(), sums);
                }
                gradients.add(node, |_| grad.clone());
            })
        })
    }

    /// Dropout: in training, zeroes each number with this probability and scales the rest so that the mean stays.
    pub fn dropout(&self, x: &Tensor, rate: f32) -> Tensor {
        self.drop_groups(x, 1, rate)
    }

    /// Drop path (stochastic depth per sample, arXiv:1603.09382): in training, zeroes whole samples (the outermost
    /// extent) with this probability and scales the rest.
    pub fn drop_path(&self, x: &Tensor, rate: f32) -> Tensor {
        self.drop_groups(x, x.shape().count() / x.extent(0).max(1), rate)
    }

    fn drop_groups(&self, x: &Tensor, group: usize, rate: f32) -> Tensor {
        assert!((0.0..=1.0).contains(&rate), "a drop rate of {rate} is not within 0…1");
        let Some(seed) = self.draw().filter(|_| rate > 0.0) else { return x.clone() };
        let device = self.device;
        let apply = move |device: &Cpu, x: &Tensor| {
            Tensor::filled(device, x.shape(), |out| {
                let shared = SharedMut::new(out);
                let keep = if rate < 1.0 { 1.0 / (1.0 - rate) } else { 0.0 };
                device.parallel_ranges(x.values().len() / group.max(1), 4096usize.div_ceil(group.max(1)), |range| {
                    for i in range {
                        let factor = if uniform(seed, i as u64) < rate { 0.0 } else { keep };
                        let out = shared.part(i * group, group);
                        for (out, x) in out.iter_mut().zip(&x.values()[i * group..]) {
                            *out = factor * x;
                        }
                    }
                });
            })
        };
        let node = x.node;
        self.record(apply(device, x), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| apply(g.device, grad)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn gradients_are_those_of_differences() {
        let mut check = Check::new();
        let row = check.vector(5);
        let inputs = [check.input(&[3, 5]), check.input(&[3, 5])];
        check.differences(&inputs, |cx, x| cx.add(&cx.times(&x[0], 0.3), &x[1]));
        check.differences(&inputs[..1], |cx, x| cx.add_row(&cx.layer_scale(&x[0], row), row));
        check.differences_in_training(&inputs[..1], |cx, x| cx.drop_path(&cx.dropout(&x[0], 0.4), 0.3));
    }

    #[test]
    fn dropping_keeps_the_mean_and_whole_samples() {
        use crate::arena::{Declarations, Parameters};
        let device = crate::Cpu::with_threads(2);
        let parameters = Parameters::zeros(Declarations::default(), device.clone());
        let cx = crate::Context::training(&parameters, 3);
        let ones = crate::Tensor::filled(&device, [400, 100], |out| out.fill(1.0));
        let dropped = cx.dropout(&ones, 0.25);
        let mean = dropped.values().iter().sum::<f32>() / 40_000.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let paths = cx.drop_path(&ones, 0.25);
        for sample in paths.values().chunks(100) {
            assert!(sample.iter().all(|&x| x == sample[0]));
        }
        assert_ne!(cx.dropout(&ones, 0.25).values(), dropped.values(), "draws differ");
    }
}
