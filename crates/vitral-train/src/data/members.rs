//! The images in an archive: a tar, plain or gzip, or a zip.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use vitral::files::{is_hidden, is_image};
use vitral::image::Limits;
use zip::result::ZipError;

use super::classes::spelled;
use super::fault;
use super::split::Split;
use super::stored::{Stored, Storing};
use crate::error::TrainError;

/// Bytes of a zip's images to keep in memory; more go to a temporary file.
const IN_MEMORY: u64 = 1 << 30;

/// The images of an archive, before selecting a split.
pub(super) struct Listing {
    pub(super) images: Vec<Entry>,
    pub(super) bytes: Stored,
    /// Number of other files by their names' endings.
    pub(super) others: BTreeMap<String, usize>,
}

/// An image in an archive.
pub(super) struct Entry {
    pub(super) name: PathBuf,
    /// Contents of the `KEY.cls` next to it.
    pub(super) keyed: Option<String>,
    pub(super) start: u64,
    pub(super) length: usize,
    /// The folder around all of the archive that is named like it.
    pub(super) around: Option<String>,
}

impl Entry {
    /// The folders it is in, the outermost first, below that of the archive.
    fn folders(&self) -> Vec<String> {
        let parts = self.name.parent().into_iter().flat_map(Path::components);
        let named = parts.filter(|part| matches!(part, Component::Normal(_)));
        let named = named.map(|part| part.as_os_str().to_string_lossy().into_owned());
        named.skip(usize::from(self.around.is_some())).collect()
    }

    /// Its class, if the classes of the data are `depth` folders below the top, not counting those of splits; or the contents of
    /// its `KEY.cls`.
    pub(super) fn class(&self, depth: usize) -> Option<String> {
        let folder = || self.folders().into_iter().filter(|name| Split::of_name(name).is_none()).nth(depth);
        self.keyed.clone().or_else(|| folder().map(|name| spelled(&name)))
    }
}

/// Takes the folder named like the archive, as of each shard, off the names of its images, if all are in it.
pub(super) fn within_own_folder(path: &Path, listing: &mut Listing) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.split('.').next().unwrap_or_default();
    let within = |entry: &Entry| entry.folders().len() > 1 && entry.folders()[0] == stem;
    if listing.images.iter().all(within) {
        for entry in &mut listing.images {
            entry.around = Some(stem.to_owned());
        }
    }
}

/// How many folders around all of the data there are above those of its classes, not counting those of splits: the same as
/// when the archive is unpacked and a folder that holds nothing but one folder is passed through.
pub(super) fn depth_of_classes<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    let paths: Vec<Vec<String>> = entries
        .filter(|entry| entry.keyed.is_none())
        .map(|entry| entry.folders().into_iter().filter(|name| Split::of_name(name).is_none()).collect())
        .collect();
    let Some(first) = paths.first() else { return 0 };
    let around = |depth: &usize| paths.iter().all(|path| path.len() > depth + 1 && path[*depth] == first[*depth]);
    (0..).take_while(around).count()
}

/// Whether a file is an archive that can be read here, according to its name.
pub(super) fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz", ".zip"].iter().any(|ending| name.ends_with(ending))
}

/// Lists the images in an archive.
///
/// # Errors
/// If it cannot be read.
pub(super) fn list(path: &Path) -> Result<Listing, TrainError> {
    let opening = || TrainError::file(path, "opening an archive");
    let mut file = File::open(path).map_err(opening())?;
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(opening())?;
    file.rewind().map_err(opening())?;
    match &start[..] {
        [b'P', b'K', ..] => from_zip(path, file),
        [0x1f, 0x8b, ..] => from_tar(path, file, true),
        _ => from_tar(path, file, false),
    }
}

/// The images in an archive, without regard to classes.
#[derive(Debug)]
pub struct ArchivedImages {
    path: PathBuf,
    /// Names, and where their bytes are.
    entries: Vec<(PathBuf, u64, usize)>,
    bytes: Stored,
    others: BTreeMap<String, usize>,
}

impl ArchivedImages {
    /// Whether a file is an archive that can be read, according to its name.
    pub fn is_archive(path: &Path) -> bool {
        is_archive(path)
    }

    /// Lists the images of an archive, sorted by name.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let Listing { mut images, bytes, others } = list(path)?;
        images.sort_by(|a, b| (&a.name, a.start).cmp(&(&b.name, b.start)));
        let entries = images.into_iter().map(|image| (image.name, image.start, image.length)).collect();
        Ok(ArchivedImages { path: path.to_owned(), entries, bytes, others })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An image's name: the archive's path and its own.
    pub fn name(&self, index: usize) -> String {
        self.path.join(&self.entries[index].0).display().to_string()
    }

    /// An image's encoded bytes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn bytes(&self, index: usize) -> std::io::Result<Vec<u8>> {
        let (_, start, length) = self.entries[index];
        self.bytes.read(start, length)
    }

    /// Number of files by ending that are not images according to their names.
    pub fn others(&self) -> &BTreeMap<String, usize> {
        &self.others
    }
}

