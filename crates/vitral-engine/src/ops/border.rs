//! A border of zeros around feature maps, channels last.

use crate::tape::Context;
use crate::tensor::Tensor;

/// Rows of an image with and without its border.
#[derive(Clone, Copy)]
struct Rows {
    height: usize,
    /// Numbers in a row of the image.
    row: usize,
    /// Numbers in a row with its border.
    wide: usize,
    /// Rows above.
    above: usize,
    /// Numbers to the left.
    left: usize,
}

impl Rows {
    fn bordered(&self) -> usize {
        (self.height + 2 * self.above) * self.wide
    }

    /// Where each row of all images begins, with its border and without.
    fn starts(self, batch: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..batch * self.height).map(move |i| {
            let (image, y) = (i / self.height, i % self.height);
            (image * self.bordered() + (self.above + y) * self.wide + self.left, i * self.row)
        })
    }
}

impl Context<'_> {
    /// `[batch, height, width, channels]` with `by` rows and columns of zeros on every side.
    pub fn zero_border(&self, x: &Tensor, by: usize) -> Tensor {
        let [batch, height, width, channels] = x.shape()[..] else {
            panic!("[batch, height, width, channels], not {:?}", x.shape())
        };
        let wide = (width + 2 * by) * channels;
        let rows = Rows { height, row: width * channels, wide, above: by, left: by * channels };
        let output = Tensor::filled(self.device, [batch, height + 2 * by, width + 2 * by, channels], |out| {
            out.fill(0.0);
            for (to, from) in rows.starts(batch) {
                out[to..to + rows.row].copy_from_slice(&x.values()[from..from + rows.row]);
            }
        });
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        for (from, to) in rows.starts(batch) {
                            out[to..to + rows.row].copy_from_slice(&grad.values()[from..from + rows.row]);
                        }
                    })
                });
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
