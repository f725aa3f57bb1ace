//! Images to rows of pixels, and the two orders of an image's extents.

use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::SharedMut;
use crate::tape::Context;
use crate::tensor::Tensor;

/// Where the pixels of a patch row lie in the image.
#[derive(Clone, Copy)]
struct Layout {
    channels: usize,
    height: usize,
    width: usize,
    patch: [usize; 2],
    grid: [usize; 2],
}

impl Layout {
    fn row(&self) -> usize {
        self.channels * self.patch[0] * self.patch[1]
    }

    /// Calls `copy(offset in the image, offset in the patch matrix, count)` for every run of pixels of one row of
    /// patches. Pixels outside the image are left out.
    fn runs(&self, image: usize, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let [patch_height, patch_width] = self.patch;
        for column in 0..self.grid[1] {
            let patch = (image * self.grid[0] + row) * self.grid[1] + column;
            for channel in 0..self.channels {
                for y in 0..patch_height {
                    let (pixel_y, pixel_x) = (row * patch_height + y, column * patch_width);
                    if pixel_y >= self.height || pixel_x >= self.width {
                        continue;
                    }
                    let source = ((image * self.channels + channel) * self.height + pixel_y) * self.width + pixel_x;
                    let target = patch * self.row() + (channel * patch_height + y) * patch_width;
                    copy(source, target, patch_width.min(self.width - pixel_x));
                }
            }
        }
    }
}

impl Context<'_> {
    /// Cuts images `[batch, channels, height, width]` into patches `[batch, patches, channels · height · width of a
    /// patch]`, row by row; a linear map of it is the patch embedding, the same as a convolution whose stride is its
    /// kernel. An image that does not divide is padded with zeros at the right and bottom.
    pub fn patches(&self, images: &Tensor, patch: [usize; 2]) -> Tensor {
        let [batch, channels, height, width] = images.shape()[..] else {
            panic!("images are [batch, channels, height, width], not {:?}", images.shape())
        };
        let grid = [height.div_ceil(patch[0]), width.div_ceil(patch[1])];
        let layout = Layout { channels, height, width, patch, grid };
        let whole = grid[0] * patch[0] == height && grid[1] * patch[1] == width;
        let output = Tensor::filled(self.device, [batch, grid[0] * grid[1], layout.row()], |out| {
            if !whole {
                out.fill(0.0);
            }
            let out = SharedMut::new(out);
            self.device.parallel_ranges(batch * grid[0], 2, |rows| {
                for row in rows {
                    layout.runs(row / grid[0], row % grid[0], |source, target, count| {
                        out.part(target, count).copy_from_slice(&images.values()[source..source + count]);
                    });
                }
            });
        });
        let (node, shape) = (images.node, images.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        out.fill(0.0);
                        for row in 0..batch * grid[0] {
                            layout.runs(row / grid[0], row % grid[0], |source, target, count| {
                                out[source..source + count].copy_from_slice(&grad.values()[target..target + count]);
                            });
                        }
                    })
                });
            })
        })
    }

    /// `[batch, rows, columns]` to `[batch, columns, rows]`: with pixels as one extent, channels first to channels last
    /// and back.
    pub fn swap_last_two(&self, x: &Tensor) -> Tensor {
        let [batch, rows, columns] = x.shape()[..] else { panic!("three extents, not {:?}", x.shape()) };
        let node = x.node;
        self.record(swapped(self.device, x, [batch, rows, columns]), node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| swapped(g.device, grad, [batch, columns, rows]));
            })
        })
    }
}

fn swapped(device: &Cpu, x: &Tensor, [batch, rows, columns]: [usize; 3]) -> Tensor {
    Tensor::filled(device, [batch, columns, rows], |out| {
        for (x, out) in x.values().chunks_exact(rows * columns).zip(out.chunks_exact_mut(rows * columns)) {
            for (row, x) in x.chunks_exact(columns).enumerate() {
                for (column, &x) in x.iter().enumerate() {
                    out[column * rows + row] = x;
                }
            }
        }
    })
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
        check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.linear(&cx.patches(&x[0], [2, 3]), linear));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        check.differences(&[check.input(&[2, 3, 5, 7])], |cx, x| cx.patches(&x[0], [2, 3]));
        check.differences(&[check.input(&[2, 3, 5])], |cx, x| cx.swap_last_two(&x[0]));
    }

    #[test]
    fn what_does_not_divide_is_padded_with_zeros() {
        let check = Check::new();
        let x = check.tensor(&[1, 1, 1, 3], &[1.0, 2.0, 3.0]);
        let y = check.run(&[x], |cx, x| cx.patches(&x[0], [2, 2]));
        assert_eq!(y.values(), [1.0, 2.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
    }
}
