//! From an image to a tensor.

use std::borrow::Cow;

use super::super::resize::{Arithmetic, Window, resample, resample_numbers};
use super::super::{Filter, ImageError, RgbImage};
use super::{Channels, Halving, Normalize, Preprocess, Rescale, Step, Target};
use crate::config::Size;

/// The most pixels that an image may have between two steps; parts dropped by a crop are never computed, but count.
const MOST_PIXELS: usize = 1 << 28;

impl Target {
    /// The size that an image of size `from` is resized to.
    pub fn of(self, from: Size) -> Size {
        let (short, long) = (from.height.min(from.width), from.height.max(from.width));
        let oriented = |short, long| {
            if from.width <= from.height {
                Size { height: long, width: short }
            } else {
                Size { height: short, width: long }
            }
        };
        let in_proportion = |to: Size, ratio: fn(f64, f64) -> f64| {
            let (height, width) = (from.height as f64, from.width as f64);
            let ratio = ratio(height / to.height as f64, width / to.width as f64);
            let round = |side: f64| (side / ratio).round_ties_even() as usize;
            Size { height: round(height).max(1), width: round(width).max(1) }
        };
        match self {
            Target::Exact(size) => size,
            Target::ShortSide(length) => oriented(length, length.saturating_mul(long) / short),
            Target::LongSide(length) => oriented((length.saturating_mul(short) / long).max(1), length),
            Target::Cover(size) => in_proportion(size, f64::min),
            Target::Fit(size) => in_proportion(size, f64::max),
            Target::Patches { patch, most } => in_patches(from, patch, most),
            Target::ShortSideWithin { short: wanted, longest } => {
                if (long as f64 / short as f64) * wanted as f64 <= longest as f64 {
                    return oriented(wanted, wanted.saturating_mul(long) / short);
                }
                let exact = longest as f64 * short as f64 / long as f64;
                let wanted = exact.round_ties_even() as usize;
                if wanted == short {
                    return from;
                }
                oriented(wanted.max(1), (exact * long as f64 / short as f64) as usize)
            }
        }
    }

    /// The size, if it is the same for every image.
    fn fixed(self) -> Option<Size> {
        match self {
            Target::Exact(size) => Some(size),
            _ => None,
        }
    }
}

/// The size of at most so many whole patches, found by halving the range of scales as both libraries do.
fn in_patches(from: Size, patch: Size, most: usize) -> Size {
    const NEAR: f64 = 1e-5;
    let at = |scale: f64| {
        let side = |side: usize, patch: usize| {
            let patch = patch.max(1);
            ((side as f64 * scale / patch as f64).ceil() as usize * patch).max(patch)
        };
        Size { height: side(from.height, patch.height), width: side(from.width, patch.width) }
    };
    let (mut low, mut high) = (NEAR / 10.0, 100.0);
    while high - low >= NEAR {
        let scale = (low + high) / 2.0;
        let Size { height, width } = at(scale);
        let patches = (height / patch.height.max(1)).saturating_mul(width / patch.width.max(1));
        if patches <= most { low = scale } else { high = scale }
    }
    at(low)
}

impl Step {
    /// The size of an image of size `from` after this step.
    fn size_of(&self, from: Size) -> Size {
        match self {
            Step::Resize { to, .. } | Step::ResizeTensor { to, .. } | Step::ResizeNumbers { to, .. } => to.of(from),
            Step::CenterCrop { size, .. } => *size,
        }
    }
}

impl Halving {
    /// Where a crop of length `to` begins in a side of length `from`; if negative, the amount of padding before it.
    fn offset(self, from: usize, to: usize) -> isize {
        let spare = from as isize - to as isize;
        match self {
            Halving::Down => spare.div_euclid(2),
            Halving::TowardZero => spare / 2,
            Halving::Even if spare < 0 => -(-spare / 2),
            Halving::Even => (spare as f64 / 2.0).round_ties_even() as isize,
        }
    }
}

impl Preprocess {
    /// The size of every tensor, if fixed: that of the last crop or exact resize. `None` if it depends on the image.
    pub fn output_size(&self) -> Option<Size> {
        self.steps.iter().fold(None, |_, step| match step {
            Step::Resize { to, .. } | Step::ResizeTensor { to, .. } | Step::ResizeNumbers { to, .. } => to.fixed(),
            Step::CenterCrop { size, .. } => Some(*size),
        })
    }

    /// The size of the tensor for an image of size `from`.
    pub fn output_size_for(&self, from: Size) -> Size {
        self.steps.iter().fold(from, |size, step| step.size_of(size))
    }

    /// Where a pixel (row and column) of an image of size `from` is after the steps; `None` if a crop drops it.
    pub fn locate(&self, from: Size, pixel: [usize; 2]) -> Option<[usize; 2]> {
        let [mut row, mut column] = pixel;
        let mut size = from;
        for step in &self.steps {
            match step {
                Step::Resize { to, .. } | Step::ResizeTensor { to, .. } | Step::ResizeNumbers { to, .. } => {
                    let to = to.of(size);
                    (row, column) = (row * to.height / size.height.max(1), column * to.width / size.width.max(1));
                    size = to;
                }
                Step::CenterCrop { size: to, halving, .. } => {
                    row = row.checked_add_signed(-halving.offset(size.height, to.height))?;
                    column = column.checked_add_signed(-halving.offset(size.width, to.width))?;
                    size = *to;
                }
            }
            if row >= size.height || column >= size.width {
                return None;
            }
        }
        Some([row, column])
    }

