//! Tars of pictures, plain or gzip: a folder a class, or WebDataset's pairs of `KEY.jpg` and `KEY.cls`, in one file or shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::read::MultiGzDecoder;
use vitral::image::{ImageError, Limits, RgbImage, decode};

use super::split::Split;
use super::stored::Stored;
use super::{Dataset, class_of, fault, is_picture};
use crate::error::TrainError;

/// Pictures in tars. Of a plain tar only the places are remembered; what gzip hides is kept in memory, still encoded.
pub struct Archive {
    files: Vec<(PathBuf, Stored)>,
    classes: Vec<String>,
    members: Vec<Member>,
}

struct Member {
    file: usize,
    name: PathBuf,
    label: usize,
    start: u64,
    length: usize,
}

/// What an archive holds, before it is known which of it is asked for.
struct Listing {
    pictures: Vec<Picture>,
    bytes: Stored,
}

struct Picture {
    name: PathBuf,
    /// What `KEY.cls` beside it holds.
    keyed: Option<String>,
    start: u64,
    length: usize,
}

impl Picture {
    fn class(&self) -> Option<String> {
        let folder = || Some(self.name.parent()?.file_name()?.to_string_lossy().into_owned());
        self.keyed.clone().or_else(folder)
    }
}

impl Archive {
    /// Lists the archives of one data set. A member's class is the folder it lies in, or what `KEY.cls` beside it holds. Where
    /// members lie under `train/` and `test/`, only those of `split` are taken.
    ///
    /// # Errors
    /// If one cannot be read, or they hold no pictures in folders.
    pub fn open(paths: &[PathBuf], split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let listings = paths.iter().map(|path| list(path)).collect::<Result<Vec<_>, _>>()?;
        let all = || paths.iter().zip(&listings).flat_map(|(path, of)| of.pictures.iter().map(move |one| (path, one)));
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None => {
                let every = all().map(|(path, picture)| {
                    let found = format!("expected a class folder around `{}`, found none", picture.name.display());
                    let remedy = "put each picture into a folder with the name of its class";
                    picture.class().ok_or_else(|| fault(path, found, remedy))
                });
                ordered(every.collect::<Result<_, _>>()?, all().any(|(_, picture)| picture.keyed.is_some()))
            }
        };
        let divided = all().filter_map(|(_, picture)| Split::of_path(&picture.name)).collect::<BTreeSet<_>>();
        let wanted = split.filter(|_| divided.len() > 1).map(|split| split.among(&divided));
        let (mut files, mut members) = (Vec::with_capacity(paths.len()), Vec::new());
        for (file, (path, Listing { mut pictures, bytes })) in paths.iter().zip(listings).enumerate() {
            pictures.retain(|picture| wanted.is_none_or(|wanted| Split::of_path(&picture.name) == wanted));
            pictures.sort_by(|a, b| (&a.name, a.start).cmp(&(&b.name, b.start)));
            for picture in pictures {
                let label = class_of(&classes, &picture.class().unwrap_or_default(), path)?;
                let Picture { name, start, length, .. } = picture;
                members.push(Member { file, name, label, start, length });
            }
            files.push((path.clone(), bytes));
        }
        if members.is_empty() {
            let first = paths.first().map_or(Path::new(""), |path| path);
            return Err(fault(first, "expected pictures, found none", "pack pictures, one folder a class"));
        }
        Ok(Archive { files, classes, members })
    }

    /// The parts that folders around the members are named for.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        Ok(list(path)?.pictures.iter().filter_map(|picture| Split::of_path(&picture.name)).collect())
    }
}

/// Names of classes in their order: numbers count as numbers, so that class 10 stands after class 9, and those of `KEY.cls` begin
/// with 0 whether it was found or not.
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
            pictures.push(Picture { name, keyed: None, start, length });
        }
    }
    for picture in &mut pictures {
        picture.keyed = keyed.get(&picture.name.with_extension("")).cloned();
    }
    let bytes = if packed { Stored::Memory(memory) } else { Stored::File(Mutex::new(file)) };
    Ok(Listing { pictures, bytes })
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
        let bytes = stored
            .read(member.start, member.length)
            .map_err(TrainError::file(self.name(index), "reading a picture"))?;
        let within = |source| ImageError::InFile { path: self.name(index).into(), source: Box::new(source) };
        Ok(decode(&bytes, &Limits::default()).map_err(within).map_err(vitral::Error::from)?)
    }
}
