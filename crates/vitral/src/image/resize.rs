//! Resampling that matches Pillow's exactly, or PyTorch's.
//!
//! Checkpoints were trained on images resized by Pillow: antialiased (the filter widens with the reduction), first
//! along rows and then along columns, in 22-bit fixed point, rounded and clipped to 8 bits between the two. Anything
//! else shifts a model's logits, so this is exactly that arithmetic. Only the part of a resized image that a crop keeps
//! is computed ([`resize_window`]), which does not change any value.
//!
//! Since version 13, Pillow resizes along columns first if the height shrinks by more than twice as many pixels as the
//! width. On photographs the order changes values by a level or two; we follow it.
//!
//! PyTorch resamples tensors of bytes with the same filters and weights of 16 bits, always along rows first
//! (`Arithmetic::Torch`). These are its bits on processors with AVX2 and on ARM; on others, torchvision resizes
//! floats instead, and differs from itself.

mod filter;
mod passes;
mod weights;

use super::RgbImage;
use crate::config::Size;
use weights::Weights;

pub use filter::Filter;

/// Whose integers an image is resampled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    /// Pillow's `Image.resize`.
    Pillow,
    /// PyTorch's `interpolate` of a tensor of bytes, with `antialias`.
    Torch,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Rows and columns.
    pub size: Size,
}

impl Window {
    /// The whole image.
    pub const fn whole(size: Size) -> Self {
        Window { top: 0, left: 0, size }
    }
}

/// Resizes an image to `size`, like Pillow's `Image.resize`.
pub fn resize(image: &RgbImage, size: Size, filter: Filter) -> RgbImage {
    resize_window(image, size, filter, Window::whole(size))
}

/// The part `window` of the image resized to `size`.
///
/// # Panics
/// If `size` or the window is empty, or the window extends outside `size`.
pub fn resize_window(image: &RgbImage, size: Size, filter: Filter, window: Window) -> RgbImage {
    let pixels = resample::<3>(Arithmetic::Pillow, image.pixels(), image.size(), size, filter, window);
    RgbImage::new(window.size.width, window.size.height, pixels).expect("a window is filled")
}

/// [`resize_window`] over bytes of `[height, width, CHANNELS]`.
pub(super) fn resample<const CHANNELS: usize>(
    arithmetic: Arithmetic,
    pixels: &[u8],
    from: Size,
    to: Size,
    filter: Filter,
    window: Window,
) -> Vec<u8> {
    assert_eq!(pixels.len(), from.area() * CHANNELS, "pixels of {from} with {CHANNELS} channels");
    assert!(window.size.area() > 0, "an empty window of {}", window.size);
    assert!(
        window.top + window.size.height <= to.height && window.left + window.size.width <= to.width,
        "window {window:?} extends outside {to}"
    );
    let rows = window.top..window.top + window.size.height;
    let columns = window.left..window.left + window.size.width;
    if filter == Filter::Nearest {
        let nearest = match arithmetic {
            Arithmetic::Pillow => weights::nearest,
            Arithmetic::Torch => weights::nearest_exact,
        };
        let rows = nearest(from.height, to.height, rows);
        let columns = nearest(from.width, to.width, columns);
        return passes::gather::<CHANNELS>(pixels, from.width, &rows, &columns);
    }
    // Both skip a pass that does not change the length; their filters are the identity there anyway.
    let (weights, columns_first) = match arithmetic {
        Arithmetic::Pillow => (Weights::pillow as fn(_, _, _, _) -> _, columns_first(from, to)),
        Arithmetic::Torch => (Weights::torch as fn(_, _, _, _) -> _, false),
    };
    let down = weights(filter, from.height, to.height, rows);
    let across = weights(filter, from.width, to.width, columns);
    passes::resample::<CHANNELS>(pixels, from.width, &across, &down, columns_first)
}

/// A plane of floats `[height, width]` resized along rows and then along columns, with Pillow's filters and without
/// rounding: what torchvision does with float images.
///
/// # Panics
/// If the plane's size is not `from`.
pub(super) fn resample_numbers(plane: &[f32], from: Size, to: Size, filter: Filter) -> Vec<f32> {
    assert_eq!(plane.len(), from.area(), "a plane of {from}");
    let taken = |from: usize, to: usize| match (filter, from == to) {
        (_, true) => (0..to).map(|target| (target, vec![1.0])).collect(),
        (Filter::Nearest, _) => weights::nearest(from, to, 0..to).into_iter().map(|start| (start, vec![1.0])).collect(),
        _ => weights::exact(filter, from, to, 0..to),
    };
    let (across, down) = (taken(from.width, to.width), taken(from.height, to.height));
    let mut between = Vec::with_capacity(from.height * to.width);
    for row in plane.chunks_exact(from.width) {
        between.extend(across.iter().map(|(start, weights)| {
            weights.iter().zip(&row[*start..]).map(|(weight, value)| *weight as f32 * value).sum::<f32>()
        }));
    }
    let mut out = vec![0.0; to.area()];
    for (out, (start, weights)) in out.chunks_exact_mut(to.width).zip(&down) {
        for (weight, row) in weights.iter().zip(between[start * to.width..].chunks_exact(to.width)) {
            out.iter_mut().zip(row).for_each(|(out, value)| *out += *weight as f32 * value);
        }
    }
    out
}

/// Interleaved samples `[height, width, channels]` interpolated linearly between the four nearest pixels, without
/// antialiasing: `tf.image.resize` of TensorFlow 2, with its centers of pixels and its order of operations.
pub(super) fn interpolate<S: Copy + Into<f32>>(samples: &[S], channels: usize, from: Size, to: Size) -> Vec<f32> {
    assert_eq!(samples.len(), from.area() * channels, "samples of {from} with {channels} channels");
    let between = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let place = |target: usize| {
            let at = (target as f32 + 0.5) * scale - 0.5;
            let below = at.floor();
            (below.max(0.0) as usize, (at.ceil() as usize).min(from - 1), at - below)
        };
        (0..to).map(place).collect()
    };
    let (rows, columns) = (between(from.height, to.height), between(from.width, to.width));
    let mut out = Vec::with_capacity(to.area() * channels);
    for &(top, bottom, down) in &rows {
        let line = |row: usize| &samples[row * from.width * channels..(row + 1) * from.width * channels];
        let (top, bottom) = (line(top), line(bottom));
        for &(left, right, across) in &columns {
            out.extend((0..channels).map(|channel| {
                let at = |line: &[S], column: usize| -> f32 { line[column * channels + channel].into() };
                let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
                let upper = mix(at(top, left), at(top, right), across);
                mix(upper, mix(at(bottom, left), at(bottom, right), across), down)
            }));
        }
    }
    out
}

/// Whether Pillow resizes along columns before rows.
fn columns_first(from: Size, to: Size) -> bool {
    let removed = |from: usize, to: usize| from as i128 - to as i128;
    let (rows, columns) = (removed(from.height, to.height), removed(from.width, to.width));
    rows > 0 && rows > 2 * columns
}
