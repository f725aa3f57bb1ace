//! Maximum and mean over windows, channels last.

use super::Padding;
use crate::device::cpu::Cpu;
use crate::device::cpu::kernels::{Kernel, Lanes, SharedMut};
use crate::tape::Context;
use crate::tensor::Tensor;

/// Windows over one image: where each lies in the input and in the output.
#[derive(Clone, Copy)]
struct Windows {
    input: [usize; 3],
    output: [usize; 2],
    before: [usize; 2],
    size: usize,
    stride: usize,
}

impl Windows {
    fn new([_, height, width, channels]: [usize; 4], size: usize, stride: usize, padding: Padding) -> Self {
        let (rows, above) = padding.axis(height, size, stride);
        let (columns, left) = padding.axis(width, size, stride);
        Windows { input: [height, width, channels], output: [rows, columns], before: [above, left], size, stride }
    }

    fn channels(&self) -> usize {
        self.input[2]
    }

    /// Numbers of an image going in.
    fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    /// Numbers of an image coming out.
    fn outputs(&self) -> usize {
        self.output[0] * self.output[1] * self.channels()
    }

    /// Calls `visit(output offset, input offset, place in the window)` for every pixel in every window of an image;
    /// offsets are of the first channel.
    #[inline(always)]
    fn visit(&self, mut visit: impl FnMut(usize, usize, u32)) {
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

/// The largest of every window and its place in the window, `UNSEEN` where a window is all border.
struct Largest<'a> {
    windows: Windows,
    x: &'a [f32],
    out: &'a mut [f32],
    winners: &'a mut [u32],
}

const UNSEEN: u32 = u32::MAX;

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Largest { windows, x, out, winners } = self;
        out.fill(f32::NEG_INFINITY);
        winners.fill(UNSEEN);
        let channels = windows.channels();
        windows.visit(|output, input, place| {
            let x = &x[input..input + channels];
            let best = out[output..output + channels].iter_mut().zip(&mut winners[output..output + channels]);
            for (&value, (best, winner)) in x.iter().zip(best) {
                // A NaN stays.
                let wins = value > *best || *winner == UNSEEN || value.is_nan();
                *best = if wins { value } else { *best };
                *winner = if wins { place } else { *winner };
            }
        });
    }
}

/// Gives every window's gradient to the place that won.
struct Pull<'a> {
    windows: Windows,
    grad: &'a [f32],
    winners: &'a [u32],
    out: &'a mut [f32],
}

impl Kernel for Pull<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Pull { windows, grad, winners, out } = self;
        out.fill(0.0);
        let channels = windows.channels();
        windows.visit(|output, input, place| {
            let pulled = grad[output..output + channels].iter().zip(&winners[output..output + channels]);
            for (out, (&grad, &winner)) in out[input..input + channels].iter_mut().zip(pulled) {
                *out += if winner == place { grad } else { 0.0 };
            }
        });
    }
}

/// Adds a share of each `from` to its `to`: of windows to their means, or back.
struct Spread<'a> {
    windows: Windows,
    share: f32,
    x: &'a [f32],
    out: &'a mut [f32],
    back: bool,
}

impl Kernel for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Spread { windows, share, x, out, back } = self;
        out.fill(0.0);
        let channels = windows.channels();
        windows.visit(|output, input, _| {
            let (from, to) = if back { (output, input) } else { (input, output) };
            for (out, x) in out[to..to + channels].iter_mut().zip(&x[from..from + channels]) {
                *out += share * x;
            }
        });
    }
}

fn extents(x: &Tensor) -> [usize; 4] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("[batch, height, width, channels], not {:?}", x.shape()))
}

impl Context<'_> {
    /// Maximum over windows of `[batch, height, width, channels]`; the border never wins.
    pub fn max_pool(&self, x: &Tensor, size: usize, stride: usize, padding: Padding) -> Tensor {
        let shape = extents(x);
        let (batch, windows) = (shape[0], Windows::new(shape, size, stride, padding));
        let (inputs, outputs) = (windows.inputs(), windows.outputs());
        let mut winners = vec![UNSEEN; batch * outputs];
        let [rows, columns] = windows.output;
        let output = Tensor::filled(self.device, [batch, rows, columns, windows.channels()], |out| {
            let (out, winners) = (SharedMut::new(out), SharedMut::new(&mut winners));
            self.device.parallel(batch, |image| {
                let x = &x.values()[image * inputs..][..inputs];
                let (out, winners) = (out.part(image * outputs, outputs), winners.part(image * outputs, outputs));
                self.device.isa().run(Largest { windows, x, out, winners });
            });
        });
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        let out = SharedMut::new(out);
                        g.device.parallel(batch, |image| {
                            let grad = &grad.values()[image * outputs..][..outputs];
                            let winners = &winners[image * outputs..][..outputs];
                            let out = out.part(image * inputs, inputs);
                            g.device.isa().run(Pull { windows, grad, winners, out });
                        });
                    })
                });
            })
        })
    }

    /// Mean over windows of `[batch, height, width, channels]`, without padding.
    pub fn average_pool(&self, x: &Tensor, size: usize, stride: usize) -> Tensor {
        let shape = extents(x);
        let (batch, windows) = (shape[0], Windows::new(shape, size, stride, Padding::Explicit(0)));
        let spread = move |device: &Cpu, x: &[f32], out: &mut [f32], back: bool| {
            let share = 1.0 / (size * size) as f32;
            let (from, to) = (windows.inputs(), windows.outputs());
            let (from, to) = if back { (to, from) } else { (from, to) };
            let out = SharedMut::new(out);
            device.parallel(batch, |image| {
                let (x, out) = (&x[image * from..][..from], out.part(image * to, to));
                device.isa().run(Spread { windows, share, x, out, back });
            });
        };
        let [rows, columns] = windows.output;
        let output = Tensor::filled(self.device, [batch, rows, columns, windows.channels()], |out| {
            spread(self.device, x.values(), out, false);
        });
        let node = x.node;
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients
                    .add(node, |g| Tensor::filled(g.device, shape, |out| spread(g.device, grad.values(), out, true)));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equal_pytorch() {
        for (name, padding) in
            [("max_pool", Padding::Explicit(1)), ("max_pool_same", Padding::Same), ("max_pool_same_odd", Padding::Same)]
        {
            let golden = Golden::load(name).channels_last();
            Check::new().against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.max_pool(&x[0], 3, 2, padding));
        }
        let golden = Golden::load("avg_pool").channels_last();
        Check::new().against(&golden, &[golden.tensor("x")], &["x"], |cx, x| cx.average_pool(&x[0], 2, 2));
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[2, 5, 4, 3]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.max_pool(&x[0], 3, 2, Padding::Same));
        check.differences(&[x], |cx, x| cx.average_pool(&x[0], 2, 1));
    }
}
