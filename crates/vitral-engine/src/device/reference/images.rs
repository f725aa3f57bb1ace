//! Patches, and maxima and means over windows.

use super::{Reference, stored};
use crate::device::backend::{Images, PatchLayout, Windows};
use crate::tensor::Tensor;

impl Reference {
    fn window_shape(windows: &Windows, input: bool) -> [usize; 4] {
        let [height, width, channels] = windows.input;
        let [rows, columns] = windows.output;
        if input { [windows.batch, height, width, channels] } else { [windows.batch, rows, columns, channels] }
    }
}

/// Calls `visit(output, input, place in the window)` for every pair of an output and a pixel under its window.
fn each_pair(windows: &Windows, mut visit: impl FnMut(usize, usize, u32)) {
    for image in 0..windows.batch {
        windows.visit(|output, input, place| {
            for c in 0..windows.channels() {
                visit(image * windows.outputs() + output + c, image * windows.inputs() + input + c, place);
            }
        });
    }
}

impl Images for Reference {
    fn patches(&self, images: &Tensor, layout: &PatchLayout) -> Tensor {
        let layout = *layout;
        let shape = [layout.batch, layout.grid[0] * layout.grid[1], layout.row()];
        self.compute(shape, [stored(images)], move |[images], out| {
            out.fill(0.0);
            for row in 0..layout.batch * layout.grid[0] {
                layout.runs(row / layout.grid[0], row % layout.grid[0], |source, target, count| {
                    out[target..target + count].copy_from_slice(&images[source..source + count]);
                });
            }
        })
    }

    fn patches_backward(&self, grad: &Tensor, layout: &PatchLayout) -> Tensor {
        let layout = *layout;
        let shape = [layout.batch, layout.channels, layout.height, layout.width];
        self.compute(shape, [stored(grad)], move |[grad], out| {
            out.fill(0.0);
            for row in 0..layout.batch * layout.grid[0] {
                layout.runs(row / layout.grid[0], row % layout.grid[0], |source, target, count| {
                    out[source..source + count].copy_from_slice(&grad[target..target + count]);
                });
            }
        })
    }

    fn max_pool(&self, x: &Tensor, windows: &Windows) -> (Tensor, Tensor) {
        let windows = *windows;
        let shape = Reference::window_shape(&windows, false);
        let [output, winners] =
            self.compute_two([shape.into(), shape.into()], [stored(x)], move |[x], [out, winners]| {
                out.fill(f64::NEG_INFINITY);
                winners.fill(-1.0);
                each_pair(&windows, |output, input, place| {
                    if winners[output] < 0.0 || x[input] > out[output] || x[input].is_nan() {
                        out[output] = x[input];
                        winners[output] = f64::from(place);
                    }
                });
            });
        (output, winners)
    }

    fn max_pool_backward(&self, grad: &Tensor, winners: &Tensor, windows: &Windows) -> Tensor {
        let windows = *windows;
        let shape = Reference::window_shape(&windows, true);
        self.compute(shape, [stored(grad), stored(winners)], move |[grad, winners], out| {
            out.fill(0.0);
            each_pair(&windows, |output, input, place| {
                if winners[output] == f64::from(place) {
                    out[input] += grad[output];
                }
            });
        })
    }

    fn average_pool(&self, x: &Tensor, windows: &Windows) -> Tensor {
        let windows = *windows;
        self.compute(Reference::window_shape(&windows, false), [stored(x)], move |[x], out| {
            out.fill(0.0);
            let share = 1.0 / (windows.size * windows.size) as f64;
            each_pair(&windows, |output, input, _| out[output] += share * x[input]);
        })
    }

    fn average_pool_backward(&self, grad: &Tensor, windows: &Windows) -> Tensor {
        let windows = *windows;
        self.compute(Reference::window_shape(&windows, true), [stored(grad)], move |[grad], out| {
            out.fill(0.0);
            let share = 1.0 / (windows.size * windows.size) as f64;
            each_pair(&windows, |output, input, _| out[input] += share * grad[output]);
        })
    }
}
