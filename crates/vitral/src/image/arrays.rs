//! Arrays that are images: NumPy's `.npy` and `.npz`, and `.safetensors` with one tensor.

use std::io::{Cursor, Read};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::{BandImage, ImageError, Limits, SampleRange};
use crate::config::Size;
use crate::npy;

/// A file's format in errors.
const NUMPY: &str = "NumPy";
const SAFETENSORS: &str = "safetensors";

/// The type of an array's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    F16,
    Bf16,
    F32,
    F64,
}

impl Kind {
    /// Of NumPy's name of a type, without its byte order.
    fn of_numpy(name: &str) -> Option<Self> {
        Some(match name {
            "u1" => Kind::U8,
            "i1" => Kind::I8,
            "u2" => Kind::U16,
            "i2" => Kind::I16,
            "f2" => Kind::F16,
            "f4" => Kind::F32,
            "f8" => Kind::F64,
            _ => return None,
        })
    }

    fn of_safetensors(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::U8 => Kind::U8,
            Dtype::I8 => Kind::I8,
            Dtype::U16 => Kind::U16,
            Dtype::I16 => Kind::I16,
            Dtype::F16 => Kind::F16,
            Dtype::BF16 => Kind::Bf16,
            Dtype::F32 => Kind::F32,
            Dtype::F64 => Kind::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 => 1,
            Kind::U16 | Kind::I16 | Kind::F16 | Kind::Bf16 => 2,
            Kind::F32 => 4,
            Kind::F64 => 8,
        }
    }

    /// The largest value of the type; 1 for real numbers.
    fn full(self) -> f32 {
        match self {
            Kind::U8 => 255.0,
            Kind::I8 => 127.0,
            Kind::U16 => 65535.0,
            Kind::I16 => 32767.0,
            Kind::F16 | Kind::Bf16 | Kind::F32 | Kind::F64 => 1.0,
        }
    }

    /// A value, from its bytes in little-endian order.
    fn value(self, bytes: &[u8]) -> f32 {
        let two = || [bytes[0], bytes[1]];
        match self {
            Kind::U8 => f32::from(bytes[0]),
            Kind::I8 => f32::from(bytes[0] as i8),
            Kind::U16 => f32::from(u16::from_le_bytes(two())),
            Kind::I16 => f32::from(i16::from_le_bytes(two())),
            Kind::F16 => f16::from_le_bytes(two()).to_f32(),
            Kind::Bf16 => bf16::from_le_bytes(two()).to_f32(),
            Kind::F32 => f32::from_le_bytes(bytes.try_into().expect("four bytes")),
            Kind::F64 => f64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f32,
        }
    }
}

/// An array as its file stores it.
struct Array<'a> {
    kind: Kind,
    big_endian: bool,
    /// The first index changes fastest.
    fortran: bool,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

/// The image in a file that holds one array, for a model that takes so many bands; `None` if it is no such file.
pub(super) fn read(bytes: &[u8], bands: usize, limits: &Limits) -> Option<Result<BandImage, ImageError>> {
    if bytes.starts_with(npy::MAGIC) {
        return Some(numpy(bytes).and_then(|array| array.image(bands, limits)));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(only_member(bytes, limits).and_then(|array| numpy(&array)?.image(bands, limits)));
    }
    // A length of the header that the file has room for, and the header itself.
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let header = length.is_some_and(|length| length >= 2 && length < bytes.len() as u64) && bytes.get(8) == Some(&b'{');
    header.then(|| only_tensor(bytes).and_then(|array| array.image(bands, limits)))
}

fn corrupt(format: &'static str, detail: impl ToString) -> ImageError {
    ImageError::Corrupt { format, detail: detail.to_string() }
}

/// An array of a type that has no usual range, or of which there are too many.
fn unfit(found: String) -> ImageError {
    ImageError::ArrayValues { found }
}

fn numpy(bytes: &[u8]) -> Result<Array<'_>, ImageError> {
    let header = npy::Header::read(bytes).map_err(|fault| corrupt(NUMPY, fault))?;
    let (order, name) = match header.descr.split_at_checked(1) {
        Some((order @ ("<" | ">" | "|" | "="), name)) => (order, name),
        _ => ("=", header.descr.as_str()),
    };
    let kind = Kind::of_numpy(name).ok_or_else(|| unfit(format!("an array of type `{}`", header.descr)))?;
    let bytes = &bytes[header.start..];
    Ok(Array { kind, big_endian: order == ">", fortran: header.fortran, shape: header.shape, bytes })
}

