//! Files of named tensors in any format: safetensors (one file or many), PyTorch checkpoints and NumPy archives.
//!
//! The format is recognized by content, not by file name. Tensors stay in the mapped file until they are requested, and
//! are then returned as a borrowed slice if their bytes are contiguous.

mod entry;
mod mapping;
pub(crate) mod npz;
pub mod pytorch;
pub mod safetensors;
mod zip;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

pub use entry::DataType;
use entry::{Entry, Layout};
use mapping::Bytes;

use super::{WeightsError, json};

/// One tensor of a container.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Type of the elements.
    pub data_type: DataType,
    /// Dimensions, outermost first.
    pub shape: &'a [usize],
    /// Elements in row-major order, little-endian.
    pub bytes: Cow<'a, [u8]>,
}

/// The tensors of one model, in one file or several.
#[derive(Debug)]
pub struct Container {
    files: Vec<(PathBuf, Bytes)>,
    entries: BTreeMap<String, Entry>,
    section: Option<String>,
}

impl Container {
    /// Opens a weight file, or the index (`*.index.json`) of a model in several files.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::open_section(path, None)
    }

    /// Like [`Container::open`], but reads the state under `section` of a checkpoint that holds several (`model`,
    /// `state_dict_ema`, `teacher`…).
    pub fn open_section(path: &Path, section: Option<&str>) -> Result<Self, WeightsError> {
        Self::open_files(&expand(path)?, section)
    }

    /// Opens several files as one container. Each name may occur in only one of them.
    pub fn open_files(paths: &[PathBuf], section: Option<&str>) -> Result<Self, WeightsError> {
        let mut container = Container { files: Vec::new(), entries: BTreeMap::new(), section: None };
        for path in paths {
            container.add(path.clone(), Bytes::map(path)?, section)?;
        }
        Ok(container)
    }

    /// Whether a file is a NumPy archive, by its first bytes.
    pub(crate) fn is_numpy(path: &Path) -> Result<bool, WeightsError> {
        Ok(npz::recognizes(&Bytes::map(path)?))
    }

    /// Reads a container that is already in memory. `name` is used in place of the file name in errors.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, WeightsError> {
        let mut container = Container { files: Vec::new(), entries: BTreeMap::new(), section: None };
        container.add(PathBuf::from(name), Bytes::Owned(bytes), None)?;
        Ok(container)
    }

    fn add(&mut self, path: PathBuf, bytes: Bytes, section: Option<&str>) -> Result<(), WeightsError> {
        let entries = if npz::recognizes(&bytes) {
            npz::entries(&path, &bytes)?
        } else if safetensors::is_whole(&bytes) {
            // The length of a header may begin like a pickle.
            safetensors::entries(&path, &bytes)?
        } else if pytorch::recognizes(&bytes) {
            let read = pytorch::entries(&path, &bytes, section)?;
            self.section = read.section;
            read.entries
        } else if safetensors::recognizes(&bytes) {
            safetensors::entries(&path, &bytes)?
        } else {
            return Err(WeightsError::UnknownContainer { path, found: first_bytes(&bytes) });
        };
        let file = self.files.len();
        for (name, entry) in unwrapped(entries) {
            if let Some(earlier) = self.entries.insert(name.clone(), Entry { file, ..entry }) {
                let first = self.files.get(earlier.file).map_or_else(|| path.clone(), |(path, _)| path.clone());
                return Err(WeightsError::Duplicate { name, first, second: path });
            }
        }
        self.files.push((path, bytes));
        Ok(())
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is a tensor with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A tensor's dimensions.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor's type.
    pub fn data_type(&self, name: &str) -> Option<DataType> {
        self.entries.get(name).map(|entry| entry.data_type)
    }

    /// The section of a checkpoint that the tensors come from, such as `model` or `state_dict_ema`, if it has sections.
    pub fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// The files behind the container.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Lets the system reclaim the memory of a tensor that has been read and is not needed soon.
    pub(crate) fn release(&self, name: &str) {
        if let Some(entry) = self.entries.get(name) {
            let range = match &entry.layout {
                Layout::Contiguous { bytes } => bytes.clone(),
                Layout::Strided { storage, .. } => storage.clone(),
                Layout::Deflated { place, .. } => place.range.clone(),
            };
            self.files[entry.file].1.release(range);
        }
    }

    /// A tensor, borrowed from its file if its bytes are contiguous.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let entry = self.entries.get(name)?;
        let file: &[u8] = &self.files[entry.file].1;
        let size = entry.data_type.bits() / 8;
        let mut bytes = match &entry.layout {
            Layout::Contiguous { bytes } => Cow::Borrowed(&file[bytes.clone()]),
            Layout::Strided { storage, offset, strides } => {
                Cow::Owned(gather(&file[storage.clone()], size, *offset, &entry.shape, strides))
            }
            Layout::Deflated { place, skip, strides } => {
                let mut unpacked = Vec::with_capacity(place.size);
                zip::inflate(file, place, |part| unpacked.extend_from_slice(part)).ok()?;
                let unpacked = unpacked.split_off(*skip);
                Cow::Owned(match strides {
                    Some(strides) => gather(&unpacked, size, 0, &entry.shape, strides),
                    None => unpacked,
                })
            }
        };
        if entry.big_endian && size > 1 {
            bytes.to_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Some(TensorView { data_type: entry.data_type, shape: &entry.shape, bytes })
    }
}

