//! LayerNorm, RMSNorm, batch norm and group norm.

use super::api::driver::Grid;
use super::launch::{Arg, Source, rows, spread};
use super::memory::{Element, Memory};
use super::parameters::Parameter;
use super::{Cuda, gradient_memory, stored};
use crate::device::backend::{ChannelNormCall, Elements, GradientRange, GroupNormCall, NormCall, Norms, Segments};
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// Warps of a block.
const WARPS: usize = 8;
/// Blocks of a backward pass, each with sums of its own: the same on every card, so that bits are.
const BLOCKS: usize = 264;

/// How many times 256 values a segment has, if the kernel that keeps it in registers takes it.
fn in_registers(width: usize, most: usize) -> Option<usize> {
    let times = width.div_ceil(256).max(1);
    let times = if times == 7 { 8 } else { times };
    (width.is_multiple_of(8) && width > 0 && times <= most).then_some(times)
}

/// The segments of `count` values that are normalized, and how they lie.
struct Layout {
    segments: usize,
    which: Segments,
}

impl Layout {
    fn of(count: usize, which: Segments) -> Self {
        Layout { segments: count / (which.width * which.per_group).max(1) * which.count, which }
    }

    fn arguments(&self) -> [Arg<'static>; 5] {
        let Segments { width, per_group, first, count } = self.which;
        [Arg::Count(self.segments), Arg::Int(width), Arg::Int(per_group), Arg::Int(first), Arg::Int(count)]
    }
}

impl Cuda {
    /// A norm of whole rows.
    pub(super) fn normalized(&self, x: &Tensor, norm: &NormCall<'_>) -> Tensor {
        let memory = stored(x);
        let out = self.allocate(memory.element, memory.len());
        self.norm_into(memory, &out, norm, Segments::whole(norm.weight.count()));
        Cuda::tensor(x.shape(), out)
    }

    fn norm_into(&self, x: &Memory, out: &Memory, norm: &NormCall<'_>, which: Segments) {
        let layout = Layout::of(x.len(), which);
        let weight = self.values_of(Parameter::of(norm.weight));
        let bias = norm.bias.map(|bias| self.values_of(Parameter::of(bias)));
        let [segments, width, per_group, first, held] = layout.arguments();
        let arguments = [
            Arg::Of(x),
            Arg::Of(&weight),
            Arg::Maybe(bias.as_ref()),
            Arg::Of(out),
            segments,
            width,
            per_group,
            first,
            held,
            Arg::Float(norm.epsilon),
            Arg::Int(usize::from(norm.rms)),
        ];
        let grid = Grid { blocks: [layout.segments.div_ceil(WARPS), 1, 1], threads: 32 * WARPS as u32, shared: 0 };
        let name = in_registers(which.width, 8).map_or("norm_any".to_owned(), |times| format!("norm_{times}"));
        self.launch_for(x.element, Source::Norms, &name, grid, &arguments);
    }

    /// Gradients of a norm with given weights, which are added where they are wanted.
    fn add_parameter_gradients(
        &self,
        partial: &Memory,
        blocks: usize,
        width: usize,
        gradients: Option<&mut FlatBuffer>,
        [weight, bias]: &[GradientRange; 2],
    ) {
        let Some(flat) = gradients else { return };
        for (range, start) in [(weight, 0), (bias, width)] {
            if let Some(range) = range {
                let to = (gradient_memory(flat), range.start);
                self.sum_blocks((partial, start), blocks, [width, 2 * width], to, true);
            }
        }
    }
}

