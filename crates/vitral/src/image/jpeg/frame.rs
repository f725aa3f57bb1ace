//! The frame: the image's size and its components.

use super::color::Model;
use super::fault::{corrupt, unsupported};
use super::markers::Segment;
use super::notes::Notes;
use super::tables::Quantization;
use super::upsample::Upsampling;
use crate::image::{Format, ImageError, Limits};

/// Bytes per pixel of the result.
const RESULT_BYTES: u64 = 3;

/// The longest side that libjpeg accepts.
const LONGEST: usize = 65500;

/// One of the coded planes of an image.
pub(super) struct Component {
    /// Its identifier.
    pub(super) name: u8,
    /// How many of its blocks are side by side in a unit of the image; then, how many are above each other.
    pub(super) across: usize,
    pub(super) down: usize,
    /// Samples that belong to the image.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks that hold such samples.
    pub(super) blocks_across: usize,
    pub(super) blocks_down: usize,
    /// How it is upsampled to the image's size.
    pub(super) upsampling: Upsampling,
    /// The index of its quantization table.
    pub(super) table: usize,
    /// That table at the start of the component's first scan. Until then the component is flat gray.
    pub(super) quantization: Option<Quantization>,
}

/// SOF.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    pub(super) model: Model,
    /// The most blocks of any component in a unit.
    pub(super) most_across: usize,
    pub(super) most_down: usize,
    /// Units of the image.
    pub(super) units_across: usize,
    pub(super) units_down: usize,
}

impl Frame {
    pub(super) fn read(segment: &Segment, limits: &Limits) -> Result<Self, ImageError> {
        let Some((&[precision, y0, y1, x0, x1, count], rest)) = segment.payload.split_first_chunk() else {
            return Err(corrupt("a frame header cut short"));
        };
        let (height, width) = (usize::from(u16::from_be_bytes([y0, y1])), usize::from(u16::from_be_bytes([x0, x1])));
        limits.check(Format::Jpeg, width, height, RESULT_BYTES)?;
        if precision != 8 {
            return Err(unsupported(format!("samples of {precision} bits")));
        }
        if width.max(height) > LONGEST {
            return Err(unsupported(format!("a side of {} pixels", width.max(height))));
        }
        if rest.len() != 3 * usize::from(count) {
            return Err(corrupt(format!("a frame header of {} bytes for {count} components", segment.payload.len())));
        }
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported(format!("{count} color components")));
        }
        let factors = |component: &[u8]| (usize::from(component[1] >> 4), usize::from(component[1] & 15));
        // The blocks of a single component are in plain order, whatever its sampling factors.
        let taken = |component: &[u8]| if count == 1 { (1, 1) } else { factors(component) };
        let (mut most_across, mut most_down) = (1, 1);
        for (across, down) in rest.chunks_exact(3).map(factors) {
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) {
                return Err(corrupt(format!("sampling factors {across} × {down}")));
            }
            if count > 1 {
                (most_across, most_down) = (most_across.max(across), most_down.max(down));
            }
        }
        let mut components = Vec::new();
        for component in rest.chunks_exact(3) {
            let (across, down) = taken(component);
            let samples_across = (width * across).div_ceil(most_across);
            let samples_down = (height * down).div_ceil(most_down);
            components.push(Component {
                name: component[0],
                across,
                down,
                width: samples_across,
                height: samples_down,
                blocks_across: (width * across).div_ceil(most_across * 8),
                blocks_down: (height * down).div_ceil(most_down * 8),
                upsampling: Upsampling::new((most_across, across), (most_down, down), samples_across)?,
                table: usize::from(component[2]),
                quantization: None,
            });
        }
        Ok(Frame {
            width,
            height,
            progressive: segment.marker == 0xC2,
            components,
            model: Model::Gray,
            most_across,
            most_down,
            units_across: width.div_ceil(most_across * 8),
            units_down: height.div_ceil(most_down * 8),
        })
    }

    /// The color model: the one given, or by the rules of libjpeg's `default_decompress_parms`.
    pub(super) fn choose_model(&mut self, given: Option<Model>, notes: &Notes) -> Result<(), ImageError> {
        if let Some(model) = given {
            if model == Model::YCbCr && self.components.len() != 3 {
                return Err(unsupported(format!("{} components for YCbCr", self.components.len())));
            }
            self.model = model;
            return Ok(());
        }
        let names: Vec<u8> = self.components.iter().map(|component| component.name).collect();
        self.model = match (names.as_slice(), notes.adobe_transform) {
            ([_], _) => Model::Gray,
            ([_, _, _], _) if notes.jfif => Model::YCbCr,
            ([_, _, _], Some(0)) => Model::Rgb,
            ([_, _, _], Some(_)) => Model::YCbCr,
            ([b'R', b'G', b'B'], None) => Model::Rgb,
            ([_, _, _], None) => Model::YCbCr,
            ([_, _, _, _], None | Some(0)) => Model::Cmyk,
            ([_, _, _, _], Some(_)) => Model::Ycck,
            _ => return Err(unsupported(format!("{} color components", names.len()))),
        };
        Ok(())
    }

    /// Bytes of a pixel of the result.
    pub(super) fn channels(&self) -> usize {
        match self.model {
            Model::AsStored => self.components.len(),
            _ => RESULT_BYTES as usize,
        }
    }

    /// Number of blocks of a component in a row of whole units, and number of such rows.
    pub(super) fn padded_blocks(&self, component: &Component) -> (usize, usize) {
        (self.units_across * component.across, self.units_down * component.down)
    }
}