/// Names without what wrappers around a model add, which carries no information: `module.` in front (data parallelism, an
/// average of weights), and inside a name the parts that PyTorch adds where a module is compiled, sharded or recomputed.
/// Names stay as they are if two of them would become one.
fn unwrapped(entries: Vec<(String, Entry)>) -> Vec<(String, Entry)> {
    let plain: Vec<String> = entries.iter().map(|(name, _)| plain_name(name)).collect();
    let distinct: HashSet<&String> = plain.iter().collect();
    if distinct.len() < plain.len() {
        return entries;
    }
    plain.into_iter().zip(entries).map(|(name, (_, entry))| (name, entry)).collect()
}

fn plain_name(name: &str) -> String {
    const ANYWHERE: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
    let parts = name.split('.').filter(|part| !ANYWHERE.contains(part));
    let parts: Vec<&str> = parts.skip_while(|part| *part == "module").collect();
    parts.join(".")
}

/// Copies a strided view into row-major order. The caller has checked that all elements are inside the storage.
fn gather(storage: &[u8], size: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut gathered = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    for _ in 0..count {
        let place = offset + index.iter().zip(strides).map(|(at, stride)| at * stride).sum::<usize>();
        gathered.extend_from_slice(&storage[place * size..][..size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    gathered
}

/// The files of a path: those listed by an index, or the file itself.
pub(crate) fn expand(path: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    if path.to_string_lossy().ends_with(".index.json") { shards(path) } else { Ok(vec![path.to_owned()]) }
}

/// The files listed by an index, each once.
fn shards(index: &Path) -> Result<Vec<PathBuf>, WeightsError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read(index).map_err(|source| WeightsError::io(index, source))?;
    let listed: Index = json::parse(&text)
        .and_then(serde_json::from_value)
        .map_err(|error| WeightsError::description(index, format!("not a list of weight files: {error}")))?;
    let mut names: Vec<String> = listed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    let folder = index.parent().unwrap_or(Path::new("."));
    names
        .into_iter()
        .map(|name| {
            // A shard is beside its index; a path that leads elsewhere is an attack or a mistake.
            let plain = Path::new(&name).file_name().is_some_and(|file| file == name.as_str());
            if plain {
                Ok(folder.join(name))
            } else {
                Err(WeightsError::description(index, format!("`{name}` is not a file beside the index")))
            }
        })
        .collect()
}

/// What a file's first bytes look like, and what to do about it.
fn first_bytes(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty; fetch or save it again".into();
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return "this is a Git LFS pointer; fetch the real file with `git lfs pull`".into();
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return "a tar archive, as written by PyTorch before 0.4; load and save it with a newer PyTorch".into();
    }
    if bytes.starts_with(b"\x89HDF") {
        return "an HDF5 file of Keras or TensorFlow; convert it with the library that wrote it".into();
    }
    if bytes.starts_with(b"<") {
        return "it begins like a web page, perhaps from a failed download; fetch the file again".into();
    }
    let start = bytes[..bytes.len().min(16)].escape_ascii();
    format!("it begins with `{start}`; convert it with the library that wrote it")
}
