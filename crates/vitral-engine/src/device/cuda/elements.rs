//! Sums, factors, dropping, non-linearities, softmax.

use std::ops::Range;

use super::api::driver::Grid;
use super::launch::{Arg, Source, rows, spread};
use super::memory::{Element, Memory};
use super::parameters::Parameter;
use super::{Cuda, gradient_memory, stored};
use crate::activation::Activation;
use crate::device::backend::{Draw, Elements};
use crate::device::storage::{FlatBuffer, ParameterView};
use crate::tensor::Tensor;

/// Blocks of rows that sums of columns are made of at first: the same whatever the card, so that bits are.
const STRIPS: usize = 128;

/// The number of a non-linearity in the kernels; 0 is none.
pub(super) fn activation_code(activation: Option<Activation>) -> usize {
    match activation {
        None => 0,
        Some(Activation::Gelu) => 1,
        Some(Activation::GeluTanh) => 2,
        Some(Activation::QuickGelu) => 3,
        Some(Activation::Relu) => 4,
        Some(Activation::Silu) => 5,
        Some(Activation::Tanh) => 6,
    }
}

impl Cuda {
    /// Values in 32 bits that begin their memory.
    pub(super) fn values_of(&self, parameter: Parameter<'_>) -> Memory {
        let (memory, start) = parameter.wide(self);
        if start == 0 && memory.len() == parameter.count {
            return memory;
        }
        let out = self.allocate(Element::F32, parameter.count);
        self.inner.run(|driver| driver.copy(out.address(0), memory.address(start), out.bytes()));
        out
    }

    pub(super) fn activate(&self, x: &Memory, out: &Memory, activation: Activation) {
        let (count, kind) = (x.len(), activation_code(Some(activation)));
        let arguments = [Arg::Of(x), Arg::Of(out), Arg::Count(count), Arg::Int(kind)];
        self.by_eight(x.element, "activation", count, &arguments);
    }

    /// `x ∘ times + plus` of every row, in the element of `x`.
    fn row_affine(&self, x: &Tensor, times: Option<&Memory>, plus: Option<&Memory>) -> Tensor {
        let (memory, width) = (stored(x), x.shape().last());
        let out = self.allocate(memory.element, memory.len());
        let count = x.rows();
        let arguments =
            [Arg::Of(memory), Arg::Maybe(times), Arg::Maybe(plus), Arg::Of(&out), Arg::Count(count), Arg::Int(width)];
        self.by_eight(memory.element, "row_affine", memory.len(), &arguments);
        Cuda::tensor(x.shape(), out)
    }

    /// Sums of the columns of `x`, or of `x ∘ y`, added to or written over `width` values.
    pub(super) fn column_sums(
        &self,
        x: &Memory,
        y: Option<&Memory>,
        width: usize,
        to: (&Memory, usize),
        accumulate: bool,
    ) {
        let count = x.len() / width.max(1);
        if count == 0 {
            if !accumulate {
                self.inner.run(|driver| driver.clear(to.0.address(to.1), 4 * width));
            }
            return;
        }
        // A few rows at least for each of a block's eight threads of a column.
        let share = count.div_ceil(STRIPS).max(32).next_multiple_of(8);
        let strips = count.div_ceil(share);
        let partial = self.allocate(Element::F32, strips * width);
        let lanes = if width.is_multiple_of(8) { 8 } else { 1 };
        let grid = Grid { blocks: [width.div_ceil(32 * lanes), strips, 1], threads: 256, shared: 0 };
        let arguments =
            [Arg::Of(x), Arg::Maybe(y), Arg::Of(&partial), Arg::Count(count), Arg::Int(width), Arg::Int(share)];
        self.launch_for(x.element, Source::Elements, &format!("column_sums_{lanes}"), grid, &arguments);
        self.sum_blocks((&partial, 0), strips, [width, width], to, accumulate);
    }