/// The only array of an archive, unpacked.
fn only_member(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, ImageError> {
    let fault = |error: zip::result::ZipError| corrupt(NUMPY, error);
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(fault)?;
    if archive.len() != 1 {
        return Err(unfit(format!("an archive of {} files", archive.len())));
    }
    let member = archive.by_index(0).map_err(fault)?;
    let (limit, what) = (limits.max_bytes, "unpacking a NumPy archive".to_owned());
    if member.size() > limit {
        return Err(ImageError::TooManyBytes { what, needed: member.size(), limit });
    }
    let mut unpacked = Vec::new();
    member.take(limit.saturating_add(1)).read_to_end(&mut unpacked).map_err(|error| corrupt(NUMPY, error))?;
    if unpacked.len() as u64 > limit {
        return Err(ImageError::TooManyBytes { what, needed: unpacked.len() as u64, limit });
    }
    Ok(unpacked)
}

fn only_tensor(bytes: &[u8]) -> Result<Array<'_>, ImageError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| corrupt(SAFETENSORS, error))?;
    let tensors = file.tensors();
    let [(_, tensor)] = &tensors[..] else {
        return Err(unfit(format!("a file of {} tensors", tensors.len())));
    };
    let dtype = tensor.dtype();
    let kind = Kind::of_safetensors(dtype).ok_or_else(|| unfit(format!("a tensor of type {dtype:?}")))?;
    // The views borrow from the file's bytes, not from what was read of them.
    let data = tensor.data();
    Ok(Array { kind, big_endian: false, fortran: false, shape: tensor.shape().to_vec(), bytes: data })
}

impl Array<'_> {
    /// The image of a model's bands: `[height, width, bands]` or `[bands, height, width]`, with or without a 1 before, or
    /// `[height, width]` of a single band.
    fn image(&self, bands: usize, limits: &Limits) -> Result<BandImage, ImageError> {
        let fault = |why: &'static str| ImageError::ArrayShape { bands, shape: self.shape.clone(), why };
        let shape = match self.shape[..] {
            [1, ref rest @ ..] if self.shape.len() == 4 => rest,
            ref whole => whole,
        };
        let (size, bands_last) = match *shape {
            [height, width] if bands == 1 => (Size { height, width }, false),
            [first, middle, last] => match (first == bands, last == bands) {
                (true, true) => {
                    return Err(fault(
                        ", which is both; cut off or add a column or a row, or save the image as TIFF, which says what its \
                         bands are",
                    ));
                }
                (true, false) => (Size { height: middle, width: last }, false),
                (false, true) => (Size { height: first, width: middle }, true),
                (false, false) => return Err(fault("; give the image all bands that the model takes and no others")),
            },
            _ => return Err(fault("; give one image a file")),
        };
        if size.height == 0 || size.width == 0 {
            return Err(fault(", which is empty"));
        }
        let pixels = (size.height as u64).saturating_mul(size.width as u64);
        if pixels > limits.max_pixels {
            let (width, height, limit) = (size.width, size.height, limits.max_pixels);
            return Err(ImageError::TooManyPixels { format: "array", width, height, limit });
        }
        let needed = pixels.saturating_mul(4 * bands as u64);
        if needed > limits.max_bytes {
            let what = format!("an image of {bands} bands of {size}");
            return Err(ImageError::TooManyBytes { what, needed, limit: limits.max_bytes });
        }
        let (count, each) = (size.area() * bands, self.kind.bytes());
        if self.bytes.len() != count * each {
            let detail = format!("{} bytes for an array of shape {:?}", self.bytes.len(), self.shape);
            return Err(corrupt("array", detail));
        }
        // How far apart neighbors in a band, a row and a column are.
        let extents = match bands_last {
            true => [size.height, size.width, bands],
            false => [bands, size.height, size.width],
        };
        let strides = match self.fortran {
            true => [1, extents[0], extents[0] * extents[1]],
            false => [extents[1] * extents[2], extents[2], 1],
        };
        let [band_step, row_step, column_step] = match bands_last {
            true => [strides[2], strides[0], strides[1]],
            false => strides,
        };
        let value = |index: usize| {
            let bytes = &self.bytes[index * each..(index + 1) * each];
            match self.big_endian {
                false => self.kind.value(bytes),
                true => {
                    let mut turned = [0; 8];
                    turned[..each].copy_from_slice(bytes);
                    turned[..each].reverse();
                    self.kind.value(&turned[..each])
                }
            }
        };
        let mut values = Vec::with_capacity(count);
        for band in 0..bands {
            for row in 0..size.height {
                let start = band * band_step + row * row_step;
                values.extend((0..size.width).map(|column| value(start + column * column_step)));
            }
        }
        BandImage::new(size, bands, values, self.kind.full())
    }
}

