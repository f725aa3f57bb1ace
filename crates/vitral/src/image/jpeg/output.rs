//! From rows of blocks to rows of pixels, one row of units at a time.

use std::ops::Range;

use super::color::{self, Model};
use super::frame::Frame;
use super::kernels::{Kernels, Work, dispatch};
use super::transform::Samples;
use super::upsample::Upsampling;

/// The samples of a component in one row of units, and the last row of the units above.
pub(super) struct Strip {
    samples: Vec<u8>,
    /// Samples per row, in whole blocks.
    stride: usize,
    /// The component's row at which the units begin.
    first: usize,
    /// Rows in the units.
    rows: usize,
    /// Samples that belong to the image.
    width: usize,
    height: usize,
    upsampling: Upsampling,
    /// A row as wide as the image.
    enlarged: Vec<u8>,
}

impl Strip {
    /// Stores the samples of a block at its row and column, counted in blocks.
    #[inline(always)]
    pub(super) fn put(&mut self, (row, column): (usize, usize), samples: Samples) {
        let start = (row * 8 + 1) * self.stride + column * 8;
        for (row, samples) in self.samples[start..].chunks_mut(self.stride).zip(samples) {
            row[..8].copy_from_slice(&samples);
        }
    }

    /// Stores a block of one value.
    #[inline(always)]
    pub(super) fn put_flat(&mut self, place: (usize, usize), sample: u8) {
        self.put(place, [[sample; 8]; 8]);
    }

    /// Makes columns of blocks gray, because their data is missing.
    pub(super) fn gray(&mut self, columns: Range<usize>) {
        for row in self.samples.chunks_exact_mut(self.stride).skip(1) {
            row[columns.start * 8..columns.end * 8].fill(128);
        }
    }

    /// A row of the component, or the nearest one that belongs to the image.
    #[inline(always)]
    fn row(&self, row: isize) -> &[u8] {
        let row = row.clamp(0, self.height as isize - 1) as usize;
        &self.samples[(row + 1 - self.first) * self.stride..][..self.width]
    }
}

/// The image as far as it is finished.
pub(super) struct Output {
    pub(super) strips: Vec<Strip>,
    /// Interleaved RGB, or interleaved components.
    pub(super) pixels: Vec<u8>,
    /// Rows of units that have been decoded.
    units: usize,
    /// Rows of pixels that are finished.
    finished: usize,
}

impl Output {
    pub(super) fn new(frame: &Frame) -> Self {
        let mut strips = Vec::new();
        for component in &frame.components {
            let stride = frame.padded_blocks(component).0 * 8;
            let rows = component.down * 8;
            strips.push(Strip {
                samples: vec![0; (rows + 1) * stride],
                stride,
                first: 0,
                rows,
                width: component.width,
                height: component.height,
                upsampling: component.upsampling,
                enlarged: vec![0; component.width * frame.most_across / component.across],
            });
        }
        let pixels = Vec::with_capacity(frame.width * frame.height * frame.channels());
        Output { strips, pixels, units: 0, finished: 0 }
    }

    /// Finishes all rows possible with the current strips: all but the last, which may have to be mixed with one that
    /// is still to come.
    pub(super) fn finish_rows(&mut self, frame: &Frame) {
        self.units += 1;
        let mixed = self.strips.iter().any(|strip| strip.upsampling.mixes_rows());
        let reached = match self.units == frame.units_down {
            true => frame.height,
            false => self.units * frame.most_down * 8 - usize::from(mixed),
        };
        let rows = self.finished..reached;
        let stride = frame.width * frame.channels();
        self.pixels.resize(reached * stride, 0);
        let pixels = &mut self.pixels[rows.start * stride..];
        self.finished = reached;
        dispatch(Rows { strips: &mut self.strips, model: frame.model, stride, rows, pixels });
        for strip in &mut self.strips {
            let last = strip.rows * strip.stride;
            strip.samples.copy_within(last.., 0);
            strip.first += strip.rows;
        }
    }
}

/// Rows of pixels to be made from the strips.
struct Rows<'a> {
    strips: &'a mut [Strip],
    model: Model,
    stride: usize,
    rows: Range<usize>,
    pixels: &'a mut [u8],
}

impl Work for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<K: Kernels>(self, kernels: K) {
        for (row, pixels) in self.rows.zip(self.pixels.chunks_exact_mut(self.stride)) {
            for strip in self.strips.iter_mut().filter(|strip| strip.upsampling != Upsampling::None) {
                let (near, far) = strip.upsampling.sources(row);
                let mut enlarged = std::mem::take(&mut strip.enlarged);
                let (near, far) = (strip.row(near as isize), strip.row(far));
                strip.upsampling.make(kernels, near, far, row % 2 == 1, &mut enlarged);
                strip.enlarged = enlarged;
            }
            let plane = |index: usize| {
                let strip = &self.strips[index];
                match strip.upsampling {
                    Upsampling::None => strip.row(row as isize),
                    _ => &strip.enlarged,
                }
            };
            match self.model {
                Model::Gray => {
                    for (pixel, &gray) in pixels.chunks_exact_mut(3).zip(plane(0)) {
                        pixel.fill(gray);
                    }
                }
                Model::YCbCr => kernels.red_green_blue([plane(0), plane(1), plane(2)], pixels),
                Model::Rgb => {
                    let planes = plane(0).iter().zip(plane(1)).zip(plane(2));
                    for (pixel, ((&red, &green), &blue)) in pixels.chunks_exact_mut(3).zip(planes) {
                        pixel.copy_from_slice(&[red, green, blue]);
                    }
                }
                Model::AsStored => {
                    let count = self.strips.len();
                    for index in 0..count {
                        let channel = pixels.iter_mut().skip(index).step_by(count);
                        channel.zip(plane(index)).for_each(|(out, &sample)| *out = sample);
                    }
                }
                Model::Cmyk | Model::Ycck => {
                    let inks = plane(0).iter().zip(plane(1)).zip(plane(2)).zip(plane(3));
                    for (pixel, (((&first, &second), &third), &key)) in pixels.chunks_exact_mut(3).zip(inks) {
                        let mut paper = [first, second, third];
                        if self.model == Model::Ycck {
                            paper = color::red_green_blue(paper).map(|value| 255 - value);
                        }
                        pixel.copy_from_slice(&color::light(paper, key));
                    }
                }
            }
        }
    }
}
