//! CIFAR-10 and CIFAR-100 in their binary format.

use std::path::{Path, PathBuf};

use vitral::image::preprocess::Channels;
use vitral::image::{Image, RgbImage};

use super::classes::class_names;
use super::{Dataset, fault, read_unpacked};
use crate::error::TrainError;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// Records of a label and three planes of 32 × 32 bytes: `data_batch_*.bin` and `test_batch.bin` for CIFAR-10,
/// `train.bin` and `test.bin` for CIFAR-100, with its fine labels.
#[derive(Debug)]
pub struct Cifar {
    classes: Vec<String>,
    /// Number of bytes before the planes; the last of them is the label.
    head: usize,
    files: Vec<(PathBuf, usize)>,
    records: Vec<u8>,
}

impl Cifar {
    /// Reads the files of one set, in order.
    ///
    /// # Errors
    /// If one cannot be read or does not consist of records, or a label is out of range.
    pub fn open(files: &[PathBuf]) -> Result<Self, TrainError> {
        let Some(first) = files.first() else {
            return Err(fault(Path::new(""), "expected CIFAR's binary files, found none", "give their folder"));
        };
        let hundred = matches!(stem(first).as_str(), "train" | "test");
        let (head, count, names) = match hundred {
            true => (2, 100, "fine_label_names.txt"),
            false => (1, 10, "batches.meta.txt"),
        };
        let (mut records, mut starts) = (Vec::new(), Vec::new());
        for path in files {
            let bytes = read_unpacked(path)?;
            if bytes.is_empty() || bytes.len() % (head + 3 * PLANE) != 0 {
                let record = head + 3 * PLANE;
                let found = format!("expected records of {record} bytes (CIFAR-{count}), found {} bytes", bytes.len());
                return Err(fault(path, found, "download the file again"));
            }
            starts.push((path.clone(), records.len() / (head + 3 * PLANE)));
            records.extend(bytes);
        }
        let named = first.with_file_name(names);
        let classes = match named.exists() {
            true => class_names(&named)?,
            false => (0..count).map(|class| class.to_string()).collect(),
        };
        let found = Cifar { classes, head, files: starts, records };
        if let Some(index) = (0..found.len()).find(|&index| found.label(index) >= found.classes.len()) {
            let (label, classes) = (found.label(index), found.classes.len());
            let what = format!("expected labels below {classes}, the number of classes, found {label} (image {index})");
            return Err(fault(first, what, "download the file again"));
        }
        Ok(found)
    }

    fn record(&self, index: usize) -> &[u8] {
        let length = self.head + 3 * PLANE;
        &self.records[index * length..][..length]
    }
}

/// A file's name before its first dot.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

impl Dataset for Cifar {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.records.len() / (self.head + 3 * PLANE)
    }

    fn label(&self, index: usize) -> usize {
        usize::from(self.record(index)[self.head - 1])
    }

    fn name(&self, index: usize) -> String {
        let (path, start) = self.files.iter().rev().find(|(_, start)| *start <= index).expect("the first starts at 0");
        format!("{}#{}", path.display(), index - start)
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let planes = &self.record(index)[self.head..];
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]).collect();
        let image = RgbImage::new(SIDE, SIDE, pixels);
        Ok(image.and_then(|image| Image::from(image).for_channels(channels)).map_err(vitral::Error::from)?)
    }
}
