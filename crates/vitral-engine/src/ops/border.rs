//! A border of zeros around feature maps, channels last.

use crate::device::backend::{Blocks, Source};
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// `[batch, height, width, channels]` with `by` rows and columns of zeros on every side.
    pub fn zero_border(&self, x: &Tensor, by: usize) -> Tensor {
        let [batch, height, width, channels] = x.shape()[..] else {
            panic!("[batch, height, width, channels], not {:?}", x.shape())
        };
        let (row, wide) = (width * channels, (width + 2 * by) * channels);
        let bordered = (height + 2 * by) * wide;
        let inside = [0, height * row, row];
        let around = [by * wide + by * channels, bordered, wide];
        let blocks = Blocks { counts: [batch, height], length: row, from: inside, to: around };
        let output = self
            .backend()
            .assemble([batch, height + 2 * by, width + 2 * by, channels].into(), &[(Source::Tensor(x), blocks)]);
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            let blocks = Blocks { from: around, to: inside, ..blocks };
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().assemble(shape, &[(Source::Tensor(grad), blocks)]));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn zeros_lie_around() {
        let check = Check::new();
        let x = check.tensor(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let bordered = check.run(&[x], |cx, x| cx.zero_border(&x[0], 1));
        assert_eq!(bordered.shape()[..], [1, 3, 4, 2]);
        let mut expected = [0.0; 24];
        expected[10..14].copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(bordered.values(), expected);
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        for (shape, by) in [([2, 3, 2, 3], 1), ([1, 1, 5, 1], 2), ([3, 2, 1, 2], 0)] {
            check.differences(&[check.input(&shape)], |cx, x| cx.zero_border(&x[0], by));
        }
    }
}
