//! Sum, scale, dropout and drop path.

use crate::arena::ParameterId;
use crate::device::Device;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// `a + b`, both of one shape.
    ///
    /// # Panics
    /// If their shapes differ.
    pub fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        assert_eq!(a.shape(), b.shape(), "sum of {:?} and {:?}", a.shape(), b.shape());
        let (node_a, node_b) = (a.node, b.node);
        self.record(self.backend().add(a, b), node_a.is_some() || node_b.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node_a, |_| grad.clone());
                gradients.add(node_b, |_| grad.clone());
            })
        })
    }

    /// `factor · a`.
    pub fn scale(&self, a: &Tensor, factor: f32) -> Tensor {
        let node = a.node;
        self.record(self.backend().scale(a, factor), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().scale(grad, factor)))
        })
    }

    /// LayerScale (arXiv:2103.17239): every row of `x`, `[…, width]`, times one trained row.
    ///
    /// # Panics
    /// If the row is of another width.
    pub fn layer_scale(&self, x: &Tensor, scale: ParameterId) -> Tensor {
        let row = self.view(scale);
        assert_eq!(x.shape().last(), row.count(), "a row for {:?}", x.shape());
        let output = self.backend().multiply_row(x, row);
        let saved = x.clone();
        self.record(output, self.depends(x, [scale]), || {
            Box::new(move |grad, gradients| {
                let (backend, range) = (gradients.backend(), gradients.range(scale));
                if let Some((flat, range)) = gradients.flat().zip(range) {
                    backend.multiply_row_backward(&saved, grad, flat, range);
                }
                gradients.add(saved.node, |g| g.backend().multiply_row(grad, g.view(scale)));
            })
        })
    }

    /// Adds one trained row to every row.
    ///
    /// # Panics
    /// If the row is of another width.
    pub fn add_row(&self, x: &Tensor, row: ParameterId) -> Tensor {
        assert_eq!(x.shape().last(), self.view(row).count(), "a row for {:?}", x.shape());
        let output = self.backend().add_row(x, self.view(row));
        let node = x.node;
        self.record(output, self.depends(x, [row]), || {
            Box::new(move |grad, gradients| {
                gradients.add_row_sums(row, grad);
                gradients.add(node, |_| grad.clone());
            })
        })
    }

    /// Dropout: in training, zeroes each value with this probability and scales the others so that the mean is
    /// unchanged.
    ///
    /// # Panics
    /// If the rate is not within 0…1.
    pub fn dropout(&self, x: &Tensor, rate: f32) -> Tensor {
        self.drop_groups(x, 1, rate)
    }

    /// Drop path (stochastic depth per sample, arXiv:1603.09382): in training, zeroes whole samples (the outermost
    /// extent) with this probability and scales the others.
    ///
    /// # Panics
    /// If the rate is not within 0…1.
    pub fn drop_path(&self, x: &Tensor, rate: f32) -> Tensor {
        self.drop_groups(x, x.shape().item(), rate)
    }

    fn drop_groups(&self, x: &Tensor, group: usize, rate: f32) -> Tensor {
        assert!((0.0..=1.0).contains(&rate), "a drop rate of {rate} is not within 0…1");
        let Some(draw) = self.draw().filter(|_| rate > 0.0) else { return x.clone() };
        let node = x.node;
        self.record(self.backend().drop(x, draw, group, rate), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().drop(grad, draw, group, rate)))
        })
    }
}

impl Device {
    /// Planes of channels, `[…, channels, height, width]`, each as `x · factor + shift` of its channel. Has no
    /// gradient.
    ///
    /// # Panics
    /// If the number of factors is not the number of channels.
    pub fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor {
        let [.., channels, _, _] = x.shape()[..] else { panic!("[…, channels, height, width], not {:?}", x.shape()) };
        assert_eq!(lines.len(), channels, "a factor and a shift for each channel of {:?}", x.shape());
        self.backend().affine_channels(x, lines)
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
        check.differences(&inputs, |cx, x| cx.add(&cx.scale(&x[0], 0.3), &x[1]));
        check.differences(&inputs[..1], |cx, x| cx.add_row(&cx.layer_scale(&x[0], row), row));
        check.differences_in_training(&inputs[..1], |cx, x| cx.drop_path(&cx.dropout(&x[0], 0.4), 0.3));
    }

    #[test]
    fn dropping_keeps_the_mean_and_whole_samples() {
        use crate::arena::{Declarations, Parameters};
        let device = crate::Device::cpu(2);
        let parameters = Parameters::zeros(Declarations::default(), device.clone());
        let cx = crate::Context::training(&parameters, crate::DrawKey { seed: 3, step: 0, first_image: 0 });
        let ones = device.full([400, 100], 1.0);
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
