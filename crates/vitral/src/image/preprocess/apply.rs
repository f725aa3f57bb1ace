//! From an image to a tensor.

use std::borrow::Cow;

use super::super::resize::{Arithmetic, Window, interpolate, resample, resample_numbers};
use super::super::{AsImage, BandImage, Filter, ImageError, ImageView, RgbImage};
use super::{Channels, Halving, Normalize, Preprocess, Rescale, Step};
use crate::config::Size;

impl Preprocess {
    /// The tensor `[channels, height, width]` of an image.
    ///
    /// # Errors
    /// If the image has other channels, or one of the steps cannot be done.
    pub fn apply(&self, image: &impl AsImage) -> Result<Vec<f32>, ImageError> {
        let size = self.output_size_for(image.view().size());
        let ready = self.ready(image)?;
        // Images rejected by a step allocate nothing.
        let mut tensor = vec![0.0; size.area() * self.channels.count()];
        self.write(&ready, &mut tensor);
        Ok(tensor)
    }

    /// [`apply`](Self::apply) into a buffer of the tensor's length.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), and if the buffer has another length.
    pub fn apply_into(&self, image: &impl AsImage, tensor: &mut [f32]) -> Result<(), ImageError> {
        let size = self.output_size_for(image.view().size());
        let expected = size.height.saturating_mul(size.width).saturating_mul(self.channels.count());
        if tensor.len() != expected {
            let shape = format!("[{}, {}, {}]", self.channels.count(), size.height, size.width);
            return Err(ImageError::BufferLength { expected, shape, found: tensor.len() });
        }
        self.write(&self.ready(image)?, tensor);
        Ok(())
    }

    /// An image after the steps.
    fn ready<'a>(&self, image: &'a impl AsImage) -> Result<Ready<'a>, ImageError> {
        match image.view() {
            ImageView::Rgb(image) => self.pixels(image).map(|(pixels, last)| Ready::Pixels(pixels, last)),
            ImageView::Bands(image) => self.bands(image).map(Ready::Bands),
        }
    }

    fn write(&self, ready: &Ready<'_>, tensor: &mut [f32]) {
        match ready {
            Ready::Pixels(pixels, last) => self.numbers(pixels, *last, tensor),
            Ready::Bands(image) => self.numbers_of_bands(image, tensor),
        }
    }

    /// The image after every step over 8-bit pixels, before scale and mean: the model's input, for viewing. A gray
    /// image has its brightness replicated; of bands, the first three are shown ([`BandImage::to_rgb`]).
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn image(&self, image: &impl AsImage) -> Result<RgbImage, ImageError> {
        match image.view() {
            ImageView::Rgb(image) => self.image_in_color(image),
            ImageView::Bands(image) => Ok(self.bands(image)?.to_rgb()),
        }
    }

    fn image_in_color(&self, image: &RgbImage) -> Result<RgbImage, ImageError> {
        let (mut pixels, last) = self.pixels(image)?;
        if let Some(Last { to, filter }) = last {
            let window = Window::whole(to);
            let resized = match (filter, self.channels) {
                (Some(filter), Channels::Rgb) => {
                    resample::<3>(Arithmetic::Pillow, &pixels.bytes, pixels.size, to, filter, window)
                }
                (Some(filter), _) => resample::<1>(Arithmetic::Pillow, &pixels.bytes, pixels.size, to, filter, window),
                (None, _) => {
                    let numbers = interpolate(&pixels.bytes, self.channels.count(), pixels.size, to);
                    numbers.iter().map(|number| number.round() as u8).collect()
                }
            };
            pixels = Pixels { size: to, bytes: Cow::Owned(resized) };
        }
        let Size { height, width } = pixels.size;
        match self.channels {
            Channels::Rgb => RgbImage::new(width, height, pixels.bytes.into_owned()),
            _ => RgbImage::from_gray(width, height, &pixels.bytes),
        }
    }

    /// Runs the steps over 8-bit pixels, and returns the last one if it is over floats.
    fn pixels<'a>(&self, image: &'a RgbImage) -> Result<(Pixels<'a>, Option<Last>), ImageError> {
        self.check_channels()?;
        let bytes = match self.channels {
            Channels::Rgb => Cow::Borrowed(image.pixels()),
            Channels::Gray => Cow::Owned(image.to_gray()),
            Channels::Bands(expected) => {
                return Err(ImageError::Bands { expected, found: "red, green and blue".into() });
            }
        };
        let mut pixels = Pixels { size: image.size(), bytes };
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            let from = pixels.size;
            let to = step.size_of(from);
            step.check_size(from, to)?;
            pixels = match step {
                Step::ResizeNumbers { .. } | Step::Interpolate { whole: false, .. } => {
                    if let Some(next) = steps.next() {
                        return Err(ImageError::Value {
                            place: "the preprocessing",
                            key: "steps".into(),
                            expected: "a resize without rounding as the last step".into(),
                            found: format!("`{next}` after it"),
                        });
                    }
                    let filter = match step {
                        Step::ResizeNumbers { filter, .. } => Some(*filter),
                        _ => None,
                    };
                    return Ok((pixels, Some(Last { to, filter })));
                }
                Step::Interpolate { .. } => {
                    let numbers = interpolate(&pixels.bytes, self.channels.count(), from, to);
                    let bytes: Vec<u8> = numbers.iter().map(|&number| number as u8).collect();
                    Pixels { size: to, bytes: Cow::Owned(bytes) }
                }
                Step::Resize { filter, .. } | Step::ResizeTensor { filter, .. } => {
                    let arithmetic = match step {
                        Step::ResizeTensor { .. } => Arithmetic::Torch,
                        _ => Arithmetic::Pillow,
                    };
                    // Parts dropped by the next crop are not computed.
                    let window = match steps.peek() {
                        Some(Step::CenterCrop { size, halving, .. }) => kept(to, *size, *halving),
                        _ => Window::whole(to),
                    };
                    let resized = match self.channels {
                        Channels::Rgb => resample::<3>(arithmetic, &pixels.bytes, from, to, *filter, window),
                        _ => resample::<1>(arithmetic, &pixels.bytes, from, to, *filter, window),
                    };
                    let part = Pixels { size: window.size, bytes: Cow::Owned(resized) };
                    match steps.next_if(|next| matches!(next, Step::CenterCrop { .. })) {
                        Some(Step::CenterCrop { size, halving, fill }) => {
                            part.placed(to, window, *size, *halving, *fill, self.channels)
                        }
                        _ => part,
                    }
                }
                Step::CenterCrop { size, halving, fill } => {
                    let window = kept(from, *size, *halving);
                    pixels.cut(window, self.channels.count()).placed(
                        from,
                        window,
                        *size,
                        *halving,
                        *fill,
                        self.channels,
                    )
                }
            };
        }
        Ok((pixels, None))
    }

    /// Scales and normalizes interleaved bytes into planes, with a resize in between if that is the last step.
    fn numbers(&self, pixels: &Pixels<'_>, last: Option<Last>, tensor: &mut [f32]) {
        let (bytes, channels) = (&*pixels.bytes, self.channels.count());
        if let Some(Last { to, filter: None }) = last {
            let numbers = interpolate(bytes, channels, pixels.size, to);
            for (channel, plane) in tensor.chunks_exact_mut(to.area()).enumerate() {
                for (number, value) in plane.iter_mut().zip(numbers.iter().skip(channel).step_by(channels)) {
                    *number = self.normalized(channel, self.scaled_sample(*value, 255.0));
                }
            }
            return;
        }
        if let Some(Last { to, filter: Some(filter) }) = last {
            for (channel, plane) in tensor.chunks_exact_mut(to.area()).enumerate() {
                let scaled = bytes.iter().skip(channel).step_by(channels);
                let scaled: Vec<f32> = scaled.map(|&value| self.scaled(usize::from(value))).collect();
                let resized = resample_numbers(&scaled, pixels.size, to, filter);
                for (number, value) in plane.iter_mut().zip(resized) {
                    *number = self.normalized(channel, value);
                }
            }
            return;
        }
        for (channel, plane) in tensor.chunks_exact_mut((bytes.len() / channels).max(1)).enumerate() {
            let table = self.table(channel);
            for (number, pixel) in plane.iter_mut().zip(bytes.chunks_exact(channels)) {
                *number = table[usize::from(pixel[channel])];
            }
        }
    }

    /// The float for every 8-bit value in a channel, rounded as in the source library.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|value| match (self.rescale, &self.normalize) {
            (Some(Rescale::Fused { factor, offset: 0.0 }), Some(Normalize { mean, std })) => {
                let inverse = (1.0 / factor) as f32;
                (value as f32 - mean[channel] * inverse) / (std[channel] * inverse)
            }
            _ => self.normalized(channel, self.scaled(value)),
        })
    }
}

