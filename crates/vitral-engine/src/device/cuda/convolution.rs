//! Convolutions as products: what is under the kernel at every place is laid out as a row first, a few images at a time.
//!
//! Feature maps and operands are in 32 bits in every precision, products in TF32 in all but `f32`: dozens of convolutions follow
//! one another without a residual stream of tokens, and their rounding would add up.

use super::api::blas::Ending;
use super::launch::{Arg, Source, rows, spread};
use super::matmul::{Product, Rounding};
use super::memory::{Element, Memory};
use super::parameters::Parameter;
use super::{Cuda, gradient_memory, stored};
use crate::device::backend::{ConvolutionCall, ConvolutionExtents, ConvolutionGradients};
use crate::tensor::Tensor;

/// The most values that rows take at a time, unless one image has more. Few in tests, where batches would never be taken in
/// parts otherwise.
const ROOM: usize = if cfg!(test) { 1 << 10 } else { 1 << 27 };

/// Extents, as the kernels have them: ten 32-bit numbers.
fn structure(extents: &ConvolutionExtents) -> [u64; 5] {
    let numbers = [
        extents.height,
        extents.width,
        extents.channels,
        extents.kernel[0],
        extents.kernel[1],
        extents.grid[0],
        extents.grid[1],
        extents.before[0],
        extents.before[1],
        extents.stride,
    ];
    std::array::from_fn(|i| numbers[2 * i] as u64 | (numbers[2 * i + 1] as u64) << 32)
}

/// Ranges of images whose rows fit.
fn parts(extents: &ConvolutionExtents) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let each = (extents.grid[0] * extents.grid[1] * extents.depth()).max(1);
    let (batch, step) = (extents.batch, (ROOM / each).max(1));
    (0..batch).step_by(step).map(move |start| start..(start + step).min(batch))
}

impl Cuda {
    /// A part of a tensor's images, as products take them.
    fn images(&self, x: &Memory, each: usize, range: &std::ops::Range<usize>) -> Memory {
        if range.len() * each == x.len() {
            return self.wide(x);
        }
        let part = self.allocate(x.element, range.len() * each);
        self.inner.run(|driver| driver.copy(part.address(0), x.address(range.start * each), part.bytes()));
        self.wide(&part)
    }

    fn unfold(&self, x: &Memory, extents: &ConvolutionExtents, images: usize) -> Memory {
        let count = images * extents.grid[0] * extents.grid[1] * extents.depth();
        let out = self.allocate(x.element, count);
        let words = structure(extents);
        let arguments = [Arg::Of(x), Arg::Of(&out), Arg::Count(count), Arg::Structure(&words)];
        self.launch_for(x.element, Source::Convolution, "unfold", spread(count), &arguments);
        out
    }

    /// The weight as it is multiplied: standardized where that is asked for.
    fn convolution_weight(&self, call: &ConvolutionCall<'_>) -> (Memory, usize) {
        let weight = Parameter::of(call.weight);
        let Some(epsilon) = call.standardize else { return weight.wide(self) };
        let values = self.values_of(weight);
        let out = self.allocate(Element::F32, values.len());
        let depth = call.extents.depth();
        let arguments = [Arg::Of(&values), Arg::Of(&out), Arg::Int(depth), Arg::Float(epsilon)];
        self.launch(Source::Convolution, "standardize", rows(call.extents.outputs), &arguments);
        (out, 0)
    }
}

pub(super) fn forward(device: &Cuda, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor {
    let extents = call.extents;
    let (weight, at) = device.convolution_weight(call);
    let shape = [extents.batch, extents.grid[0], extents.grid[1], extents.outputs];
    let places = extents.grid[0] * extents.grid[1];
    let out = device.allocate(Element::F32, shape.iter().product());
    let bias = call.bias.map(|bias| Parameter::of(bias).as_element(device, Element::F32));
    for range in parts(&extents) {
        let images = device.images(stored(x), extents.sample(), &range);
        let unfolded = device.unfold(&images, &extents, range.len());
        let counts = [range.len() * places, extents.outputs, extents.depth()];
        let product = Product::new(&unfolded, &weight, &out, [false, true], counts);
        device.multiply(&Product {
            b: (&weight, at),
            c: (&out, range.start * places * extents.outputs),
            bias: bias.as_ref().map(|(memory, at)| (memory, *at)),
            rounding: Rounding::Convolution,
            ending: if bias.is_some() { Ending::Bias } else { Ending::Plain },
            ..product
        });
    }
    Cuda::tensor(shape, out)
}

pub(super) fn backward(
    device: &Cuda,
    x: &Tensor,
    grad: &Tensor,
    call: &ConvolutionCall<'_>,
    wanted: ConvolutionGradients<'_>,
) -> Option<Tensor> {
    let extents = call.extents;
    let (places, outputs, depth) = (extents.grid[0] * extents.grid[1], extents.outputs, extents.depth());
    if let Some(gradients) = wanted.gradients {
        let sums = gradient_memory(gradients);
        if let Some(range) = wanted.weight_range {
            // Gradients of standardized weights are made on their own first.
            let own = call.standardize.map(|_| device.zeroed(Element::F32, outputs * depth));
            for images in parts(&extents) {
                let unfolded =
                    device.unfold(&device.images(stored(x), extents.sample(), &images), &extents, images.len());
                let upstream = device.images(stored(grad), places * outputs, &images);
                let counts = [outputs, depth, images.len() * places];
                let to = own.as_ref().map_or((sums, range.start), |own| (own, 0));
                let product = Product::new(&upstream, &unfolded, to.0, [true, false], counts);
                device.multiply(&Product { c: to, accumulate: true, rounding: Rounding::Convolution, ..product });
            }
            if let Some((own, epsilon)) = own.zip(call.standardize) {
                let values = device.values_of(Parameter::of(call.weight));
                let arguments = [
                    Arg::Of(&values),
                    Arg::Of(&own),
                    Arg::From(sums, range.start),
                    Arg::Int(depth),
                    Arg::Float(epsilon),
                ];
                device.launch(Source::Convolution, "standardize_backward", rows(outputs), &arguments);
            }
        }
        if let Some(range) = wanted.bias_range {
            device.column_sums(stored(grad), None, outputs, (sums, range.start), true);
        }
    }
    wanted.input.then(|| {
        let (weight, at) = device.convolution_weight(call);
        let out = device.allocate(Element::F32, x.shape().count());
        for images in parts(&extents) {
            let upstream = device.images(stored(grad), places * outputs, &images);
            let count = images.len() * places;
            let unfolded = device.allocate(Element::F32, count * depth);
            let product = Product::new(&upstream, &weight, &unfolded, [false, false], [count, depth, outputs]);
            device.multiply(&Product { b: (&weight, at), rounding: Rounding::Convolution, ..product });
            let (words, values) = (structure(&extents), images.len() * extents.sample());
            let arguments = [
                Arg::Of(&unfolded),
                Arg::From(&out, images.start * extents.sample()),
                Arg::Count(values),
                Arg::Structure(&words),
            ];
            device.launch_for(out.element, Source::Convolution, "fold", spread(values), &arguments);
        }
        Cuda::tensor(x.shape(), out)
    })
}
