//! Coded samples to RGB, in libjpeg's and Pillow's integer arithmetic.

/// The color model of the coded samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// Brightness only.
    Gray,
    /// Brightness and two color differences, full range.
    YCbCr,
    /// RGB.
    Rgb,
    /// CMYK, inverted as in Adobe's files: 255 is no ink.
    Cmyk,
    /// CMYK, with the three colors coded as YCbCr.
    Ycck,
    /// Components as they are coded, for a file that has its own idea of colors.
    AsStored,
}

/// Factors of the color differences in 16-bit fixed point: 1.402, 0.34414, 0.71414 and 1.772.
pub(super) const RED_CR: i32 = 91881;
pub(super) const GREEN_CB: i32 = 22554;
pub(super) const GREEN_CR: i32 = 46802;
pub(super) const BLUE_CB: i32 = 116130;

/// YCbCr to RGB in libjpeg's fixed point.
#[inline(always)]
pub(super) fn red_green_blue([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    let red = y + ((RED_CR * cr + half) >> 16);
    let green = y + ((half - GREEN_CB * cb - GREEN_CR * cr) >> 16);
    let blue = y + ((BLUE_CB * cb + half) >> 16);
    [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8]
}

/// [`red_green_blue`] for a row.
#[inline(always)]
pub(super) fn red_green_blue_row([y, cb, cr]: [&[u8]; 3], row: &mut [u8]) {
    for (((pixel, &y), &cb), &cr) in row.chunks_exact_mut(3).zip(y).zip(cb).zip(cr) {
        pixel.copy_from_slice(&red_green_blue([y, cb, cr]));
    }
}

/// Stored CMYK to RGB, like Pillow's `CMYK;I` and `cmyk2rgb`.
pub(in crate::image) fn light(paper: [u8; 3], key: u8) -> [u8; 3] {
    let key = u32::from(key);
    paper.map(|value| {
        let product = (255 - u32::from(value)) * key + 128;
        key.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}
