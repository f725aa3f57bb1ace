//! Coded samples to light, in libjpeg's and Pillow's integer arithmetic.

/// The colour model of the coded samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// Brightness alone.
    Grey,
    /// Brightness and two colour differences, full range.
    YCbCr,
    /// Light.
    Rgb,
    /// Inks, inverted as Adobe stores them: 255 is bare paper.
    Cmyk,
    /// Inks, with the three colours coded as YCbCr.
    Ycck,
}

/// Interleaved samples of a model to interleaved RGB; those of YCbCr are RGB already.
pub(super) fn to_rgb(model: Model, samples: Vec<u8>) -> Vec<u8> {
    match model {
        Model::YCbCr | Model::Rgb => samples,
        Model::Grey => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
        Model::Cmyk => samples.chunks_exact(4).flat_map(|ink| light([ink[0], ink[1], ink[2]], ink[3])).collect(),
        Model::Ycck => samples
            .chunks_exact(4)
            .flat_map(|ink| light(red_green_blue([ink[0], ink[1], ink[2]]).map(|value| 255 - value), ink[3]))
            .collect(),
    }
}

/// YCbCr to RGB in libjpeg's 16-bit fixed point.
fn red_green_blue([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    let red = y + ((91881 * cr + half) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + half) >> 16);
    let blue = y + ((116130 * cb + half) >> 16);
    [red.clamp(0, 255) as u8, green.clamp(0, 255) as u8, blue.clamp(0, 255) as u8]
}

/// Stored inks to light, as Pillow's `CMYK;I` and `cmyk2rgb` do it.
fn light(paper: [u8; 3], key: u8) -> [u8; 3] {
    let key = u32::from(key);
    paper.map(|value| {
        let product = (255 - u32::from(value)) * key + 128;
        key.saturating_sub(((product >> 8) + product) >> 8) as u8
    })
}
