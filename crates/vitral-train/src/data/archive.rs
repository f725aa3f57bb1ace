//! A tar of pictures, plain or gzip: a folder a class, or WebDataset's pairs of `KEY.jpg` and `KEY.cls`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use vitral::image::{ImageError, Limits, RgbImage, decode};

use super::open::Split;
use super::stored::Stored;
use super::{Dataset, class_of, fault, is_picture};
use crate::error::TrainError;

/// Pictures in a tar. Of a plain tar only the places are remembered; what gzip hides is kept in memory, still encoded.
pub struct Archive {
    path: PathBuf,
    classes: Vec<String>,
    members: Vec<Member>,
    bytes: Stored,
}

struct Member {
    name: PathBuf,
    label: usize,
    start: u64,
    length: usize,
}

/// What an archive holds, before it is known which of it is asked for.
struct Listing {
    pictures: Vec<(PathBuf, u64, usize)>,
    /// Contents of `KEY.cls`.
    keyed: BTreeMap<PathBuf, String>,
    bytes: Stored,
}

impl Archive {
    /// Lists an archive. A member's class is the folder it lies in, or what `KEY.cls` beside it holds. Where members lie
    /// under `train/` and `test/`, only those of `split` are taken.
    ///
    /// # Errors
    /// If it cannot be read, or holds no pictures in folders.
    pub fn open(path: &Path, split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let Listing { mut pictures, keyed, bytes } = list(path)?;
        let class_name = |name: &Path| -> Option<String> {
            match keyed.get(&name.with_extension("")) {
                Some(class) => Some(class.clone()),
                None => Some(name.parent()?.file_name()?.to_string_lossy().into_owned()),
            }
        };
        let every = pictures.iter().map(|(name, ..)| {
            let remedy = "put each picture into a folder with the name of its class";
            let what =
                || fault(path, format!("expected a class folder around `{}`, found none", name.display()), remedy);
            class_name(name).ok_or_else(what)
        });
        let mut every: Vec<String> = every.collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect();
        // Numbers count as numbers: class 10 stands after class 9.
        if let Ok(mut numbers) = every.iter().map(|name| name.parse::<u32>()).collect::<Result<Vec<_>, _>>() {
            if !keyed.is_empty() {
                numbers = (0..=numbers.into_iter().max().unwrap_or(0)).collect();
            }
            numbers.sort_unstable();
            every = numbers.into_iter().map(|number| number.to_string()).collect();
        }
        let classes = classes.map_or(every, <[String]>::to_vec);
        let divided = pictures.iter().filter_map(|(name, ..)| Split::of_path(name)).collect::<BTreeSet<_>>();
        if let Some(split) = split.filter(|_| divided.len() > 1) {
            let wanted = split.among(&divided);
            pictures.retain(|(name, ..)| Split::of_path(name) == wanted);
        }
        pictures.sort();
        let member = |(name, start, length): (PathBuf, u64, usize)| {
            let class = class_name(&name).unwrap_or_default();
            Ok(Member { label: class_of(&classes, &class, path)?, name, start, length })
        };
        let members = pictures.into_iter().map(member).collect::<Result<Vec<_>, TrainError>>()?;
        if members.is_empty() {
            return Err(fault(path, "expected pictures, found none", "pack pictures, one folder a class"));
        }
        Ok(Archive { path: path.into(), classes, members, bytes })
    }

    /// Whether the members lie under folders named for splits.
    pub(super) fn is_divided(path: &Path) -> Result<bool, TrainError> {
        let found = list(path)?.pictures.iter().filter_map(|(name, ..)| Split::of_path(name)).collect::<BTreeSet<_>>();
        Ok(found.len() > 1)
    }
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
    let (mut pictures, mut keyed, mut memory) = (Vec::new(), BTreeMap::new(), Vec::new());
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
        } else if is_picture(&name) {
            let start = if packed { memory.len() as u64 } else { entry.raw_file_position() };
            let length =
                if packed { entry.read_to_end(&mut memory).map_err(reading())? } else { entry.size() as usize };
            pictures.push((name, start, length));
        }
    }
    let bytes = if packed { Stored::Memory(memory) } else { Stored::File(Mutex::new(file)) };
    Ok(Listing { pictures, keyed, bytes })
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
        self.path.join(&self.members[index].name).display().to_string()
    }

    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        let member = &self.members[index];
        let bytes = self
            .bytes
            .read(member.start, member.length)
            .map_err(TrainError::file(self.name(index), "reading a picture"))?;
        let within = |source| ImageError::InFile { path: self.name(index).into(), source: Box::new(source) };
        Ok(decode(&bytes, &Limits::default()).map_err(within).map_err(vitral::Error::from)?)
    }
}
