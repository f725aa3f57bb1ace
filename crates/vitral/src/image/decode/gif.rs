//! GIF: the first frame on its canvas.

use crate::image::as_stored::AsStored;
use crate::image::orientation::Orientation;
use crate::image::{Format, ImageError, Limits, RgbImage};

/// The canvas, the indices and the palette.
const BYTES_PER_PIXEL: u64 = 4;

fn fault(error: gif::DecodingError) -> ImageError {
    let detail = error.to_string();
    match error {
        gif::DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: Format::Gif.name(), detail }
        }
        _ => ImageError::Corrupt { format: Format::Gif.name(), detail },
    }
}

fn corrupt(detail: &str) -> ImageError {
    ImageError::Corrupt { format: Format::Gif.name(), detail: detail.to_string() }
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<AsStored, ImageError> {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    options.check_lzw_end_code(false);
    options.allow_unknown_blocks(true);
    options.set_memory_limit(gif::MemoryLimit::Bytes(limits.max_bytes.try_into().unwrap_or(std::num::NonZeroU64::MAX)));
    let mut decoder = options.read_info(bytes).map_err(fault)?;
    let (mut width, mut height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    limits.check(Format::Gif, width.max(1), height.max(1), BYTES_PER_PIXEL)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.next_frame_info().map_err(fault)?.ok_or_else(|| corrupt("no frame"))?.clone();
    // A frame that extends outside the canvas enlarges it, as in Pillow.
    width = width.max(usize::from(frame.left) + usize::from(frame.width));
    height = height.max(usize::from(frame.top) + usize::from(frame.height));
    limits.check(Format::Gif, width, height, BYTES_PER_PIXEL)?;
    let mut indices = vec![0u8; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(fault)?;
    let palette = frame.palette.or(global).ok_or_else(|| corrupt("no palette"))?;
    let color = |index: u8| -> [u8; 3] {
        let start = usize::from(index) * 3;
        palette.get(start..start + 3).map_or([0; 3], |color| [color[0], color[1], color[2]])
    };
    // The uncovered area has the transparent color, or the first one, as in Pillow; not the background color.
    let around = color(frame.transparent.unwrap_or(0));
    let mut pixels: Vec<u8> = std::iter::repeat_n(around, width * height).flatten().collect();
    let frame_width = usize::from(frame.width);
    if frame_width > 0 {
        for (row, indices) in indices.chunks_exact(frame_width).enumerate() {
            let start = ((usize::from(frame.top) + row) * width + usize::from(frame.left)) * 3;
            for (pixel, &index) in pixels[start..].chunks_exact_mut(3).zip(indices) {
                pixel.copy_from_slice(&color(index));
            }
        }
    }
    Ok(AsStored { image: RgbImage::new(width, height, pixels)?, orientation: Orientation::default(), note: None })
}
