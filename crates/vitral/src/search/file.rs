//! The file of an index: safetensors, so that `features` can be read by anything else.
//!
//! | tensor | type | what |
//! |---|---|---|
//! | `features` | f32 or f16 `[images, width]` | as the model gave them |
//! | `names` | bytes | paths below the folder, UTF-8, each ended by a zero byte |
//! | `labels` | i32 `[images]` | places in the list of classes, −1 for none |
//! | `small` | bytes `[images, 32, 32]` | the images in gray, stretched to squares |
//! | `pixels` | bytes `[images, 16]` | hashes of the upright pixels |
//! | `bytes`, `written` | i64 `[images]` | lengths and times of the files |
//! | `origin.test` | f32 `[width]` | the model's features of its test image |
//! | `about` | bytes | JSON: folder, origin, classes |

use std::io::Write as _;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use super::SearchError;
use super::index::{Entry, FileState, Index};
use super::origin::Origin;
use super::pixels::SIDE;
use crate::atomic::AtomicFile;
use crate::weights::{Container, DataType, WeightsError};

/// The version of the format.
const FORMAT: u32 = 1;

/// What numbers features are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stored {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit floating point: half as large. Cosines change by less than 0.001.
    F16,
}

/// The tensor `about`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    folder: PathBuf,
    missing: usize,
    origin: Origin,
    classes: Vec<String>,
}

impl Index {
    /// Writes the index. A file appears only when it is complete, and the one before stays until then.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path, stored: Stored) -> Result<(), SearchError> {
        let fault = |fault| SearchError::File { path: path.to_owned(), doing: "writing the index", fault };
        self.write_to(AtomicFile::create(path).map_err(fault)?, stored).map_err(fault)
    }

    fn write_to(&self, mut file: AtomicFile, stored: Stored) -> std::io::Result<()> {
        let (count, width) = (self.len(), self.width());
        let mut classes: Vec<&str> = self.entries.iter().filter_map(|entry| entry.label.as_deref()).collect();
        classes.sort_unstable();
        classes.dedup();
        let about = About {
            format: FORMAT,
            folder: self.folder.clone(),
            missing: self.missing,
            origin: self.origin.clone(),
            classes: classes.iter().map(|&class| class.to_owned()).collect(),
        };
        let about = serde_json::to_vec(&about)?;
        let label = |entry: &Entry| -> i32 {
            let class = entry.label.as_deref().and_then(|label| classes.binary_search(&label).ok());
            class.and_then(|class| i32::try_from(class).ok()).unwrap_or(-1)
        };
        let names: usize = self.entries.iter().map(|entry| entry.name.len() + 1).sum();
        let features = if stored == Stored::F16 { Dtype::F16 } else { Dtype::F32 };
        // Numbers of many bytes come first, so that all are aligned.
        let tensors = [
            ("written", Dtype::I64, vec![count]),
            ("bytes", Dtype::I64, vec![count]),
            ("origin.test", Dtype::F32, vec![width]),
            ("labels", Dtype::I32, vec![count]),
            ("features", features, vec![count, width]),
            ("small", Dtype::U8, vec![count, SIDE, SIDE]),
            ("pixels", Dtype::U8, vec![count, 16]),
            ("names", Dtype::U8, vec![names]),
            ("about", Dtype::U8, vec![about.len()]),
        ];
        file.write_all(&header(tensors)?)?;
        for entry in &self.entries {
            file.write_all(&entry.state.written.to_le_bytes())?;
        }
        for entry in &self.entries {
            file.write_all(&entry.state.bytes.to_le_bytes())?;
        }
        for value in &self.origin.test {
            file.write_all(&value.to_le_bytes())?;
        }
        for entry in &self.entries {
            file.write_all(&label(entry).to_le_bytes())?;
        }
        for &value in &self.features {
            match stored {
                Stored::F32 => file.write_all(&value.to_le_bytes())?,
                Stored::F16 => file.write_all(&f16::from_f32(value).to_le_bytes())?,
            }
        }
        file.write_all(&self.small)?;
        for entry in &self.entries {
            file.write_all(&entry.pixels)?;
        }
        for entry in &self.entries {
            file.write_all(entry.name.as_bytes())?;
            file.write_all(&[0])?;
        }
        file.write_all(&about)?;
        file.finish()
    }

    /// Reads an index.
    ///
    /// # Errors
    /// If the file cannot be read, is not an index or is damaged.
    pub fn read(path: &Path) -> Result<Self, SearchError> {
        let foreign = |found: &str| SearchError::Foreign { path: path.to_owned(), found: found.to_owned() };
        if path.is_dir() {
            return Err(foreign("a folder"));
        }
        let container = Container::open(path).map_err(|fault| match fault {
            WeightsError::UnknownContainer { .. } => foreign("a file of another kind"),
            WeightsError::Damaged { fault, .. } => SearchError::Damaged { path: path.to_owned(), fault },
            fault => fault.into(),
        })?;
        let about = container.tensor("about").filter(|_| container.contains("origin.test"));
        let about = about.ok_or_else(|| foreign("safetensors with other contents"))?;
        let contents = Contents { path, container: &container };
        let version = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("format")?.as_u64();
        match version(&about.bytes) {
            Some(version) if version == u64::from(FORMAT) => {}
            Some(version) => return Err(foreign(&format!("one in format {version}, and this is for format {FORMAT}"))),
            None => return Err(contents.damaged("`about` is not as an index describes itself")),
        }
        let about: About = serde_json::from_slice(&about.bytes)
            .map_err(|fault| contents.damaged(&format!("`about` cannot be understood: {fault}")))?;
        contents.index(about)
    }
}