/// The part of an image of size `from` that a center crop keeps.
fn kept(from: Size, crop: Size, halving: Halving) -> Window {
    let side = |from: usize, to: usize| {
        let offset = halving.offset(from, to).max(0) as usize;
        (offset, to.min(from))
    };
    let (top, height) = side(from.height, crop.height);
    let (left, width) = side(from.width, crop.width);
    Window { top, left, size: Size { height, width } }
}

/// An image after the steps: bytes, with a resize over floats that is yet to be done, or bands.
enum Ready<'a> {
    Pixels(Pixels<'a>, Option<Last>),
    Bands(Cow<'a, BandImage>),
}

/// A last step whose results are floats.
#[derive(Clone, Copy)]
struct Last {
    to: Size,
    /// Antialiased by this filter; `None` is an interpolation between the nearest pixels.
    filter: Option<Filter>,
}

/// Interleaved bytes between two steps.
struct Pixels<'a> {
    size: Size,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Pixels<'a> {
    /// A part of the pixels.
    fn cut(self, window: Window, channels: usize) -> Pixels<'a> {
        if window == Window::whole(self.size) {
            return self;
        }
        let mut bytes = Vec::with_capacity(window.size.area() * channels);
        for row in window.top..window.top + window.size.height {
            let start = (row * self.size.width + window.left) * channels;
            bytes.extend_from_slice(&self.bytes[start..start + window.size.width * channels]);
        }
        Pixels { size: window.size, bytes: Cow::Owned(bytes) }
    }

    /// The part `window` of an image of size `from`, placed into its crop and padded.
    fn placed(
        self,
        from: Size,
        window: Window,
        crop: Size,
        halving: Halving,
        fill: [u8; 3],
        channels: Channels,
    ) -> Pixels<'a> {
        if self.size == crop {
            return self;
        }
        let before = |from, to| (-halving.offset(from, to)).max(0) as usize;
        let (top, left) = (before(from.height, crop.height), before(from.width, crop.width));
        let count = channels.count();
        let mut bytes = fill[..count].repeat(crop.area());
        let stride = window.size.width * count;
        for (row, line) in self.bytes.chunks_exact(stride).enumerate() {
            let start = ((top + row) * crop.width + left) * count;
            bytes[start..start + stride].copy_from_slice(line);
        }
        Pixels { size: crop, bytes: Cow::Owned(bytes) }
    }
}
