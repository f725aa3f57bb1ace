//! Patches, and maxima and means over windows.

use super::launch::{Arg, Source, spread};
use super::memory::Element;
use super::{Cuda, stored};
use crate::device::backend::{Images, PatchLayout, Windows};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Windows, as the kernels have them: nine 32-bit numbers.
fn structure(windows: &Windows) -> [u64; 5] {
    let [height, width, channels] = windows.input;
    let numbers = [
        height,
        width,
        channels,
        windows.output[0],
        windows.output[1],
        windows.before[0],
        windows.before[1],
        windows.size,
        windows.stride,
        0,
    ];
    std::array::from_fn(|i| numbers[2 * i] as u64 | (numbers[2 * i + 1] as u64) << 32)
}

fn layout_arguments(layout: &PatchLayout) -> [Arg<'static>; 7] {
    let PatchLayout { channels, height, width, patch, grid, .. } = *layout;
    [channels, height, width, patch[0], patch[1], grid[0], grid[1]].map(Arg::Int)
}

impl Cuda {
    fn window_shape(windows: &Windows, input: bool) -> [usize; 4] {
        let [height, width, channels] = windows.input;
        let [rows, columns] = windows.output;
        if input { [windows.batch, height, width, channels] } else { [windows.batch, rows, columns, channels] }
    }

    /// A pooling kernel over feature maps, which stay of the element that they came in.
    fn pool(&self, name: &str, x: &Tensor, windows: &Windows, backward: bool) -> Tensor {
        let (memory, shape) = (self.wide(stored(x)), Shape::from(Cuda::window_shape(windows, backward)));
        let out = self.allocate(Element::F32, shape.count());
        let words = structure(windows);
        let arguments = [Arg::Of(&memory), Arg::Of(&out), Arg::Count(out.len()), Arg::Structure(&words)];
        self.launch(Source::Images, name, spread(out.len()), &arguments);
        Cuda::tensor(shape, self.as_element(&out, stored(x).element))
    }
}

impl Images for Cuda {
    fn patches(&self, images: &Tensor, layout: &PatchLayout) -> Tensor {
        let shape = Shape::from([layout.batch, layout.grid[0] * layout.grid[1], layout.row()]);
        let element = self.element_of(&shape);
        let memory = match element {
            Element::F32 => self.wide(stored(images)),
            _ if stored(images).is_half() => self.narrow(stored(images)),
            Element::Bf16 | Element::F16 => stored(images).clone(),
        };
        let out = self.allocate(element, shape.count());
        let whole = layout.is_whole() && layout.patch[1].is_multiple_of(8) && layout.width.is_multiple_of(8);
        let lanes = if whole { 8 } else { 1 };
        let name = format!("patches_{lanes}_{}{}", memory.element.suffix(), element.suffix());
        let arguments: Vec<Arg<'_>> = [Arg::Of(&memory), Arg::Of(&out), Arg::Count(out.len())]
            .into_iter()
            .chain(layout_arguments(layout))
            .collect();
        self.launch(Source::Images, &name, spread(out.len() / lanes), &arguments);
        Cuda::tensor(shape, out)
    }

    fn patches_backward(&self, grad: &Tensor, layout: &PatchLayout) -> Tensor {
        let memory = self.wide(stored(grad));
        let shape = [layout.batch, layout.channels, layout.height, layout.width];
        let out = self.allocate(Element::F32, shape.iter().product());
        let arguments: Vec<Arg<'_>> = [Arg::Of(&memory), Arg::Of(&out), Arg::Count(out.len())]
            .into_iter()
            .chain(layout_arguments(layout))
            .collect();
        self.launch(Source::Images, "patches_backward", spread(out.len()), &arguments);
        Cuda::tensor(shape, out)
    }

    fn max_pool(&self, x: &Tensor, windows: &Windows) -> (Tensor, Tensor) {
        let (memory, shape) = (self.wide(stored(x)), Shape::from(Cuda::window_shape(windows, false)));
        let [out, winners] = [(); 2].map(|()| self.allocate(Element::F32, shape.count()));
        let words = structure(windows);
        let arguments =
            [Arg::Of(&memory), Arg::Of(&out), Arg::Of(&winners), Arg::Count(out.len()), Arg::Structure(&words)];
        self.launch(Source::Images, "max_pool", spread(out.len()), &arguments);
        let out = self.as_element(&out, stored(x).element);
        (Cuda::tensor(shape, out), Cuda::tensor(shape, winners))
    }

    fn max_pool_backward(&self, grad: &Tensor, winners: &Tensor, windows: &Windows) -> Tensor {
        let (memory, winners) = (self.wide(stored(grad)), self.wide(stored(winners)));
        let shape = Shape::from(Cuda::window_shape(windows, true));
        let out = self.allocate(Element::F32, shape.count());
        let words = structure(windows);
        let arguments =
            [Arg::Of(&memory), Arg::Of(&winners), Arg::Of(&out), Arg::Count(out.len()), Arg::Structure(&words)];
        self.launch(Source::Images, "max_pool_backward", spread(out.len()), &arguments);
        Cuda::tensor(shape, self.as_element(&out, stored(grad).element))
    }

    fn average_pool(&self, x: &Tensor, windows: &Windows) -> Tensor {
        self.pool("average_pool", x, windows, false)
    }

    fn average_pool_backward(&self, grad: &Tensor, windows: &Windows) -> Tensor {
        self.pool("average_pool_backward", grad, windows, true)
    }
}