impl Norms for Cuda {
    fn norm(&self, x: &Tensor, norms: &[(NormCall<'_>, Segments)]) -> Tensor {
        let memory = stored(x);
        let whole = norms.iter().any(|(_, which)| which.count == which.per_group);
        let out = if whole { self.allocate(memory.element, memory.len()) } else { self.copied(memory) };
        for (norm, which) in norms {
            self.norm_into(memory, &out, norm, *which);
        }
        Cuda::tensor(x.shape(), out)
    }

    fn norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
    ) -> Tensor {
        self.norm_gradients(x, grad, norms, gradients, ranges, None)
    }

    fn norm_backward_onto(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
        onto: &Tensor,
    ) -> Tensor {
        if norms.iter().all(|(_, which)| which.count == which.per_group) {
            return self.norm_gradients(x, grad, norms, gradients, ranges, Some(onto));
        }
        self.add(onto, &self.norm_gradients(x, grad, norms, gradients, ranges, None))
    }

    fn batch_norm(&self, x: &Tensor, norm: &ChannelNormCall<'_>) -> Tensor {
        let memory = self.wide(stored(x));
        let [weight, bias, mean, variance] =
            [norm.weight, norm.bias, norm.mean, norm.variance].map(|view| self.values_of(Parameter::of(view)));
        let out = self.allocate(Element::F32, memory.len());
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&weight),
            Arg::Of(&bias),
            Arg::Of(&mean),
            Arg::Of(&variance),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Int(weight.len()),
            Arg::Float(norm.epsilon),
        ];
        self.launch(Source::Norms, "batch_norm", spread(memory.len()), &arguments);
        Cuda::tensor(x.shape(), self.as_element(&out, stored(x).element))
    }

    fn batch_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &ChannelNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        [weight_range, bias_range]: [GradientRange; 2],
    ) -> Tensor {
        let [memory, grad] = [x, grad].map(|x| self.wide(stored(x)));
        let [weight, mean, variance] =
            [norm.weight, norm.mean, norm.variance].map(|view| self.values_of(Parameter::of(view)));
        let (out, normed) = (self.allocate(Element::F32, memory.len()), self.allocate(Element::F32, memory.len()));
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&grad),
            Arg::Of(&weight),
            Arg::Of(&mean),
            Arg::Of(&variance),
            Arg::Of(&out),
            Arg::Of(&normed),
            Arg::Count(memory.len()),
            Arg::Int(weight.len()),
            Arg::Float(norm.epsilon),
        ];
        self.launch(Source::Norms, "batch_norm_backward", spread(memory.len()), &arguments);
        self.add_channel_gradients(&normed, &grad, gradients, [weight_range, bias_range]);
        Cuda::tensor(x.shape(), self.as_element(&out, stored(x).element))
    }

    fn group_norm(&self, x: &Tensor, norm: &GroupNormCall<'_>) -> Tensor {
        let memory = self.wide(stored(x));
        let [weight, bias] = [norm.weight, norm.bias].map(|view| self.values_of(Parameter::of(view)));
        let out = self.allocate(Element::F32, memory.len());
        let channels = x.shape().last();
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&weight),
            Arg::Of(&bias),
            Arg::Of(&out),
            Arg::Int(x.shape().item() / channels),
            Arg::Int(channels),
            Arg::Int(norm.groups),
            Arg::Float(norm.epsilon),
        ];
        self.launch(Source::Norms, "group_norm", rows(x.extent(0) * norm.groups), &arguments);
        Cuda::tensor(x.shape(), self.as_element(&out, stored(x).element))
    }

    fn group_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &GroupNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        ranges: [GradientRange; 2],
    ) -> Tensor {
        let [memory, grad] = [x, grad].map(|x| self.wide(stored(x)));
        let weight = self.values_of(Parameter::of(norm.weight));
        let (out, normed) = (self.allocate(Element::F32, memory.len()), self.allocate(Element::F32, memory.len()));
        let channels = x.shape().last();
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&grad),
            Arg::Of(&weight),
            Arg::Of(&out),
            Arg::Of(&normed),
            Arg::Int(x.shape().item() / channels),
            Arg::Int(channels),
            Arg::Int(norm.groups),
            Arg::Float(norm.epsilon),
        ];
        self.launch(Source::Norms, "group_norm_backward", rows(x.extent(0) * norm.groups), &arguments);
        self.add_channel_gradients(&normed, &grad, gradients, ranges);
        Cuda::tensor(x.shape(), self.as_element(&out, stored(x).element))
    }
}

impl Cuda {
    fn norm_gradients(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        mut gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
        onto: Option<&Tensor>,
    ) -> Tensor {
        let memory = stored(x);
        let grad = self.as_element(stored(grad), memory.element);
        let onto = onto.map(|onto| self.as_element(stored(onto), memory.element));
        let whole = norms.iter().any(|(_, which)| which.count == which.per_group);
        let out = if whole { self.allocate(memory.element, memory.len()) } else { self.copied(&grad) };
        for ((norm, which), ranges) in norms.iter().zip(ranges) {
            let (layout, width) = (Layout::of(memory.len(), *which), which.width);
            let weight = self.values_of(Parameter::of(norm.weight));
            let registers = in_registers(width, 6);
            let blocks = layout.segments.div_ceil(if registers.is_some() { WARPS } else { 1 }).clamp(1, BLOCKS);
            let partial = self.allocate(Element::F32, blocks * 2 * width);
            let [segments, wide, per_group, first, held] = layout.arguments();
            let arguments = [
                Arg::Of(memory),
                Arg::Of(&grad),
                Arg::Of(&weight),
                Arg::Maybe(onto.as_ref()),
                Arg::Of(&out),
                Arg::Of(&partial),
                segments,
                wide,
                per_group,
                first,
                held,
                Arg::Float(norm.epsilon),
                Arg::Int(usize::from(norm.rms)),
            ];
            let grid = Grid { blocks: [blocks, 1, 1], threads: 256, shared: 8 * width };
            let name = registers.map_or("norm_backward_any".to_owned(), |times| format!("norm_backward_{times}"));
            self.launch_for(memory.element, Source::Norms, &name, grid, &arguments);
            self.add_parameter_gradients(&partial, blocks, width, gradients.as_deref_mut(), ranges);
        }
        Cuda::tensor(x.shape(), out)
    }

    /// Adds `Σ normed ∘ grad` and `Σ grad` over all places.
    fn add_channel_gradients(
        &self,
        normed: &Memory,
        grad: &Memory,
        gradients: Option<&mut FlatBuffer>,
        [weight, bias]: [GradientRange; 2],
    ) {
        let Some(flat) = gradients else { return };
        let flat = gradient_memory(flat);
        if let Some(range) = weight {
            self.column_sums(normed, Some(grad), range.len(), (flat, range.start), true);
        }
        if let Some(range) = bias {
            self.column_sums(grad, None, range.len(), (flat, range.start), true);
        }
    }
}