/// An index's tensors, as they are checked.
struct Contents<'a> {
    path: &'a Path,
    container: &'a Container,
}

impl Contents<'_> {
    fn damaged(&self, fault: &str) -> SearchError {
        SearchError::Damaged { path: self.path.to_owned(), fault: fault.to_owned() }
    }

    /// Values of a tensor of some type and shape.
    fn read<T, const BYTES: usize>(
        &self,
        name: &str,
        kind: DataType,
        shape: &[usize],
        value: impl Fn([u8; BYTES]) -> T,
    ) -> Result<Vec<T>, SearchError> {
        let tensor = self.container.tensor(name).ok_or_else(|| self.damaged(&format!("`{name}` is missing")))?;
        if tensor.data_type != kind || tensor.shape != shape {
            let (expected, found) = (kind.name(), tensor.data_type.name());
            return Err(self.damaged(&format!(
                "expected `{name}` in {expected} of shape {shape:?}, found {found} of shape {:?}",
                tensor.shape
            )));
        }
        Ok(tensor.bytes.as_chunks::<BYTES>().0.iter().map(|&bytes| value(bytes)).collect())
    }

    fn index(&self, about: About) -> Result<Index, SearchError> {
        let shape = self.container.shape("features").map(<[usize]>::to_vec).unwrap_or_default();
        let &[count, width] = &shape[..] else {
            return Err(self.damaged(&format!("expected `features` of shape [images, width], found {shape:?}")));
        };
        let features = match self.container.data_type("features") {
            Some(DataType::Float16) => {
                self.read("features", DataType::Float16, &shape, |bytes| f16::from_le_bytes(bytes).to_f32())?
            }
            _ => self.read("features", DataType::Float32, &shape, f32::from_le_bytes)?,
        };
        if let Some(at) = features.iter().position(|value| !value.is_finite()) {
            let row = at / width.max(1);
            return Err(self.damaged(&format!("the features of image {row} are not finite")));
        }
        let test = self.read("origin.test", DataType::Float32, &[width], f32::from_le_bytes)?;
        if width == 0 || !test.iter().all(|value| value.is_finite()) {
            return Err(self.damaged("the features of the test image are not finite numbers"));
        }
        let labels = self.read("labels", DataType::Int32, &[count], i32::from_le_bytes)?;
        let bytes = self.read("bytes", DataType::Int64, &[count], u64::from_le_bytes)?;
        let written = self.read("written", DataType::Int64, &[count], i64::from_le_bytes)?;
        let pixels = self.read("pixels", DataType::UInt8, &[count, 16], |bytes: [u8; 16]| bytes)?;
        let small = self.read("small", DataType::UInt8, &[count, SIDE, SIDE], |[byte]: [u8; 1]| byte)?;
        let names = self.names(count)?;
        let mut entries = Vec::with_capacity(count);
        for (row, name) in names.into_iter().enumerate() {
            let label = match usize::try_from(labels[row]) {
                Ok(class) => match about.classes.get(class) {
                    Some(class) => Some(class.clone()),
                    None => return Err(self.damaged(&format!("image {row} has a label that is not in the list"))),
                },
                Err(_) => None,
            };
            let state = FileState { bytes: bytes[row], written: written[row] };
            entries.push(Entry { name, label, state, pixels: pixels[row] });
        }
        let mut origin = about.origin;
        origin.test = test;
        Ok(Index { origin, folder: about.folder, missing: about.missing, entries, features, small })
    }

    fn names(&self, count: usize) -> Result<Vec<String>, SearchError> {
        let tensor = self.container.tensor("names").ok_or_else(|| self.damaged("`names` is missing"))?;
        let text = std::str::from_utf8(&tensor.bytes).map_err(|_| self.damaged("the names are not UTF-8"))?;
        let names: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        match names.len() == count && (text.is_empty() || text.ends_with('\0')) {
            true => Ok(names),
            false => Err(self.damaged(&format!("expected {count} names, found {}", names.len()))),
        }
    }
}

/// The start of a file of tensors that follow in this order.
fn header<const COUNT: usize>(tensors: [(&str, Dtype, Vec<usize>); COUNT]) -> std::io::Result<Vec<u8>> {
    let mut end = 0;
    let infos = tensors.map(|(name, dtype, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let metadata = Metadata::new(None, infos.to_vec()).map_err(std::io::Error::other)?;
    let mut text = serde_json::to_vec(&metadata)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    Ok(header)
}
