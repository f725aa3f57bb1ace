//! Maximum and mean over windows, channels last.

use super::Padding;
use crate::device::backend::Windows;
use crate::tape::Context;
use crate::tensor::Tensor;

fn windows(x: &Tensor, size: usize, stride: usize, padding: Padding) -> Windows {
    let [batch, height, width, channels] = x.shape()[..] else {
        panic!("[batch, height, width, channels], not {:?}", x.shape())
    };
    let (rows, above) = padding.axis(height, size, stride);
    let (columns, left) = padding.axis(width, size, stride);
    Windows { batch, input: [height, width, channels], output: [rows, columns], before: [above, left], size, stride }
}

impl Context<'_> {
    /// Maximum over windows of `[batch, height, width, channels]`; the border never wins.
    pub fn max_pool(&self, x: &Tensor, size: usize, stride: usize, padding: Padding) -> Tensor {
        let windows = windows(x, size, stride, padding);
        let (output, winners) = self.backend().max_pool(x, &windows);
        let node = x.node;
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().max_pool_backward(grad, &winners, &windows));
            })
        })
    }

    /// Mean over windows of `[batch, height, width, channels]`, without padding.
    pub fn average_pool(&self, x: &Tensor, size: usize, stride: usize) -> Tensor {
        let windows = windows(x, size, stride, Padding::Explicit(0));
        let node = x.node;
        self.record(self.backend().average_pool(x, &windows), node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().average_pool_backward(grad, &windows));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equal_pytorch() {
        for (name, padding) in
            [("max_pool", Padding::Explicit(1)), ("max_pool_same", Padding::Same), ("max_pool_same_odd", Padding::Same)]
        {
            let golden = Golden::load(name).channels_last();
            Check::new().against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.max_pool(&x[0], 3, 2, padding));
        }
        let golden = Golden::load("avg_pool").channels_last();
        Check::new().against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.average_pool(&x[0], 2, 2));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[2, 5, 4, 3]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.max_pool(&x[0], 3, 2, Padding::Same));
        check.differences(&[x], |cx, x| cx.average_pool(&x[0], 2, 1));
    }
}
