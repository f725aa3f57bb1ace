//! Tars of images, plain or gzip: one folder per class, or WebDataset's pairs of `KEY.jpg` and `KEY.cls`, as one file
//! or shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use vitral::image::{ImageError, Limits, RgbImage, decode};

use super::split::Split;
use super::stored::Stored;
use super::{Dataset, class_of, fault, is_image};
use crate::error::TrainError;

/// Images in tars. For a plain tar only the offsets are kept; the contents of a gzip are kept in memory, still encoded.
#[derive(Debug)]
pub struct Archive {
    files: Vec<(PathBuf, Stored)>,
    classes: Vec<String>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    file: usize,
    name: PathBuf,
    label: usize,
    start: u64,
    length: usize,
}

/// The contents of an archive, before selecting a split.
struct Listing {
    images: Vec<Entry>,
    bytes: Stored,
}

struct Entry {
    name: PathBuf,
    /// Contents of the `KEY.cls` next to it.
    keyed: Option<String>,
    start: u64,
    length: usize,
}

impl Entry {
    fn class(&self) -> Option<String> {
        let folder = || Some(self.name.parent()?.file_name()?.to_string_lossy().into_owned());
        self.keyed.clone().or_else(folder)
    }
}

impl Archive {
    /// Lists the archives of one data set. A member's class is the folder it is in, or the contents of the `KEY.cls`
    /// next to it. If there are members in `train/` and `test/`, only those of `split` are used.
    ///
    /// # Errors
    /// If one cannot be read, or they hold no images in folders.
    pub fn open(paths: &[PathBuf], split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let listings = paths.iter().map(|path| list(path)).collect::<Result<Vec<_>, _>>()?;
        let all = || paths.iter().zip(&listings).flat_map(|(path, of)| of.images.iter().map(move |one| (path, one)));
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None => {
                let every = all().map(|(path, image)| {
                    let found = format!("expected a class folder around `{}`, found none", image.name.display());
                    let hint = "put each image into a folder named after its class";
                    image.class().ok_or_else(|| fault(path, found, hint))
                });
                ordered(every.collect::<Result<_, _>>()?, all().any(|(_, image)| image.keyed.is_some()))
            }
        };
        let divided = all().filter_map(|(_, image)| Split::of_path(&image.name)).collect::<BTreeSet<_>>();
        let wanted = split.filter(|_| divided.len() > 1).map(|split| split.among(&divided));
        let (mut files, mut members) = (Vec::with_capacity(paths.len()), Vec::new());
        for (file, (path, Listing { mut images, bytes })) in paths.iter().zip(listings).enumerate() {
            images.retain(|image| wanted.is_none_or(|wanted| Split::of_path(&image.name) == wanted));
            images.sort_by(|a, b| (&a.name, a.start).cmp(&(&b.name, b.start)));
            for image in images {
                let label = class_of(&classes, &image.class().unwrap_or_default(), path)?;
                let Entry { name, start, length, .. } = image;
                members.push(Member { file, name, label, start, length });
            }
            files.push((path.clone(), bytes));
        }
        if members.is_empty() {
            let first = paths.first().map_or(Path::new(""), |path| path);
            return Err(fault(first, "expected images, found none", "pack images, with one folder per class"));
        }
        Ok(Archive { files, classes, members })
    }

    /// The splits that folders in the archive are named after.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        Ok(list(path)?.images.iter().filter_map(|image| Split::of_path(&image.name)).collect())
    }
}

/// Class names in order: numbers are sorted as numbers, so that class 10 comes after class 9, and those of `KEY.cls`
/// are all numbers from 0 to the largest.
fn ordered(names: BTreeSet<String>, keyed: bool) -> Vec<String> {
    let Ok(mut numbers) = names.iter().map(|name| name.parse::<u32>()).collect::<Result<Vec<_>, _>>() else {
        return names.into_iter().collect();
    };
    if keyed {
        numbers = (0..=numbers.into_iter().max().unwrap_or(0)).collect();
    }
    numbers.sort_unstable();
    numbers.into_iter().map(|number| number.to_string()).collect()
}

fn list(path: &Path) -> Result<Listing, TrainError> {
    let opening = || TrainError::file(path, "opening an archive");
    let mut file = File::open(path).map_err(opening())?;
    let mut start = [0; 2];
    let packed = file.read(&mut start).map_err(opening())? == 2 && start == [0x1f, 0x8b];
    file.rewind().map_err(opening())?;
    let stream: Box<dyn Read> = match packed {
        true => Box::new(MultiGzDecoder::new(std::io::BufReader::new(file.try_clone().map_err(opening())?))),
        false => Box::new(file.try_clone().map_err(opening())?),
    };
    let reading = || TrainError::file(path, "reading an archive");
    let (mut images, mut keyed, mut memory) = (Vec::new(), BTreeMap::new(), Vec::new());
    for entry in tar::Archive::new(stream).entries().map_err(reading())? {
        let mut entry = entry.map_err(reading())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(reading())?.into_owned();
        if name.extension().is_some_and(|ending| ending == "cls") {
            let mut class = String::new();
            entry.read_to_string(&mut class).map_err(reading())?;
            keyed.insert(name.with_extension(""), class.trim().to_owned());
        } else if is_image(&name) {
            let start = if packed { memory.len() as u64 } else { entry.raw_file_position() };
            let length =
                if packed { entry.read_to_end(&mut memory).map_err(reading())? } else { entry.size() as usize };
            images.push(Entry { name, keyed: None, start, length });
        }
    }
    for image in &mut images {
        image.keyed = keyed.get(&image.name.with_extension("")).cloned();
    }
    let bytes = if packed { Stored::Memory(memory) } else { Stored::File(Mutex::new(file)) };
    Ok(Listing { images, bytes })
}

impl Dataset for Archive {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.members.len()
    }

    fn label(&self, index: usize) -> usize {
        self.members[index].label
    }

    fn name(&self, index: usize) -> String {
        let member = &self.members[index];
        self.files[member.file].0.join(&member.name).display().to_string()
    }

    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        let member = &self.members[index];
        let stored = &self.files[member.file].1;
        let bytes =
            stored.read(member.start, member.length).map_err(TrainError::file(self.name(index), "reading an image"))?;
        let within = |source| ImageError::InFile { path: self.name(index).into(), source: Box::new(source) };
        Ok(decode(&bytes, &Limits::default()).map_err(within).map_err(vitral::Error::from)?)
    }
}
