//! Images to rows of pixels, and the two orders of an image's extents.

use crate::device::backend::PatchLayout;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Cuts images `[batch, channels, height, width]` into a `grid` of patches, rows before columns: `[batch, patches,
    /// channels · height · width of a patch]`, row by row. A linear map of it is the patch embedding, the same as a
    /// convolution whose stride is its kernel. Where the grid is larger than the image, the image is padded with zeros
    /// at the right and bottom; where it is smaller, the last pixels are dropped.
    pub fn patches(&self, images: &Tensor, patch: [usize; 2], grid: [usize; 2]) -> Tensor {
        let [batch, channels, height, width] = images.shape()[..] else {
            panic!("images are [batch, channels, height, width], not {:?}", images.shape())
        };
        let layout = PatchLayout { batch, channels, height, width, patch, grid };
        let node = images.node;
        self.record(self.backend().patches(images, &layout), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().patches_backward(grad, &layout)))
        })
    }

    /// `[batch, rows, columns]` to `[batch, columns, rows]`: with pixels as one extent, channels first to channels last
    /// and back.
    pub fn swap_last_two(&self, x: &Tensor) -> Tensor {
        assert_eq!(x.shape().len(), 3, "three extents, not {:?}", x.shape());
        let node = x.node;
        self.record(self.backend().transpose(x), node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().transpose(grad)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use crate::ops::Linear;

    #[test]
    fn the_embedding_equals_pytorch() {
        let golden = Golden::load("patch_embedding");
        let mut check = Check::new();
        let linear =
            Linear { weight: check.golden_matrix(&golden, "weight"), bias: Some(check.golden(&golden, "bias")) };
        let [_, _, height, width] = golden.tensor("x").shape()[..] else { panic!("images") };
        let grid = [height / 2, width / 3];
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| {
            cx.linear(&cx.patches(&x[0], [2, 3], grid), linear)
        });
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        for grid in [[3, 3], [2, 2]] {
            check.differences(&[check.input(&[2, 3, 5, 7])], |cx, x| cx.patches(&x[0], [2, 3], grid));
        }
        check.differences(&[check.input(&[2, 3, 5])], |cx, x| cx.swap_last_two(&x[0]));
    }

    #[test]
    fn what_does_not_divide_is_padded_with_zeros_or_dropped() {
        let check = Check::new();
        let x = check.tensor(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]);
        let y = check.run(std::slice::from_ref(&x), |cx, x| cx.patches(&x[0], [2, 2], [1, 2]));
        assert_eq!(y.values(), [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
        let y = check.run(&[x], |cx, x| cx.patches(&x[0], [1, 2], [1, 1]));
        assert_eq!(y.values(), [1.0, 2.0]);
    }
}
