//! Convolution with channels last and weight standardisation: what a stem is made of.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::arena::ParameterId;
use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::kernels::{
    Epilogue, Gemm, Lhs, Operand, PackedRhs, Rhs, SERIAL_WORK, SharedMut, pack_rhs_parallel,
};
use crate::ops::linear::multiply;
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

/// How the border is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many on every side.
    Explicit(usize),
    /// So that the output is ⌈input / stride⌉, the odd one at the end: TensorFlow's and JAX's SAME.
    Same,
}

impl Padding {
    /// Output extent and padding before, of one axis.
    pub(crate) fn axis(self, extent: usize, kernel: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Explicit(pad) => {
                assert!(extent + 2 * pad >= kernel, "a kernel of {kernel} over {extent} padded by {pad}");
                ((extent + 2 * pad - kernel) / stride + 1, pad)
            }
            Padding::Same => {
                let output = extent.div_ceil(stride);
                (output, ((output - 1) * stride + kernel).saturating_sub(extent) / 2)
            }
        }
    }
}

/// A convolution.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// `[out, in, height, width]`.
    pub weight: ParameterId,
    /// `[out]`.
    pub bias: Option<ParameterId>,
    /// Step of the kernel, both ways.
    pub stride: usize,
    /// Border.
    pub padding: Padding,
    /// Epsilon of weight standardisation (arXiv:1903.10520), where it is used: each output's weights get mean 0 and
    /// variance 1.
    pub standardise: Option<f32>,
}

/// Numbers of columns that all threads make together at a time: a few megabytes, so that they need not come back from memory.
const COLUMNS_IN_CACHE: usize = 1 << 20;
/// Numbers of columns that one thread makes for itself at a time: they and the weights share its second cache.
const COLUMNS_OF_THREAD: usize = 1 << 16;
/// Rows of a product below which its weights are not read often enough to be worth fetching.
const LEAST_ROWS: usize = 56;

