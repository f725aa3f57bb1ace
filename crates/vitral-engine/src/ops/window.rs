//! Maximum and mean over windows, channels last.

use super::Padding;
use crate::tape::Context;
use crate::tensor::Tensor;

/// Calls `visit(output offset, input offset)` for every pixel in every window; offsets are of the first channel.
fn windows(
    shape: [usize; 4],
    size: usize,
    stride: usize,
    padding: Padding,
    mut visit: impl FnMut(usize, usize),
) -> [usize; 4] {
    let [batch, height, width, channels] = shape;
    let (rows, above) = padding.axis(height, size, stride);
    let (columns, left) = padding.axis(width, size, stride);
    for image in 0..batch {
        for y in 0..rows {
            for x in 0..columns {
                let output = ((image * rows + y) * columns + x) * channels;
                for ky in 0..size {
                    for kx in 0..size {
                        let (py, px) = (y * stride + ky, x * stride + kx);
                        if (above..above + height).contains(&py) && (left..left + width).contains(&px) {
                            visit(output, ((image * height + py - above) * width + px - left) * channels);
                        }
                    }
                }
            }
        }
    }
    [batch, rows, columns, channels]
}

fn extents(x: &Tensor) -> [usize; 4] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("[batch, height, width, channels], not {:?}", x.shape()))
}

fn output_shape(
    [batch, height, width, channels]: [usize; 4],
    size: usize,
    stride: usize,
    padding: Padding,
) -> [usize; 4] {
    [batch, padding.axis(height, size, stride).0, padding.axis(width, size, stride).0, channels]
}

impl Context<'_> {
    /// Maximum over windows of `[batch, height, width, channels]`; the border never wins.
    pub fn max_pool(&self, x: &Tensor, size: usize, stride: usize, padding: Padding) -> Tensor {
        let shape = extents(x);
        let channels = shape[3];
        let output_shape = output_shape(shape, size, stride, padding);
        let mut winners = vec![usize::MAX; output_shape.iter().product()];
        let output = Tensor::filled(self.device, output_shape, |out| {
            out.fill(f32::NEG_INFINITY);
            windows(shape, size, stride, padding, |output, input| {
                for c in 0..channels {
                    let value = x.values()[input + c];
                    if value > out[output + c] || winners[output + c] == usize::MAX || value.is_nan() {
                        out[output + c] = value;
                        winners[output + c] = input + c;
                    }
                }
            });
        });
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        out.fill(0.0);
                        for (&winner, grad) in winners.iter().zip(grad.values()) {
                            out[winner] += grad;
                        }
                    })
                });
            })
        })
    }

    /// Mean over windows of `[batch, height, width, channels]`, without padding.
    pub fn average_pool(&self, x: &Tensor, size: usize, stride: usize) -> Tensor {
        let shape = extents(x);
        let channels = shape[3];
        let share = 1.0 / (size * size) as f32;
        let padding = Padding::Explicit(0);
        let output = Tensor::filled(self.device, output_shape(shape, size, stride, padding), |out| {
            out.fill(0.0);
            windows(shape, size, stride, padding, |output, input| {
                for c in 0..channels {
                    out[output + c] += share * x.values()[input + c];
                }
            });
        });
        let node = x.node;
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, shape, |out| {
                        out.fill(0.0);
                        windows(shape, size, stride, padding, |output, input| {
                            for c in 0..channels {
                                out[input + c] += share * grad.values()[output + c];
                            }
                        });
                    })
                });
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
