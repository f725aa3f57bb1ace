//! Convolutions as products of columns, channels last.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::buffer::Buffer;
use super::kernels::{Gemm, GemmEpilogue, MatrixA, MatrixB, PackedB, ReadyB, pack};
use super::multiply::multiply;
use super::parameter::{derived, plain};
use super::processor::{Processor, SERIAL_WORK};
use super::{Cpu, values};
use crate::device::backend::{ConvolutionCall, ConvolutionExtents, ConvolutionGradients};
use crate::dtype::DType;
use crate::tensor::Tensor;

/// Values of columns that all threads make together at a time: a few megabytes, so that they need not come back from
/// memory.
const COLUMNS_IN_CACHE: usize = 1 << 20;
/// Values of unfolded columns that one thread makes at a time: they and the weights share its L2 cache.
const COLUMNS_OF_THREAD: usize = 1 << 16;
/// Rows of a product below which its weights are not read often enough to be worth fetching.
const LEAST_ROWS: usize = 56;

thread_local! {
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A few images of a convolution.
struct Part {
    extents: ConvolutionExtents,
    /// Where their values are in the input.
    input: Range<usize>,
    /// Their rows of the product.
    rows: Range<usize>,
}

impl Part {
    /// Where their values are in the output.
    fn outputs(&self) -> Range<usize> {
        self.rows.start * self.extents.outputs..self.rows.end * self.extents.outputs
    }
}

impl ConvolutionExtents {
    /// A few images at a time, whose columns stay in the cache between being made and being multiplied.
    fn parts(self) -> impl Iterator<Item = Part> {
        let images =
            (COLUMNS_IN_CACHE / (self.grid[0] * self.grid[1] * self.depth()).max(1)).clamp(1, self.batch.max(1));
        (0..self.batch).step_by(images).map(move |first| {
            let images = images.min(self.batch - first);
            let extents = ConvolutionExtents { batch: images, ..self };
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

    /// Calls `copy(input offset, column offset, count)` for every run of pixels under a row of the kernel, at every
    /// place of one output row.
    #[inline(always)]
    fn pixels(&self, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let (image, y) = (row / self.grid[0], row % self.grid[0]);
        for x in 0..self.grid[1] {
            let target = (row * self.grid[1] + x) * self.depth();
            let left = x * self.stride;
            // The part of the kernel's row that overlaps the input.
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
            // There is nothing under the part of a kernel that sticks out.
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
    fn columns(&self, cpu: &Processor, x: &[f32]) -> Arc<Buffer> {
        cpu.filled(self.rows() * self.depth(), |out| {
            let row = self.grid[1] * self.depth();
            cpu.parallel_rows(out, row, 2, |first, out| self.unfold(x, first..first + out.len() / row.max(1), out));
        })
    }

    /// The product of the columns with packed weights. Each thread makes the columns that it multiplies, a few rows of
    /// pixels at a time, where they stay in its cache.
    fn multiply(&self, cpu: &Processor, x: &[f32], matrix: &PackedB, bias: Option<&[f32]>, out: &mut [f32]) {
        let (pixels, depth) = (self.grid[1], self.depth());
        let step = (COLUMNS_OF_THREAD / (pixels * depth).max(1)).max(LEAST_ROWS.div_ceil(pixels.max(1)));
        let grain = SERIAL_WORK.div_ceil((pixels * depth * self.outputs).max(1));
        let row = pixels * self.outputs;
        cpu.parallel_rows(out, row, grain, |first, out| {
            COLUMNS.with_borrow_mut(|columns| {
                for (turn, out) in out.chunks_mut((step * row).max(1)).enumerate() {
                    let first = first + turn * step;
                    let rows = first..first + out.len() / row.max(1);
                    let count = rows.len() * pixels;
                    columns.resize(columns.len().max(count * depth), 0.0);
                    let columns = &mut columns[..count * depth];
                    self.unfold(x, rows, columns);
                    let mut gemm = Gemm::new(count, MatrixA::Rows { data: columns, stride: depth }, matrix);
                    gemm.epilogue.bias = bias;
                    gemm.run_serial(cpu.isa(), out, self.outputs);
                }
            });
        });
    }

    /// Adds columns back to the pixels that they were taken from.
    fn fold(&self, cpu: &Processor, columns: &[f32], out: &mut [f32]) {
        cpu.parallel_chunks(out, self.sample(), |image, out| {
            let first = image * self.sample();
            out.fill(0.0);
            for row in image * self.grid[0]..(image + 1) * self.grid[0] {
                self.pixels(row, |source, target, count| {
                    let out = &mut out[source - first..][..count];
                    for (out, column) in out.iter_mut().zip(&columns[target..target + count]) {
                        *out += column;
                    }
                });
            }
        });
    }

    /// `[out, in, height, width]` as a matrix `[out, height · width · in]`, standardized.
    fn matrix(&self, weight: &[f32], standardize: Option<f32>) -> Vec<f32> {
        let area = self.kernel[0] * self.kernel[1];
        let mut matrix = vec![0.0; weight.len()];
        let rows = weight.chunks_exact(self.depth()).zip(matrix.chunks_exact_mut(self.depth()));
        for (filter, row) in rows {
            let (mean, reciprocal) = standardize.map_or((0.0, 1.0), |epsilon| moments(filter, epsilon));
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

pub(super) fn forward(device: &Cpu, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor {
    let (cpu, extents) = (&device.processor, call.extents);
    let matrix = derived(call.weight, |weight| {
        let matrix = extents.matrix(weight, call.standardize);
        let b = MatrixB::Columns { data: &matrix, stride: extents.depth() };
        pack(cpu, b, extents.depth(), extents.outputs, DType::F32)
    });
    let bias = call.bias.map(plain);
    device.tensor([extents.batch, extents.grid[0], extents.grid[1], extents.outputs], |out| {
        if extents.is_linear() {
            let a = MatrixA::Rows { data: values(x), stride: extents.channels };
            let mut gemm = Gemm::new(extents.rows(), a, &matrix);
            gemm.epilogue.bias = bias;
            gemm.run(cpu, out);
        } else {
            extents.multiply(cpu, values(x), &matrix, bias, out);
        }
    })
}

pub(super) fn backward(
    device: &Cpu,
    x: &Tensor,
    grad: &Tensor,
    call: &ConvolutionCall<'_>,
    wanted: ConvolutionGradients<'_>,
) -> Option<Tensor> {
    let (cpu, extents) = (&device.processor, call.extents);
    let (rows, depth, outputs) = (extents.rows(), extents.depth(), extents.outputs);
    let (weight, x_values, upstream) = (plain(call.weight), values(x), values(grad));
    if let Some(gradients) = wanted.gradients {
        let flat = gradients.cpu_mut();
        if let Some(range) = wanted.weight_range {
            let mut matrix = vec![0.0; outputs * depth];
            let mut add = |rows: usize, grad: &[f32], unfolded: &[f32]| {
                let a = MatrixA::Columns { data: grad, stride: outputs };
                let b = MatrixB::Rows { data: unfolded, stride: depth };
                multiply(cpu, (outputs, rows, depth), a, b, &mut matrix, true);
            };
            if extents.is_linear() {
                add(rows, upstream, x_values);
            } else {
                for part in extents.parts() {
                    let unfolded = part.extents.columns(cpu, &x_values[part.input.clone()]);
                    add(part.rows.len(), &upstream[part.outputs()], unfolded.as_slice());
                }
            }
            extents.add_weight_gradient(&matrix, weight, call.standardize, &mut flat[range]);
        }
        if let Some(range) = wanted.bias_range {
            cpu.add_row_sums(upstream, &mut flat[range]);
        }
    }
    wanted.input.then(|| {
        let matrix = extents.matrix(weight, call.standardize);
        let b = ReadyB::new(cpu, MatrixB::Rows { data: &matrix, stride: depth }, outputs, depth);
        let multiply = |grad: &[f32], out: &mut [f32]| {
            let a = MatrixA::Rows { data: grad, stride: outputs };
            let (rows, panels, epilogue) = (grad.len() / outputs, b.panels(), GemmEpilogue::default());
            Gemm { rows, columns: depth, depth: outputs, a, norm: None, panels, epilogue, accumulate: false }
                .run(cpu, out);
        };
        device.tensor(x.shape(), |out| {
            if extents.is_linear() {
                return multiply(upstream, out);
            }
            for part in extents.parts() {
                let grad = &upstream[part.outputs()];
                let unfolded = cpu.filled(part.rows.len() * depth, |unfolded| multiply(grad, unfolded));
                part.extents.fold(cpu, unfolded.as_slice(), &mut out[part.input.clone()]);
            }
        })
    })
}

impl ConvolutionExtents {
    /// Adds the gradient of a matrix as [`ConvolutionExtents::matrix`] makes it to that of the weight.
    fn add_weight_gradient(&self, matrix: &[f32], weight: &[f32], standardize: Option<f32>, sums: &mut [f32]) {
        let depth = self.depth();
        let area = self.kernel[0] * self.kernel[1];
        let filters = sums.chunks_exact_mut(depth).zip(matrix.chunks_exact(depth)).zip(weight.chunks_exact(depth));
        for ((sums, row), filter) in filters {
            let gradient = |i: usize| row[i % area * self.channels + i / area];
            let Some(epsilon) = standardize else {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum += gradient(i);
                }
                continue;
            };
            let (mean, reciprocal) = moments(filter, epsilon);
            let normed = |i: usize| (filter[i] - mean) * reciprocal;
            let average = (0..depth).map(gradient).sum::<f32>() / depth as f32;
            let along = (0..depth).map(|i| gradient(i) * normed(i)).sum::<f32>() / depth as f32;
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += reciprocal * (gradient(i) - average - normed(i) * along);
            }
        }
    }
}