impl BandImage {
    /// The image in an array of `shape`: `[height, width, bands]` or `[bands, height, width]`, told apart by the number of bands
    /// that a model takes, with or without a 1 before, or `[height, width]` of a single band. `full` is as in
    /// [`BandImage::new`], and `range` is what to make of samples of more than 8 bits, as in a file.
    ///
    /// # Errors
    /// If it is empty, can be read in two ways or none, or a value is not finite.
    pub fn from_array(
        shape: &[usize],
        values: &[f32],
        bands: usize,
        full: f32,
        range: SampleRange,
    ) -> Result<Self, ImageError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let array = Array { kind: Kind::F32, big_endian: false, fortran: false, shape: shape.to_vec(), bytes: &bytes };
        Ok(array.image(bands, &Limits::default())?.with_full(full).ranged(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `value = band · 100 + row · 10 + column`, as bytes in the order of `axes`.
    fn array(shape: [usize; 3], bands_last: bool, fortran: bool) -> Vec<u8> {
        let text = format!(
            "{{'descr': '<u2', 'fortran_order': {}, 'shape': ({}, {}, {}), }}\n",
            if fortran { "True" } else { "False" },
            shape[0],
            shape[1],
            shape[2]
        );
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes());
        let count: usize = shape.iter().product();
        for at in 0..count {
            let index = match fortran {
                false => [at / (shape[1] * shape[2]), at / shape[2] % shape[1], at % shape[2]],
                true => [at % shape[0], at / shape[0] % shape[1], at / (shape[0] * shape[1])],
            };
            let [band, row, column] = match bands_last {
                true => [index[2], index[0], index[1]],
                false => index,
            };
            bytes.extend(((band * 100 + row * 10 + column) as u16).to_le_bytes());
        }
        bytes
    }

    fn read_bands(bytes: &[u8], bands: usize) -> Result<BandImage, ImageError> {
        read(bytes, bands, &Limits::default()).expect("an array")
    }

    #[test]
    fn both_orders_of_axes_and_of_memory_give_the_same_image() {
        let expected = read_bands(&array([4, 2, 3], false, false), 4).expect("an image");
        assert_eq!((expected.size(), expected.full()), (Size { height: 2, width: 3 }, 65535.0));
        assert_eq!(expected.values()[2 * 6 + 5], 212.0);
        for (shape, last, fortran) in [([2, 3, 4], true, false), ([4, 2, 3], false, true), ([2, 3, 4], true, true)] {
            assert_eq!(read_bands(&array(shape, last, fortran), 4).expect("an image"), expected, "{shape:?} {fortran}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_none_is_an_error() {
        let said = |shape, bands| read_bands(&array(shape, false, false), bands).expect_err("unclear").to_string();
        assert!(said([4, 2, 4], 4).contains("both"), "{}", said([4, 2, 4], 4));
        assert!(said([4, 2, 3], 5).contains("[height, width, 5]"), "{}", said([4, 2, 3], 5));
        let mut cut = array([4, 2, 3], false, false);
        cut.pop();
        assert!(read_bands(&cut, 4).is_err());
        assert!(read(b"neither", 4, &Limits::default()).is_none());
    }

    #[test]
    fn archives_and_safetensors_hold_one_array() {
        let plain = array([2, 2, 2], false, false);
        assert!(read_bands(&plain, 2).is_err(), "both");
        let values: Vec<u8> = (0..12u16).flat_map(u16::to_le_bytes).collect();
        let tensor = || safetensors::tensor::TensorView::new(Dtype::U16, vec![2, 2, 3], &values).expect("a view");
        let one = safetensors::serialize([("image", tensor())], None).expect("a file");
        assert_eq!(read_bands(&one, 2).expect("an image").values()[11], 11.0);
        let two = safetensors::serialize([("a", tensor()), ("b", tensor())], None).expect("a file");
        assert!(read_bands(&two, 2).expect_err("two").to_string().contains("2 tensors"));
        let wide = array([2, 2, 3], false, false);
        let zipped = |names: &[&str]| {
            let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
            for name in names {
                writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a member");
                std::io::Write::write_all(&mut writer, &wide).expect("written");
            }
            writer.finish().expect("an archive").into_inner()
        };
        assert_eq!(read_bands(&zipped(&["arr_0.npy"]), 2).expect("an image"), read_bands(&wide, 2).expect("an image"));
        assert!(read_bands(&zipped(&["a.npy", "b.npy"]), 2).expect_err("two").to_string().contains("2 files"));
    }
}
