//! Choosing tokens, adding positions to them, and pooling them.

use std::sync::Arc;

use super::launch::{Arg, Source, spread};
use super::memory::Element;
use super::{Cuda, stored};
use crate::device::backend::Tokens;
use crate::shape::Shape;
use crate::tensor::Tensor;

fn extents(x: &Tensor) -> [usize; 3] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("tokens are [batch, tokens, width], not {:?}", x.shape()))
}

fn indices(kept: &[usize]) -> Vec<u32> {
    kept.iter().map(|&token| token as u32).collect()
}

impl Tokens for Cuda {
    fn gather_tokens(&self, x: &Tensor, kept: &Arc<[usize]>, count: usize) -> Tensor {
        let ([batch, tokens, width], memory) = (extents(x), stored(x));
        let out = self.allocate(memory.element, batch * count * width);
        let kept = self.words(&indices(kept));
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(out.len()),
            Arg::Int(tokens),
            Arg::Int(count),
            Arg::Int(width),
            Arg::Of(&kept),
        ];
        self.launch_for(memory.element, Source::Tokens, "gather_tokens", spread(out.len()), &arguments);
        Cuda::tensor([batch, count, width], out)
    }

    fn scatter_tokens(&self, grad: &Tensor, kept: &Arc<[usize]>, shape: Shape) -> Tensor {
        let ([_, count, width], memory) = (extents(grad), stored(grad));
        let out = self.allocate(memory.element, shape.count());
        let kept = self.words(&indices(kept));
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(out.len()),
            Arg::Int(shape[1]),
            Arg::Int(count),
            Arg::Int(width),
            Arg::Of(&kept),
        ];
        self.launch_for(memory.element, Source::Tokens, "scatter_tokens", spread(out.len()), &arguments);
        Cuda::tensor(shape, out)
    }

    fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let (memory, positions) = (stored(x), self.wide(stored(positions)));
        let out = self.allocate(memory.element, memory.len());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&positions),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Count(positions.len()),
        ];
        let grid = spread(memory.len().div_ceil(8));
        self.launch_for(memory.element, Source::Tokens, "add_positions", grid, &arguments);
        Cuda::tensor(x.shape(), out)
    }

    fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let ([batch, tokens, width], memory) = (extents(x), stored(x));
        let out = self.allocate(Element::F32, batch * width);
        let arguments =
            [Arg::Of(memory), Arg::Of(&out), Arg::Int(batch), Arg::Int(tokens), Arg::Int(width), Arg::Int(first)];
        self.launch_for(memory.element, Source::Tokens, "mean_tokens", spread(batch * width), &arguments);
        Cuda::tensor([batch, width], out)
    }

    fn mean_tokens_backward(&self, grad: &Tensor, tokens: usize, first: usize) -> Tensor {
        let (batch, width) = (grad.extent(0), grad.extent(1));
        let shape = Shape::from([batch, tokens, width]);
        let grad = self.wide(stored(grad));
        let out = self.allocate(self.element_of(&shape), shape.count());
        let arguments =
            [Arg::Of(&grad), Arg::Of(&out), Arg::Count(out.len()), Arg::Int(tokens), Arg::Int(width), Arg::Int(first)];
        self.launch_for(out.element, Source::Tokens, "mean_tokens_backward", spread(out.len()), &arguments);
        Cuda::tensor(shape, out)
    }

    fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let ([batch, tokens, width], memory) = (extents(x), stored(x));
        let out = self.allocate(Element::F32, batch * width);
        let arguments =
            [Arg::Of(memory), Arg::Of(&out), Arg::Int(batch), Arg::Int(tokens), Arg::Int(width), Arg::Int(first)];
        self.launch_for(memory.element, Source::Tokens, "max_tokens", spread(batch * width), &arguments);
        Cuda::tensor([batch, width], out)
    }

    fn max_tokens_backward(&self, x: &Tensor, top: &Tensor, grad: &Tensor, first: usize) -> Tensor {
        let ([batch, tokens, width], memory) = (extents(x), stored(x));
        let [top, grad] = [top, grad].map(|x| self.wide(stored(x)));
        let out = self.allocate(memory.element, memory.len());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&top),
            Arg::Of(&grad),
            Arg::Of(&out),
            Arg::Int(batch),
            Arg::Int(tokens),
            Arg::Int(width),
            Arg::Int(first),
        ];
        self.launch_for(memory.element, Source::Tokens, "max_tokens_backward", spread(batch * width), &arguments);
        Cuda::tensor(x.shape(), out)
    }
}
