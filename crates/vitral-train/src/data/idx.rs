//! MNIST's idx files, plain or gzip.

use std::path::{Path, PathBuf};

use vitral::image::preprocess::Channels;
use vitral::image::{Image, RgbImage};

use super::classes::class_names;
use super::{Dataset, fault, read_unpacked};
use crate::error::TrainError;

/// Images and labels in two idx files, as in MNIST and similar sets. Gray is replicated into three channels.
#[derive(Debug)]
pub struct Idx {
    path: PathBuf,
    classes: Vec<String>,
    labels: Vec<u8>,
    height: usize,
    width: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Idx {
    /// Reads the image file and the label file next to it, whose name is derived from the first. Class names come from
    /// `classes.txt` in the same folder, or are the numbers.
    ///
    /// # Errors
    /// If a file cannot be read, or the two do not match.
    pub fn open(images: &Path) -> Result<Self, TrainError> {
        let name = images.file_name().unwrap_or_default().to_string_lossy();
        let labels = images.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
        let (extents, pixels) = read(images)?;
        let (height, width, channels) = match extents[1..] {
            [height, width] => (height, width, 1),
            [height, width, 3] => (height, width, 3),
            _ => {
                let found = format!("expected extents [images, height, width], found {extents:?}");
                return Err(fault(images, found, "give the idx file of the images"));
            }
        };
        if height * width == 0 || extents[0] == 0 {
            return Err(fault(
                images,
                format!("expected images, found extents {extents:?}"),
                "download the file again",
            ));
        }
        let (label_extents, labels_found) = read(&labels)?;
        if label_extents != extents[..1] {
            let found = format!("expected {} labels, found extents {label_extents:?}", extents[0]);
            return Err(fault(&labels, found, "use images and labels of the same set"));
        }
        let most = usize::from(labels_found.iter().copied().max().unwrap_or(0));
        let named = images.with_file_name("classes.txt");
        let classes = match named.exists() {
            true => class_names(&named)?,
            false => (0..=most.max(9)).map(|class| class.to_string()).collect(),
        };
        if most >= classes.len() {
            let found = format!("expected labels below {}, the number of classes, found {most}", classes.len());
            return Err(fault(&labels, found, "correct `classes.txt` or the labels"));
        }
        Ok(Idx { path: images.into(), classes, labels: labels_found, height, width, channels, pixels })
    }
}

/// Extents and bytes of an idx file.
fn read(path: &Path) -> Result<(Vec<usize>, Vec<u8>), TrainError> {
    let mut bytes = read_unpacked(path)?;
    let wrong = |found: String| fault(path, found, "download the file again");
    let [0, 0, 8, axes, ..] = bytes[..] else {
        let start = &bytes[..bytes.len().min(4)];
        return Err(wrong(format!("expected an idx file of bytes, beginning with [0, 0, 8], found {start:?}")));
    };
    let start = 4 + 4 * usize::from(axes);
    let header =
        bytes.get(4..start).ok_or_else(|| wrong("expected an idx header, found the end of the file".into()))?;
    let extents: Vec<usize> =
        header.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let count = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    if axes == 0 || count != Some(bytes.len() - start) {
        return Err(wrong(format!("expected extents {extents:?} of bytes, found {}", bytes.len() - start)));
    }
    Ok((extents, bytes.split_off(start)))
}

impl Dataset for Idx {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{index}", self.path.display())
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let size = self.height * self.width * self.channels;
        let pixels = &self.pixels[index * size..][..size];
        let image = match self.channels {
            1 => RgbImage::from_gray(self.width, self.height, pixels),
            _ => RgbImage::new(self.width, self.height, pixels.to_vec()),
        };
        Ok(image.and_then(|image| Image::from(image).for_channels(channels)).map_err(vitral::Error::from)?)
    }
}