    /// Sums of `blocks` rows of partial sums: of so many columns, from one on, of rows of so many values.
    pub(super) fn sum_blocks(
        &self,
        partial: (&Memory, usize),
        blocks: usize,
        [width, stride]: [usize; 2],
        to: (&Memory, usize),
        accumulate: bool,
    ) {
        let grid = Grid { blocks: [width.div_ceil(32), 1, 1], threads: 256, shared: 0 };
        let arguments = [
            Arg::From(partial.0, partial.1),
            Arg::From(to.0, to.1),
            Arg::Int(blocks),
            Arg::Int(width),
            Arg::Int(stride),
            Arg::Int(usize::from(accumulate)),
        ];
        self.launch(Source::Elements, "sum_blocks", grid, &arguments);
    }

    /// `residual + scale ∘ activation(x)`, of rows of `width` values, in the element of `x`.
    pub(super) fn finish(
        &self,
        x: &Memory,
        width: usize,
        scale: Option<&Memory>,
        residual: Option<&Memory>,
        activation: Option<Activation>,
    ) -> Memory {
        let out = self.allocate(x.element, x.len());
        let arguments = [
            Arg::Of(x),
            Arg::Maybe(scale),
            Arg::Maybe(residual),
            Arg::Of(&out),
            Arg::Count(x.len() / width),
            Arg::Int(width),
            Arg::Int(activation_code(activation)),
        ];
        self.by_eight(x.element, "finish", x.len(), &arguments);
        out
    }

    /// Two tensors in one element: 16 bits only if both are.
    fn alike(&self, a: &Tensor, b: &Tensor) -> [Memory; 2] {
        let element = if stored(a).is_half() && stored(b).is_half() { self.operand() } else { Element::F32 };
        [a, b].map(|x| self.as_element(stored(x), element))
    }
}

impl Elements for Cuda {
    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor {
        // A sum of tokens is of tokens, also where one of the two came in 32 bits.
        let element =
            if stored(a).is_half() || stored(b).is_half() { self.element_of(&a.shape()) } else { Element::F32 };
        let [x, y] = [a, b].map(|x| self.as_element(stored(x), element));
        let out = self.allocate(element, x.len());
        let count = x.len();
        self.by_eight(element, "add", count, &[Arg::Of(&x), Arg::Of(&y), Arg::Of(&out), Arg::Count(count)]);
        Cuda::tensor(a.shape(), out)
    }

    fn scale(&self, a: &Tensor, factor: f32) -> Tensor {
        let x = stored(a);
        let out = self.allocate(x.element, x.len());
        let arguments = [Arg::Of(x), Arg::Of(&out), Arg::Count(x.len()), Arg::Float(factor)];
        self.by_eight(x.element, "scale", x.len(), &arguments);
        Cuda::tensor(a.shape(), out)
    }

    fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor {
        let plane = x.shape()[x.shape().len() - 2] * x.shape().last();
        let memory = stored(x);
        let lines: Vec<f32> = lines.iter().flat_map(|&(factor, shift)| [factor, shift]).collect();
        let (out, channels) = (self.allocate(memory.element, memory.len()), lines.len() / 2);
        let lines = self.uploaded(&lines);
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Count(plane),
            Arg::Int(channels),
            Arg::Of(&lines),
        ];
        self.launch_for(memory.element, Source::Elements, "affine_channels", spread(memory.len()), &arguments);
        Cuda::tensor(x.shape(), out)
    }

    fn multiply_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        self.row_affine(x, Some(&self.values_of(Parameter::of(row))), None)
    }

    fn multiply_row_backward(&self, x: &Tensor, grad: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        let [x, grad] = self.alike(x, grad);
        self.column_sums(&x, Some(&grad), range.len(), (gradient_memory(gradients), range.start), true);
    }

    fn add_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor {
        self.row_affine(x, None, Some(&self.values_of(Parameter::of(row))))
    }

    fn add_row_sums(&self, x: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>) {
        self.column_sums(stored(x), None, range.len(), (gradient_memory(gradients), range.start), true);
    }

    fn sum_rows(&self, x: &Tensor, width: usize) -> Tensor {
        let out = self.allocate(Element::F32, width);
        self.column_sums(stored(x), None, width, (&out, 0), false);
        Cuda::tensor([width], out)
    }

    fn drop(&self, x: &Tensor, draw: Draw, group: usize, rate: f32) -> Tensor {
        let first = draw.first_image * x.shape().item();
        let memory = stored(x);
        let out = self.allocate(memory.element, memory.len());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Word(draw.key),
            Arg::Count(first),
            Arg::Count(group),
            Arg::Float(rate),
        ];
        self.by_eight(memory.element, "drop", memory.len(), &arguments);
        Cuda::tensor(x.shape(), out)
    }

    fn activation(&self, x: &Tensor, activation: Activation) -> Tensor {
        let memory = stored(x);
        let out = self.allocate(memory.element, memory.len());
        self.activate(memory, &out, activation);
        Cuda::tensor(x.shape(), out)
    }

    fn activation_backward(&self, x: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        let memory = stored(x);
        let grad = self.as_element(stored(grad), memory.element);
        let (out, kind) = (self.allocate(memory.element, memory.len()), activation_code(Some(activation)));
        let count = memory.len();
        let arguments = [Arg::Of(memory), Arg::Of(&grad), Arg::Of(&out), Arg::Count(count), Arg::Int(kind)];
        self.by_eight(memory.element, "activation_backward", count, &arguments);
        Cuda::tensor(x.shape(), out)
    }

    fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor {
        let (memory, width) = (stored(pair), pair.shape().last() / 2);
        let (out, kind) = (self.allocate(memory.element, memory.len() / 2), activation_code(Some(activation)));
        let arguments = [Arg::Of(memory), Arg::Of(&out), Arg::Count(out.len()), Arg::Int(width), Arg::Int(kind)];
        self.launch_for(memory.element, Source::Elements, "gated", spread(out.len()), &arguments);
        Cuda::tensor(pair.shape().with_last(width), out)
    }

    fn gated_backward(&self, pair: &Tensor, grad: &Tensor, activation: Activation) -> Tensor {
        let (memory, width) = (stored(pair), pair.shape().last() / 2);
        let grad = self.as_element(stored(grad), memory.element);
        let (out, kind) = (self.allocate(memory.element, memory.len()), activation_code(Some(activation)));
        let arguments =
            [Arg::Of(memory), Arg::Of(&grad), Arg::Of(&out), Arg::Count(grad.len()), Arg::Int(width), Arg::Int(kind)];
        self.launch_for(memory.element, Source::Elements, "gated_backward", spread(grad.len()), &arguments);
        Cuda::tensor(pair.shape(), out)
    }

    fn softmax(&self, x: &Tensor) -> Tensor {
        let (memory, width) = (self.wide(stored(x)), x.shape().last());
        let out = self.allocate(Element::F32, memory.len());
        let arguments = [Arg::Of(&memory), Arg::Of(&out), Arg::Int(width)];
        self.launch(Source::Elements, "softmax", rows(memory.len() / width.max(1)), &arguments);
        Cuda::tensor(x.shape(), out)
    }

    fn softmax_backward(&self, y: &Tensor, grad: &Tensor) -> Tensor {
        let [memory, grad] = [y, grad].map(|x| self.wide(stored(x)));
        let (out, width) = (self.allocate(Element::F32, memory.len()), y.shape().last());
        let arguments = [Arg::Of(&memory), Arg::Of(&grad), Arg::Of(&out), Arg::Int(width)];
        self.launch(Source::Elements, "softmax_backward", rows(memory.len() / width.max(1)), &arguments);
        Cuda::tensor(y.shape(), out)
    }
}
