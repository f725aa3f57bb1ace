//! Archives of images, tar or zip: one folder per class, or WebDataset's pairs of `KEY.jpg` and `KEY.cls`, as one file or
//! shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vitral::files::passed_over;
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Image, ImageError, decode_for};

use super::classes::{Classes, of_labels, ordered};
use super::members::{Entry, Listing, depth_of_classes, list, within_own_folder};
use super::split::Split;
use super::stored::Stored;
use super::{Dataset, fault};
use crate::error::TrainError;

/// Images in archives. For a plain tar only the offsets are kept; the contents of a gzip are kept in memory, still encoded,
/// and those of a large zip in a temporary file.
#[derive(Debug)]
pub struct Archive {
    files: Vec<(PathBuf, Stored)>,
    classes: Vec<String>,
    members: Vec<Member>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Member {
    file: usize,
    name: PathBuf,
    label: usize,
    start: u64,
    length: usize,
}

impl Archive {
    /// Lists the archives of one data set. A member's class is the outermost folder that it is in, below folders around all of the
    /// data and those of splits, or the contents of the `KEY.cls` next to it. If there are members in `train/` and `test/`, only those of `split` are used.
    ///
    /// # Errors
    /// If one cannot be read, or they hold no images in folders.
    pub fn open(paths: &[PathBuf], split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let mut listings = paths.iter().map(|path| list(path)).collect::<Result<Vec<_>, _>>()?;
        for (path, listing) in paths.iter().zip(&mut listings) {
            within_own_folder(path, listing);
        }
        let all = || paths.iter().zip(&listings).flat_map(|(path, of)| of.images.iter().map(move |one| (path, one)));
        let depth = depth_of_classes(all().map(|(_, image)| image));
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None => {
                let names: BTreeSet<String> =
                    all().map(|(path, image)| class(path, image, depth)).collect::<Result<_, _>>()?;
                if all().any(|(_, image)| image.keyed.is_some()) { of_labels(names) } else { ordered(names) }
            }
        };
        let divided = all().filter_map(|(_, image)| Split::of_path(&image.name)).collect::<BTreeSet<_>>();
        let wanted = split.filter(|_| divided.len() > 1).map(|split| split.among(&divided));
        let (mut files, mut members) = (Vec::with_capacity(paths.len()), Vec::new());
        let (known, mut passed) = (Classes::new(&classes), BTreeMap::new());
        for (file, (path, Listing { mut images, bytes, others })) in paths.iter().zip(listings).enumerate() {
            images.retain(|image| wanted.is_none_or(|wanted| Split::of_path(&image.name) == wanted));
            images.sort_by(|a, b| (&a.name, a.start).cmp(&(&b.name, b.start)));
            for image in images {
                let place = image.name.display().to_string();
                let class = class(path, &image, depth)?;
                let label = match image.keyed {
                    Some(_) => known.labeled(&class, &place, path)?,
                    None => known.named(&class, path)?,
                };
                let Entry { name, start, length, .. } = image;
                members.push(Member { file, name, label, start, length });
            }
            others.into_iter().for_each(|(ending, count)| *passed.entry(ending).or_default() += count);
            files.push((path.clone(), bytes));
        }
        if members.is_empty() {
            let first = paths.first().map_or(Path::new(""), |path| path);
            return Err(fault(first, "expected images, found none", "pack images, with one folder per class"));
        }
        let notes = passed_over(&passed).map(|others| format!("skipped {others}")).into_iter().collect();
        Ok(Archive { files, classes, members, notes })
    }

    /// The splits that folders in the archive are named after.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        Ok(list(path)?.images.iter().filter_map(|image| Split::of_path(&image.name)).collect())
    }
}

/// The name of an image's class.
fn class(path: &Path, image: &Entry, depth: usize) -> Result<String, TrainError> {
    image.class(depth).ok_or_else(|| {
        let found = format!("expected a class folder around `{}`, found none", image.name.display());
        fault(path, found, "put each image into a folder named after its class")
    })
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

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let member = &self.members[index];
        let stored = &self.files[member.file].1;
        let bytes =
            stored.read(member.start, member.length).map_err(TrainError::file(self.name(index), "reading an image"))?;
        let within = |source| ImageError::InFile { path: self.name(index).into(), source: Box::new(source) };
        let decoded = decode_for(&bytes, channels, &DecodeOptions::default()).map_err(within);
        Ok(decoded.map_err(vitral::Error::from)?.into_image())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
