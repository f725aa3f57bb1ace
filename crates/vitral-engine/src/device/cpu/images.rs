//! Patches, and maxima and means over windows.

use super::kernels::{Kernel, Lanes};
use super::{Cpu, values};
use crate::device::backend::{Images, PatchLayout, Windows};
use crate::tensor::Tensor;

/// The largest of every window and its place in the window, −1 where a window is all border.
struct Largest<'a> {
    windows: Windows,
    x: &'a [f32],
    out: &'a mut [f32],
    winners: &'a mut [f32],
}

const NONE: f32 = -1.0;

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Largest { windows, x, out, winners } = self;
        out.fill(f32::NEG_INFINITY);
        winners.fill(NONE);
        let channels = windows.channels();
        windows.visit(|output, input, place| {
            let (x, place) = (&x[input..input + channels], place as f32);
            let best = out[output..output + channels].iter_mut().zip(&mut winners[output..output + channels]);
            for (&value, (best, winner)) in x.iter().zip(best) {
                // A NaN stays.
                let wins = value > *best || *winner == NONE || value.is_nan();
                *best = if wins { value } else { *best };
                *winner = if wins { place } else { *winner };
            }
        });
    }
}

/// Gives every window's gradient to the place that won.
struct LargestBackward<'a> {
    windows: Windows,
    grad: &'a [f32],
    winners: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for LargestBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let LargestBackward { windows, grad, winners, out } = self;
        out.fill(0.0);
        let channels = windows.channels();
        windows.visit(|output, input, place| {
            let won = grad[output..output + channels].iter().zip(&winners[output..output + channels]);
            let place = place as f32;
            for (out, (&grad, &winner)) in out[input..input + channels].iter_mut().zip(won) {
                *out += if winner == place { grad } else { 0.0 };
            }
        });
    }
}

/// Adds a fraction of each `from` to its `to`: of windows to their means, or back.
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

impl Cpu {
    fn spread(&self, windows: &Windows, x: &Tensor, back: bool) -> Tensor {
        let share = 1.0 / (windows.size * windows.size) as f32;
        let ([height, width, channels], [rows, columns]) = (windows.input, windows.output);
        let (from, to) = (windows.inputs(), windows.outputs());
        let (from, to) = if back { (to, from) } else { (from, to) };
        let shape = if back { [height, width] } else { [rows, columns] };
        self.tensor([windows.batch, shape[0], shape[1], channels], |out| {
            self.processor.parallel_chunks(out, to, |image, out| {
                let x = &values(x)[image * from..][..from];
                self.processor.isa().run(Spread { windows: *windows, share, x, out, back });
            });
        })
    }
}

impl Images for Cpu {
    fn patches(&self, images: &Tensor, layout: &PatchLayout) -> Tensor {
        let (grid, source) = (layout.grid, values(images));
        let row = grid[1] * layout.row();
        self.tensor([layout.batch, grid[0] * grid[1], layout.row()], |out| {
            if !layout.is_whole() {
                out.fill(0.0);
            }
            self.processor.parallel_rows(out, row, 2, |first, out| {
                for at in first..first + out.len() / row.max(1) {
                    layout.runs(at / grid[0], at % grid[0], |from, to, count| {
                        out[to - first * row..][..count].copy_from_slice(&source[from..from + count]);
                    });
                }
            });
        })
    }

    fn patches_backward(&self, grad: &Tensor, layout: &PatchLayout) -> Tensor {
        let grid = layout.grid;
        self.tensor([layout.batch, layout.channels, layout.height, layout.width], |out| {
            out.fill(0.0);
            for row in 0..layout.batch * grid[0] {
                layout.runs(row / grid[0], row % grid[0], |source, target, count| {
                    out[source..source + count].copy_from_slice(&values(grad)[target..target + count]);
                });
            }
        })
    }

    fn max_pool(&self, x: &Tensor, windows: &Windows) -> (Tensor, Tensor) {
        let (inputs, outputs) = (windows.inputs(), windows.outputs());
        let [rows, columns] = windows.output;
        let shape = [windows.batch, rows, columns, windows.channels()];
        let mut output = None;
        let winners = self.tensor(shape, |winners| {
            output = Some(self.tensor(shape, |out| {
                let parts = [(out, outputs), (winners, outputs)];
                self.processor.parallel_rows_of(windows.batch, 1, parts, |images, [out, winners]| {
                    let parts = out.chunks_exact_mut(outputs).zip(winners.chunks_exact_mut(outputs));
                    for (image, (out, winners)) in images.zip(parts) {
                        let x = &values(x)[image * inputs..][..inputs];
                        self.processor.isa().run(Largest { windows: *windows, x, out, winners });
                    }
                });
            }));
        });
        (output.expect("made with the winners"), winners)
    }

    fn max_pool_backward(&self, grad: &Tensor, winners: &Tensor, windows: &Windows) -> Tensor {
        let (inputs, outputs) = (windows.inputs(), windows.outputs());
        let [height, width, channels] = windows.input;
        self.tensor([windows.batch, height, width, channels], |out| {
            self.processor.parallel_chunks(out, inputs, |image, out| {
                let grad = &values(grad)[image * outputs..][..outputs];
                let winners = &values(winners)[image * outputs..][..outputs];
                self.processor.isa().run(LargestBackward { windows: *windows, grad, winners, out });
            });
        })
    }

    fn average_pool(&self, x: &Tensor, windows: &Windows) -> Tensor {
        self.spread(windows, x, false)
    }

    fn average_pool_backward(&self, grad: &Tensor, windows: &Windows) -> Tensor {
        self.spread(windows, grad, true)
    }
}