    /// The tensor `[channels, height, width]` of an image.
    pub fn apply(&self, image: &RgbImage) -> Result<Vec<f32>, ImageError> {
        let size = self.output_size_for(image.size());
        let (pixels, last) = self.pixels(image)?;
        // Images rejected by a step allocate nothing.
        let mut tensor = vec![0.0; size.area() * self.channels.count()];
        self.numbers(&pixels, last, &mut tensor);
        Ok(tensor)
    }

    /// [`apply`](Self::apply) into a buffer of the tensor's length.
    pub fn apply_into(&self, image: &RgbImage, tensor: &mut [f32]) -> Result<(), ImageError> {
        let size = self.output_size_for(image.size());
        let expected = size.height.saturating_mul(size.width).saturating_mul(self.channels.count());
        if tensor.len() != expected {
            let shape = format!("[{}, {}, {}]", self.channels.count(), size.height, size.width);
            return Err(ImageError::BufferLength { expected, shape, found: tensor.len() });
        }
        let (pixels, last) = self.pixels(image)?;
        self.numbers(&pixels, last, tensor);
        Ok(())
    }

    /// The image after every step over 8-bit pixels, before scale and mean: the model's input, for viewing. A gray
    /// image has its brightness replicated.
    pub fn image(&self, image: &RgbImage) -> Result<RgbImage, ImageError> {
        let (mut pixels, last) = self.pixels(image)?;
        if let Some((to, filter)) = last {
            let window = Window::whole(to);
            let resized = match self.channels {
                Channels::Rgb => resample::<3>(Arithmetic::Pillow, &pixels.bytes, pixels.size, to, filter, window),
                Channels::Gray => resample::<1>(Arithmetic::Pillow, &pixels.bytes, pixels.size, to, filter, window),
            };
            pixels = Pixels { size: to, bytes: Cow::Owned(resized) };
        }
        let Size { height, width } = pixels.size;
        match self.channels {
            Channels::Rgb => RgbImage::new(width, height, pixels.bytes.into_owned()),
            Channels::Gray => RgbImage::from_gray(width, height, &pixels.bytes),
        }
    }

    /// Checks that mean and standard deviation match the channels: a description may have been read from a file.
    fn check_channels(&self) -> Result<(), ImageError> {
        let expected = self.channels.count();
        let Some(Normalize { mean, std }) = &self.normalize else { return Ok(()) };
        for (key, numbers) in [("mean", mean), ("std", std)] {
            if numbers.len() != expected {
                return Err(ImageError::Value {
                    place: "the preprocessing",
                    key: key.to_string(),
                    expected: format!("a list of {expected}, one per channel"),
                    found: format!("{numbers:?}"),
                });
            }
        }
        Ok(())
    }

    /// Runs the steps over 8-bit pixels, and returns the last one if it is over floats.
    fn pixels<'a>(&self, image: &'a RgbImage) -> Result<(Pixels<'a>, Option<(Size, Filter)>), ImageError> {
        self.check_channels()?;
        let bytes = match self.channels {
            Channels::Rgb => Cow::Borrowed(image.pixels()),
            Channels::Gray => Cow::Owned(image.to_gray()),
        };
        let mut pixels = Pixels { size: image.size(), bytes };
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            let from = pixels.size;
            let to = step.size_of(from);
            let area = to.height.saturating_mul(to.width);
            if area == 0 || area > MOST_PIXELS {
                let to = format!("{}×{}", to.height, to.width);
                return Err(ImageError::Elongated { from, to, step: step.to_string(), limit: MOST_PIXELS });
            }
            pixels = match step {
                Step::ResizeNumbers { filter, .. } => {
                    if let Some(next) = steps.next() {
                        return Err(ImageError::Value {
                            place: "the preprocessing",
                            key: "steps".into(),
                            expected: "a resize without rounding as the last step".into(),
                            found: format!("`{next}` after it"),
                        });
                    }
                    return Ok((pixels, Some((to, *filter))));
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
                        Channels::Gray => resample::<1>(arithmetic, &pixels.bytes, from, to, *filter, window),
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
    fn numbers(&self, pixels: &Pixels<'_>, last: Option<(Size, Filter)>, tensor: &mut [f32]) {
        let (bytes, channels) = (&*pixels.bytes, self.channels.count());
        if let Some((to, filter)) = last {
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

    /// An 8-bit value as a float.
    fn scaled(&self, value: usize) -> f32 {
        match self.rescale {
            None => value as f32,
            Some(Rescale::Divide255) => value as f32 / 255.0,
            Some(Rescale::Multiply { factor, offset }) => (value as f64 * factor) as f32 + offset,
            Some(Rescale::Fused { factor, offset }) => value as f32 * factor as f32 + offset,
        }
    }

    /// A channel's value, normalized by mean and standard deviation.
    fn normalized(&self, channel: usize, number: f32) -> f32 {
        match &self.normalize {
            None => number,
            Some(Normalize { mean, std }) => (number - mean[channel]) / std[channel],
        }
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
