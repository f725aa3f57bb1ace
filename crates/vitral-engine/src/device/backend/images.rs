//! Patches and pooling.

use crate::tensor::Tensor;

/// Images and feature maps.
pub(crate) trait Images {
    /// `[batch, channels, height, width]` to `[batch, patches, channels · height · width of a patch]`.
    fn patches(&self, images: &Tensor, layout: &PatchLayout) -> Tensor;
    /// The gradient of the same.
    fn patches_backward(&self, grad: &Tensor, layout: &PatchLayout) -> Tensor;
    /// The maximum over windows, and which place of each window won (−1 for none).
    fn max_pool(&self, x: &Tensor, windows: &Windows) -> (Tensor, Tensor);
    /// The gradient of the same.
    fn max_pool_backward(&self, grad: &Tensor, winners: &Tensor, windows: &Windows) -> Tensor;
    /// The mean over windows without padding.
    fn average_pool(&self, x: &Tensor, windows: &Windows) -> Tensor;
    /// The gradient of the same.
    fn average_pool_backward(&self, grad: &Tensor, windows: &Windows) -> Tensor;
}

/// Where the pixels of a patch row are in the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PatchLayout {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) patch: [usize; 2],
    pub(crate) grid: [usize; 2],
}

impl PatchLayout {
    /// Values of a patch.
    pub(crate) fn row(&self) -> usize {
        self.channels * self.patch[0] * self.patch[1]
    }

    /// Whether the image divides into patches.
    pub(crate) fn is_whole(&self) -> bool {
        self.grid[0] * self.patch[0] == self.height && self.grid[1] * self.patch[1] == self.width
    }

    /// Calls `copy(offset in the images, offset in the patch matrix, count)` for every run of pixels of one row of
    /// patches. Pixels outside the image are left out.
    pub(crate) fn runs(&self, image: usize, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
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

/// Windows over images `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) batch: usize,
    /// Height, width and channels.
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 2],
    pub(crate) before: [usize; 2],
    pub(crate) size: usize,
    pub(crate) stride: usize,
}

impl Windows {
    pub(crate) fn channels(&self) -> usize {
        self.input[2]
    }

    /// Values of an image going in.
    pub(crate) fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    /// Values of an image coming out.
    pub(crate) fn outputs(&self) -> usize {
        self.output[0] * self.output[1] * self.channels()
    }

    /// Calls `visit(output offset, input offset, place in the window)` for every pixel in every window of an image;
    /// offsets are of the first channel.
    #[inline(always)]
    pub(crate) fn visit(&self, mut visit: impl FnMut(usize, usize, u32)) {
        let ([height, width, channels], [above, left]) = (self.input, self.before);
        for y in 0..self.output[0] {
            for x in 0..self.output[1] {
                let output = (y * self.output[1] + x) * channels;
                for ky in 0..self.size {
                    for kx in 0..self.size {
                        let (py, px) = (y * self.stride + ky, x * self.stride + kx);
                        if (above..above + height).contains(&py) && (left..left + width).contains(&px) {
                            let input = ((py - above) * width + px - left) * channels;
                            visit(output, input, (ky * self.size + kx) as u32);
                        }
                    }
                }
            }
        }
    }
}