/// Files of an archive, sorted into images, labels beside them, and others.
#[derive(Default)]
struct Sorted {
    images: Vec<Entry>,
    keyed: BTreeMap<PathBuf, String>,
    others: BTreeMap<String, usize>,
}

/// What a member is according to its name.
enum Kind {
    Image,
    Label,
    Other,
}

impl Sorted {
    /// The kind of a member, which is counted if it is neither an image nor a label.
    fn kind(&mut self, name: &Path) -> Kind {
        if name.iter().any(|part| is_hidden(Path::new(part)) && part != ".") {
            return Kind::Other;
        }
        let ending = name.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if ending == "cls" {
            return Kind::Label;
        }
        if is_image(name) {
            return Kind::Image;
        }
        *self.others.entry(ending).or_default() += 1;
        Kind::Other
    }

    /// The listing, with labels put to their images.
    ///
    /// # Errors
    /// If some images have a label beside them and others have none.
    fn listing(mut self, bytes: Stored, path: &Path) -> Result<Listing, TrainError> {
        // A member that is there again replaces the one before, as when a tar is unpacked.
        let mut last: BTreeMap<&Path, usize> = BTreeMap::new();
        last.extend(self.images.iter().enumerate().map(|(place, image)| (image.name.as_path(), place)));
        let kept: Vec<bool> =
            self.images.iter().enumerate().map(|(place, image)| last[image.name.as_path()] == place).collect();
        let mut kept = kept.into_iter();
        self.images.retain(|_| kept.next().unwrap_or(true));
        for image in &mut self.images {
            image.keyed = self.keyed.get(&image.name.with_extension("")).cloned();
        }
        if let Some(image) = self.images.iter().find(|image| image.keyed.is_none() && !self.keyed.is_empty()) {
            let name = image.name.display();
            let found = format!("expected a label beside every image, found none beside `{name}`");
            return Err(fault(path, found, "add its `.cls`, or remove the image"));
        }
        Ok(Listing { images: self.images, bytes, others: self.others })
    }
}

fn from_tar(path: &Path, file: File, packed: bool) -> Result<Listing, TrainError> {
    let reading = || TrainError::file(path, "reading an archive");
    // The names of members in damaged archives are not fit to be shown.
    let damaged = |_| fault(path, "expected a complete tar, found damaged or missing data", "download the file again");
    let stream: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(BufReader::new(file.try_clone().map_err(reading())?))),
        false => Box::new(file.try_clone().map_err(reading())?),
    };
    let (mut sorted, mut memory) = (Sorted::default(), Vec::new());
    for entry in tar::Archive::new(stream).entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        match sorted.kind(&name) {
            Kind::Label => {
                let mut class = String::new();
                entry.read_to_string(&mut class).map_err(damaged)?;
                sorted.keyed.insert(name.with_extension(""), class.trim().to_owned());
            }
            Kind::Image => {
                let start = if packed { memory.len() as u64 } else { entry.raw_file_position() };
                let length =
                    if packed { entry.read_to_end(&mut memory).map_err(damaged)? } else { entry.size() as usize };
                sorted.images.push(Entry { name, keyed: None, start, length, around: None });
            }
            Kind::Other => {}
        }
    }
    sorted.listing(if packed { Stored::Memory(memory) } else { Stored::File(Mutex::new(file)) }, path)
}

fn from_zip(path: &Path, file: File) -> Result<Listing, TrainError> {
    let damaged = |error: ZipError| fault(path, error.to_string(), "download the file again, or unpack it");
    let storing = || TrainError::file(path, "keeping images in a temporary file");
    let size = file.metadata().map_err(storing())?.len();
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut stored = Storing::new(size, IN_MEMORY).map_err(storing())?;
    let mut sorted = Sorted::default();
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(damaged)?;
        let (file, locked, name) = (raw.is_file(), raw.encrypted(), raw.enclosed_name());
        drop(raw);
        let Some(name) = name.filter(|_| file) else { continue };
        let kind = sorted.kind(&name);
        if matches!(kind, Kind::Other) {
            continue;
        }
        if locked {
            let found = format!("expected a zip without a password, found `{}` encrypted", name.display());
            return Err(fault(path, found, "unpack it and give the folder"));
        }
        // A member that claims to be larger than any image is cut off, and fails to decode.
        let mut bytes = Vec::new();
        let member = archive.by_index(index).map_err(damaged)?;
        member
            .take(Limits::default().max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(TrainError::file(path.join(&name), "unpacking an image"))?;
        if matches!(kind, Kind::Label) {
            let class = String::from_utf8_lossy(&bytes).trim().to_owned();
            sorted.keyed.insert(name.with_extension(""), class);
        } else {
            let start = stored.push(&bytes).map_err(storing())?;
            sorted.images.push(Entry { name, keyed: None, start, length: bytes.len(), around: None });
        }
    }
    sorted.listing(stored.done(), path)
}