thread_local! {
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A few images of a convolution.
struct Part {
    extents: Extents,
    /// Where their numbers lie in the input.
    input: Range<usize>,
    /// Their rows of the product.
    rows: Range<usize>,
}

impl Part {
    /// Where their numbers lie in the output.
    fn outputs(&self) -> Range<usize> {
        self.rows.start * self.extents.outputs..self.rows.end * self.extents.outputs
    }
}

/// Extents of one convolution.
#[derive(Clone, Copy)]
struct Extents {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    outputs: usize,
    kernel: [usize; 2],
    grid: [usize; 2],
    before: [usize; 2],
    stride: usize,
}

impl Extents {
    fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    fn rows(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Numbers of one image of the input.
    fn sample(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// A few images at a time, whose columns stay in the cache between being made and being multiplied.
    fn parts(self) -> impl Iterator<Item = Part> {
        let images =
            (COLUMNS_IN_CACHE / (self.grid[0] * self.grid[1] * self.depth()).max(1)).clamp(1, self.batch.max(1));
        (0..self.batch).step_by(images).map(move |first| {
            let images = images.min(self.batch - first);
            let extents = Extents { batch: images, ..self };
            Part {
                extents,
                input: first * self.sample()..(first + images) * self.sample(),
                rows: first * self.grid[0] * self.grid[1]..(first + images) * self.grid[0] * self.grid[1],
            }
        })
    }

    /// Whether the input itself is the matrix of columns.
    fn is_linear(&self) -> bool {
        self.kernel == [1, 1] && self.stride == 1 && self.before == [0, 0]
    }

    /// Calls `copy(input offset, column offset, count)` for every run of pixels under a row of the kernel, at every place of
    /// one output row.
    #[inline(always)]
    fn pixels(&self, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let (image, y) = (row / self.grid[0], row % self.grid[0]);
        for x in 0..self.grid[1] {
            let target = (row * self.grid[1] + x) * self.depth();
            let left = x * self.stride;
            // The part of the kernel's row that lies over the input.
            let first = self.before[1].saturating_sub(left).min(self.kernel[1]);
            let last = (self.before[1] + self.width).saturating_sub(left).min(self.kernel[1]);
            for ky in 0..self.kernel[0] {
                let py = y * self.stride + ky;
                if first < last && (self.before[0]..self.before[0] + self.height).contains(&py) {
                    let pixel =
                        (image * self.height + py - self.before[0]) * self.width + left + first - self.before[1];
                    let column = target + (ky * self.kernel[1] + first) * self.channels;
                    copy(pixel * self.channels, column, (last - first) * self.channels);
                }
            }
        }
    }

    /// Some rows of pixels of the output as rows of a matrix `[output pixels, kernel pixels · channels]`.
    fn unfold(&self, x: &[f32], rows: Range<usize>, out: &mut [f32]) {
        let depth = self.depth();
        let first = rows.start * self.grid[1] * depth;
        let inside = |at: usize, axis: usize, size: usize| {
            let (start, before) = (at * self.stride, self.before[axis]);
            start >= before && start + self.kernel[axis] <= before + size
        };
        for y in rows {
            // Nothing lies under the part of a kernel that sticks out.
            let whole = inside(y % self.grid[0], 0, self.height);
            let columns = out[y * self.grid[1] * depth - first..].chunks_exact_mut(depth).take(self.grid[1]);
            for (_, column) in columns.enumerate().filter(|&(x, _)| !(whole && inside(x, 1, self.width))) {
                column.fill(0.0);
            }
            self.pixels(y, |source, target, count| {
                out[target - first..][..count].copy_from_slice(&x[source..source + count]);
            });
        }
    }

    /// The input as a matrix `[batch · output pixels, kernel pixels · channels]`.
    fn columns(&self, device: &Cpu, x: &[f32]) -> Arc<Buffer> {
        device.filled(self.rows() * self.depth(), |out| {
            let row = self.grid[1] * self.depth();
            let out = SharedMut::new(out);
            device.parallel_ranges(self.batch * self.grid[0], 2, |rows| {
                self.unfold(x, rows.clone(), out.part(rows.start * row, rows.len() * row));
            });
        })
    }

    /// The product of the columns with packed weights. Each thread makes the columns that it multiplies, a few rows of pixels
    /// at a time, where they stay in its cache.
    fn multiply(&self, device: &Cpu, x: &[f32], matrix: &PackedRhs, bias: Option<&[f32]>, out: &mut [f32]) {
        let (pixels, depth) = (self.grid[1], self.depth());
        let step = (COLUMNS_OF_THREAD / (pixels * depth).max(1)).max(LEAST_ROWS.div_ceil(pixels.max(1)));
        let grain = SERIAL_WORK.div_ceil((pixels * depth * self.outputs).max(1));
        let out = SharedMut::new(out);
        device.parallel_ranges(self.batch * self.grid[0], grain, |rows| {
            COLUMNS.with_borrow_mut(|columns| {
                for first in rows.clone().step_by(step) {
                    let part = first..(first + step).min(rows.end);
                    let count = part.len() * pixels;
                    columns.resize(columns.len().max(count * depth), 0.0);
                    let columns = &mut columns[..count * depth];
                    self.unfold(x, part, columns);
                    let mut gemm = Gemm::new(count, Lhs::Rows { data: columns, stride: depth }, matrix);
                    gemm.epilogue.bias = bias;
                    gemm.run_serial(device.isa(), out, first * pixels * self.outputs, self.outputs);
                }
            });
        });
    }

    /// Adds columns back to the pixels that they were taken from.
    fn fold(&self, device: &Cpu, columns: &[f32], out: &mut [f32]) {
        let out = SharedMut::new(out);
        device.parallel(self.batch, |image| {
            let first = image * self.sample();
            let out = out.part(first, self.sample());
            out.fill(0.0);
            for row in image * self.grid[0]..(image + 1) * self.grid[0] {
                self.pixels(row, |source, target, count| {
                    let out = &mut out[source - first..][..count];
                    for (out, pulled) in out.iter_mut().zip(&columns[target..target + count]) {
                        *out += pulled;
                    }
                });
            }
        });
    }

    /// `[out, in, height, width]` as a matrix `[out, height · width · in]`, standardised.
    fn matrix(&self, weight: &[f32], standardise: Option<f32>) -> Vec<f32> {
        let area = self.kernel[0] * self.kernel[1];
        let mut matrix = vec![0.0; weight.len()];
        let rows = weight.chunks_exact(self.depth()).zip(matrix.chunks_exact_mut(self.depth()));
        for (filter, row) in rows {
            let (mean, reciprocal) = standardise.map_or((0.0, 1.0), |epsilon| moments(filter, epsilon));
            for (i, &w) in filter.iter().enumerate() {
                row[i % area * self.channels + i / area] = (w - mean) * reciprocal;
            }
        }
        matrix
    }
}

/// Mean and reciprocal deviation of a filter.
fn moments(filter: &[f32], epsilon: f32) -> (f32, f32) {
    let count = filter.len() as f64;
    let mean = filter.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
    let variance = filter.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32)
}

impl Context<'_> {
    /// A convolution of `[batch, height, width, channels]`.
    pub fn convolution(&self, x: &Tensor, convolution: &Convolution) -> Tensor {
        let spec = self.parameters.declarations().spec(convolution.weight);
        let [outputs, channels, kernel_height, kernel_width] = spec.shape[..] else {
            panic!("`{}` of shape {:?} is no convolution", spec.name, spec.shape)
        };
        let [batch, height, width, found] = x.shape()[..] else {
            panic!("a convolution takes [batch, height, width, channels], not {:?}", x.shape())
        };
        assert_eq!(found, channels, "`{}` takes {channels} channels, not {:?}", spec.name, x.shape());
        let (rows, above) = convolution.padding.axis(height, kernel_height, convolution.stride);
        let (columns, left) = convolution.padding.axis(width, kernel_width, convolution.stride);
        let extents = Extents {
            batch,
            height,
            width,
            channels,
            outputs,
            kernel: [kernel_height, kernel_width],
            grid: [rows, columns],
            before: [above, left],
            stride: convolution.stride,
        };
        let matrix = self.parameters.derived(convolution.weight, |weight| {
            let matrix = extents.matrix(weight, convolution.standardise);
            let rhs = Rhs::Columns { data: &matrix, stride: extents.depth() };
            pack_rhs_parallel(self.device, rhs, extents.depth(), outputs)
        });
        let bias = convolution.bias.map(|bias| self.parameters.plain(bias));
        let output = Tensor::filled(self.device, [batch, rows, columns, outputs], |out| {
            if extents.is_linear() {
                let mut gemm = Gemm::new(extents.rows(), Lhs::Rows { data: x.values(), stride: channels }, &matrix);
                gemm.epilogue.bias = bias;
                gemm.run(self.device, out);
            } else {
                extents.multiply(self.device, x.values(), &matrix, bias, out);
            }
        });
        let (saved, convolution) = (x.clone(), *convolution);
        let needed = self.depends(x, std::iter::once(convolution.weight).chain(convolution.bias));
        self.record(output, needed, || {
            Box::new(move |grad, gradients| backward(&convolution, extents, &saved, grad, gradients))
        })
    }
}

fn backward(convolution: &Convolution, extents: Extents, x: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let device = gradients.device;
    let (rows, depth, outputs) = (extents.rows(), extents.depth(), extents.outputs);
    let weight = gradients.parameters.plain(convolution.weight);
    if let Some(sums) = gradients.parameter(convolution.weight) {
        let mut matrix = vec![0.0; outputs * depth];
        let mut add = |rows: usize, grad: &[f32], unfolded: &[f32]| {
            let lhs = Lhs::Columns { data: grad, stride: outputs };
            let rhs = Rhs::Rows { data: unfolded, stride: depth };
            multiply(device, (outputs, rows, depth), lhs, rhs, &mut matrix, true);
        };
        if extents.is_linear() {
            add(rows, grad.values(), x.values());
        } else {
            for part in extents.parts() {
                let unfolded = part.extents.columns(device, &x.values()[part.input.clone()]);
                add(part.rows.len(), &grad.values()[part.outputs()], unfolded.as_slice());
            }
        }
        let area = extents.kernel[0] * extents.kernel[1];
        let filters = sums.chunks_exact_mut(depth).zip(matrix.chunks_exact(depth)).zip(weight.chunks_exact(depth));
        for ((sums, row), filter) in filters {
            let pulled = |i: usize| row[i % area * extents.channels + i / area];
            let Some(epsilon) = convolution.standardise else {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum += pulled(i);
                }
                continue;
            };
            let (mean, reciprocal) = moments(filter, epsilon);
            let normed = |i: usize| (filter[i] - mean) * reciprocal;
            let average = (0..depth).map(pulled).sum::<f32>() / depth as f32;
            let along = (0..depth).map(|i| pulled(i) * normed(i)).sum::<f32>() / depth as f32;
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += reciprocal * (pulled(i) - average - normed(i) * along);
            }
        }
    }
    if let Some(sums) = convolution.bias.and_then(|bias| gradients.parameter(bias)) {
        device.add_row_sums(grad.values(), sums);
    }
    gradients.add(x.node, |_| {
        let matrix = extents.matrix(weight, convolution.standardise);
        let rhs = Operand::new(device, Rhs::Rows { data: &matrix, stride: depth }, outputs, depth);
        let multiply = |grad: &[f32], out: &mut [f32]| {
            let lhs = Lhs::Rows { data: grad, stride: outputs };
            let (rows, panels, epilogue) = (grad.len() / outputs, rhs.panels(), Epilogue::default());
            Gemm { rows, columns: depth, depth: outputs, lhs, norm: None, panels, epilogue, accumulate: false }
                .run(device, out);
        };
        Tensor::filled(device, x.shape(), |out| {
            if extents.is_linear() {
                return multiply(grad.values(), out);
            }
            for part in extents.parts() {
                let grad = &grad.values()[part.outputs()];
                let unfolded = device.filled(part.rows.len() * depth, |unfolded| multiply(grad, unfolded));
                part.extents.fold(device, unfolded.as_slice(), &mut out[part.input.clone()]);
            }
        })
    });
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equals_pytorch() {
        for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2)] {
            for same in [false, true] {
                let name = format!("conv2d_{}{kernel}_stride_{stride}", if same { "same_" } else { "" });
                if same && matches!((kernel, stride), (1, 1) | (7, 1)) {
                    continue;
                }
                let golden = Golden::load(&name).channels_last();
                let padding = if same { Padding::Same } else { Padding::Explicit(golden.scalar("padding") as usize) };
                let mut check = Check::new();
                let weight = check.golden(&golden, "weight");
                let bias = (!same).then(|| check.golden(&golden, "bias"));
                let convolution = Convolution { weight, bias, stride, padding, standardise: None };
                check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
            }
        }
    }

    /// One sum after the other, as the definition says.
    fn plain(x: &Tensor, weight: &[f32], [outputs, kernel]: [usize; 2], stride: usize, pad: usize) -> Vec<f64> {
        let [batch, height, width, channels] = x.shape()[..] else { panic!("{:?}", x.shape()) };
        let (rows, columns) = ((height + 2 * pad - kernel) / stride + 1, (width + 2 * pad - kernel) / stride + 1);
        let mut out = vec![0.0; batch * rows * columns * outputs];
        for (i, out) in out.iter_mut().enumerate() {
            let (o, left, top) = (i % outputs, i / outputs % columns * stride, i / outputs / columns % rows * stride);
            let image = i / outputs / columns / rows;
            for tap in 0..kernel * kernel {
                let (y, x_) = (top + tap / kernel, left + tap % kernel);
                if (pad..pad + height).contains(&y) && (pad..pad + width).contains(&x_) {
                    let pixel = ((image * height + y - pad) * width + x_ - pad) * channels;
                    for c in 0..channels {
                        let w = weight[(o * channels + c) * kernel * kernel + tap];
                        *out += f64::from(w) * f64::from(x.values()[pixel + c]);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn equals_its_definition_where_a_thread_takes_several_turns() {
        for (shape, outputs, kernel, stride, pad) in [
            ([1, 37, 29, 16], 5, 3, 1, 1),
            ([3, 23, 31, 17], 33, 3, 2, 1),
            ([2, 19, 7, 70], 3, 5, 1, 0),
            ([5, 4, 4, 3], 8, 3, 1, 1),
            ([2, 3, 70, 150], 2, 1, 2, 1),
        ] {
            for threads in [1, 3] {
                let mut check = Check::with_threads(threads);
                let weight = check.plain(&[outputs, shape[3], kernel, kernel]);
                let convolution =
                    Convolution { weight, bias: None, stride, padding: Padding::Explicit(pad), standardise: None };
                let x = check.input(&shape);
                let expected = plain(&x, &check.values(weight), [outputs, kernel], stride, pad);
                let found = check.run(std::slice::from_ref(&x), |cx, x| cx.convolution(&x[0], &convolution));
                assert_eq!(found.values().len(), expected.len());
                let deviation = (expected.iter().map(|e| e * e).sum::<f64>() / expected.len() as f64).sqrt();
                for (found, expected) in found.values().iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs() / deviation;
                    assert!(off < 1e-5, "{shape:?} by {kernel}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn standardised_weights_equal_timm() {
        for (name, padding) in [
            ("std_conv2d", Padding::Explicit(1)),
            ("std_conv2d_1e_8", Padding::Explicit(1)),
            ("std_conv2d_1x1", Padding::Explicit(0)),
            ("std_conv2d_same", Padding::Same),
            ("std_conv2d_same_1e_8", Padding::Same),
            ("std_conv2d_same_1e_5", Padding::Same),
        ] {
            let golden = Golden::load(name).channels_last();
            let mut check = Check::new();
            let convolution = Convolution {
                weight: check.golden(&golden, "weight"),
                bias: None,
                stride: golden.scalar("stride") as usize,
                padding,
                standardise: Some(golden.scalar("epsilon")),
            };
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (kernel, stride, padding, standardise) in [
            (3, 2, Padding::Same, None),
            (2, 1, Padding::Explicit(1), Some(1e-3)),
            (1, 1, Padding::Explicit(0), Some(1e-3)),
        ] {
            let mut check = Check::new();
            let convolution = Convolution {
                weight: check.plain(&[3, 2, kernel, kernel]),
                bias: Some(check.vector(3)),
                stride,
                padding,
                standardise,
            };
            check.differences(&[check.input(&[2, 5, 4, 2])], |cx, x| cx.convolution(&x[0], &convolution));
        }
    }
}
