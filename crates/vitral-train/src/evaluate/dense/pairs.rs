//! Images and their masks, found in folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vitral::files::{images_in, is_array, is_hidden};
use vitral::message::count;

use crate::data::{Split, shuffled};
use crate::error::TrainError;

/// Names of folders with images.
const IMAGES: [&str; 5] = ["images", "image", "imgs", "img", "jpegimages"];
/// Names of folders with masks.
const MASKS: [&str; 8] =
    ["masks", "mask", "annotations", "annotation", "labels", "segmentationclass", "segmentation", "seg"];
/// What the names of masks may have after those of their images.
const AFTER: [&str; 4] = ["_mask", "-mask", "_label", "_seg"];

/// An image and its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) image: PathBuf,
    pub(super) mask: PathBuf,
}

/// Images with masks, to fit on and to test on.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) train: Vec<Pair>,
    pub(super) test: Vec<Pair>,
    /// What a user should know.
    pub(super) notes: Vec<String>,
}

/// The fraction that is split off for testing where nothing says which images are.
const TEST: f64 = 0.2;

impl Pairs {
    /// The images with masks in a folder, and those to test on in `test` if it is given. A folder is one of these:
    ///
    /// - `images/` and `masks/` (or `annotations/`, `labels/`), each with a sub-folder for a split, or without splits;
    /// - a folder for each split, with `images/` and `masks/` inside;
    /// - Pascal VOC: `JPEGImages/`, `SegmentationClass/`, and `ImageSets/Segmentation/` with a list for each split.
    ///
    /// A mask has the name of its image, apart from the ending and from `_mask`.
    ///
    /// # Errors
    /// If a folder is none of these, or an image has no mask.
    pub(super) fn open(data: &Path, test: Option<&Path>) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        let mut found = of_folder(data, &mut notes)?;
        if let Some(test) = test {
            let mut other = of_folder(test, &mut notes)?;
            let test = [Some(Split::Test), Some(Split::Validation), None, Some(Split::Train)]
                .iter()
                .find_map(|split| other.remove(split))
                .unwrap_or_default();
            let train = found.remove(&Some(Split::Train)).or_else(|| found.remove(&None)).unwrap_or_default();
            return Pairs { train, test, notes }.checked(data);
        }
        if let Some(train) = found.remove(&Some(Split::Train)) {
            let test = found.remove(&Some(Split::Test)).or_else(|| found.remove(&Some(Split::Validation)));
            if let Some(test) = test {
                return Pairs { train, test, notes }.checked(data);
            }
            found.insert(None, train);
        }
        let all = found.remove(&None).unwrap_or_default();
        let order = shuffled(all.len(), 0, 0);
        let held = ((all.len() as f64 * TEST).round() as usize).clamp(1, all.len().max(2) - 1);
        let mut test = order[..held.min(order.len())].to_vec();
        test.sort_unstable();
        let pick = |inside: bool| {
            let chosen = all.iter().enumerate().filter(|(index, _)| test.binary_search(index).is_ok() == inside);
            chosen.map(|(_, pair)| pair.clone()).collect()
        };
        if !all.is_empty() {
            notes.push(format!("tested on {held} of the {}, chosen at random", count(all.len(), "image")));
        }
        Pairs { train: pick(false), test: pick(true), notes }.checked(data)
    }

    fn checked(self, data: &Path) -> Result<Self, TrainError> {
        for (pairs, what) in [(&self.train, "fit on"), (&self.test, "test on")] {
            if pairs.is_empty() {
                // What was left out says why.
                let notes: String = self.notes.iter().map(|note| format!(" ({note})")).collect();
                return Err(fault(data, format!("expected images with masks to {what}, found none{notes}"), LAYOUT));
            }
        }
        Ok(self)
    }
}

/// What is said about a folder of another form.
const LAYOUT: &str = "give a folder with `images` and `masks` inside, each with `train` and `val` or without; Pascal \
                      VOC's folders; or the test images with `--test`";

fn fault(path: &Path, fault: String, hint: &'static str) -> TrainError {
    TrainError::Data { path: path.to_owned(), fault, hint }
}

/// The pairs of each split in a folder; `None` is for images that belong to no split.
fn of_folder(data: &Path, notes: &mut Vec<String>) -> Result<BTreeMap<Option<Split>, Vec<Pair>>, TrainError> {
    let folders = folders_in(data)?;
    let named = |names: &[&str]| -> Result<Option<&PathBuf>, TrainError> {
        let mut found = folders.iter().filter(|path| names.contains(&&*name_of(path)));
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => Err(fault(
                data,
                format!("expected one of `{}` and `{}`, found both", one.display(), other.display()),
                "move one of them elsewhere",
            )),
            (one, _) => Ok(one),
        }
    };
    if let (Some(images), Some(masks)) = (named(&IMAGES)?, named(&MASKS)?) {
        let lists = data.join("ImageSets/Segmentation");
        if lists.is_dir() {
            return of_lists(images, masks, &lists, notes);
        }
        let splits = splits_in(images)?;
        if splits.is_empty() {
            return Ok(BTreeMap::from([(None, matched(images, masks, notes)?)]));
        }
        let mut masks = splits_in(masks)?;
        let mut found = BTreeMap::new();
        for (split, images) in splits {
            match masks.remove(&split) {
                Some(masks) => drop(found.insert(Some(split), matched(&images, &masks, notes)?)),
                None => notes.push(format!("left out: `{}`, which has no masks", images.display())),
            }
        }
        return Ok(found);
    }
    let mut found = BTreeMap::new();
    for (split, folder) in splits_in(data)? {
        let inside: Vec<String> = folders_in(&folder)?.iter().map(|path| name_of(path)).collect();
        if !MASKS.iter().any(|name| inside.iter().any(|inside| inside == name)) {
            notes.push(format!("left out: `{}`, which has no masks", folder.display()));
            continue;
        }
        if let Some(pairs) = of_folder(&folder, notes)?.remove(&None) {
            found.insert(Some(split), pairs);
        }
    }
    if found.is_empty() && notes.is_empty() {
        let inside: Vec<String> = folders.iter().map(|path| format!("`{}`", name_of(path))).collect();
        let inside = if inside.is_empty() { "no folder".to_owned() } else { inside.join(", ") };
        return Err(fault(data, format!("expected folders of images and of masks, found {inside}"), LAYOUT));
    }
    Ok(found)
}

/// Pascal VOC's lists of names.
fn of_lists(
    images: &Path,
    masks: &Path,
    lists: &Path,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<Option<Split>, Vec<Pair>>, TrainError> {
    let (every, of) = (by_name(images, false, notes)?, by_name(masks, true, notes)?);
    let mut found = BTreeMap::new();
    for (split, file) in [(Split::Train, "train.txt"), (Split::Validation, "val.txt"), (Split::Test, "test.txt")] {
        let list = lists.join(file);
        if !list.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&list).map_err(TrainError::file(&list, "reading the list"))?;
        let mut pairs = Vec::new();
        for name in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match (every.get(name), of.get(name)) {
                (Some(image), Some(mask)) => pairs.push(Pair { image: image.clone(), mask: mask.clone() }),
                // The official test set has no masks.
                (Some(_), None) if split == Split::Test => {}
                (image, _) => {
                    let missing = if image.is_none() { "image" } else { "mask" };
                    let text = format!("expected an image and a mask named `{name}`, found no {missing}");
                    return Err(fault(&list, text, "complete the folders, or take the name off the list"));
                }
            }
        }
        if !pairs.is_empty() {
            found.insert(Some(split), pairs);
        }
    }
    Ok(found)
}

/// Each image of a folder with its mask in another.
fn matched(images: &Path, masks: &Path, notes: &mut Vec<String>) -> Result<Vec<Pair>, TrainError> {
    let mut masks_by_name = by_name(masks, true, notes)?;
    let mut pairs = Vec::new();
    let mut without = Vec::new();
    for (key, image) in by_name(images, false, notes)? {
        match masks_by_name.remove(&key) {
            Some(mask) => pairs.push(Pair { image, mask }),
            None => without.push(image),
        }
    }
    if let Some(first) = without.first() {
        let verb = if without.len() == 1 { "has" } else { "have" };
        let without = count(without.len(), "image");
        let text = format!("{without} {verb} no mask in `{}`, `{}` first", masks.display(), first.display());
        return Err(fault(images, text, "a mask has the name of its image; move images without one elsewhere"));
    }
    if !masks_by_name.is_empty() {
        notes.push(format!(
            "left out: {} of `{}`, whose images are not there",
            count(masks_by_name.len(), "mask"),
            masks.display()
        ));
    }
    Ok(pairs)
}

/// The files of a folder by the name that an image and its mask have in common.
fn by_name(folder: &Path, masks: bool, notes: &mut Vec<String>) -> Result<BTreeMap<String, PathBuf>, TrainError> {
    let mut found = BTreeMap::new();
    for (key, path) in keyed(folder, masks, notes)? {
        if let Some(other) = found.insert(key, path.clone()) {
            let what = if masks { "belong to the same image" } else { "would have the same mask" };
            let text = format!("`{}` and `{}` {what}", other.display(), path.display());
            return Err(fault(folder, text, "keep one of them, or give them different names"));
        }
    }
    Ok(found)
}

/// The files of a folder, each with the name that an image and its mask have in common.
fn keyed(folder: &Path, masks: bool, notes: &mut Vec<String>) -> Result<Vec<(String, PathBuf)>, TrainError> {
    let found = images_in(folder).map_err(TrainError::file(folder, "listing the folder"))?;
    if let Some((path, why)) = found.faults().first() {
        notes.push(format!("left out: `{}`: {why}", path.display()));
    }
    let mut files: Vec<PathBuf> = found.into_images();
    if masks && files.is_empty() {
        files = walk_arrays(folder)?;
    }
    let key = |path: &Path| {
        let within = path.strip_prefix(folder).unwrap_or(path).with_extension("");
        let name = within.to_string_lossy().into_owned();
        let short = AFTER.iter().find_map(|after| name.strip_suffix(after)).filter(|_| masks);
        short.map_or(name.clone(), str::to_owned)
    };
    Ok(files.into_iter().map(|path| (key(&path), path)).collect())
}

/// The arrays of a folder, for masks that are stored as such.
fn walk_arrays(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let inside = std::fs::read_dir(folder).map_err(TrainError::file(folder, "listing the folder"))?;
    let mut files: Vec<PathBuf> = inside
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && is_array(path))
        .collect();
    files.sort();
    Ok(files)
}

/// The folders in a folder, by name.
fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let inside = std::fs::read_dir(folder).map_err(TrainError::file(folder, "listing the folder"))?;
    let mut folders: Vec<PathBuf> = inside
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !is_hidden(path))
        .collect();
    folders.sort();
    Ok(folders)
}

/// The splits among the folders in a folder.
fn splits_in(folder: &Path) -> Result<BTreeMap<Split, PathBuf>, TrainError> {
    let mut found: BTreeMap<Split, PathBuf> = BTreeMap::new();
    for path in folders_in(folder)? {
        let Some(split) = Split::of_name(&path.file_name().unwrap_or_default().to_string_lossy()) else { continue };
        if let Some(other) = found.insert(split, path.clone()) {
            let text = format!(
                "expected one folder of {} images, found `{}` and `{}`",
                split.name(),
                other.display(),
                path.display()
            );
            return Err(fault(folder, text, "move one of them elsewhere"));
        }
    }
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        folder
    }

    fn counts(names: &[&str]) -> Result<(usize, usize), String> {
        let folder = files(names);
        let pairs = Pairs::open(folder.path(), None).map_err(|fault| fault.to_string())?;
        Ok((pairs.train.len(), pairs.test.len()))
    }

    #[test]
    fn folders_of_each_form_are_found() {
        let flat = ["images/a.jpg", "images/b/c.jpg", "masks/a.png", "masks/b/c_mask.png", "masks/d.png"];
        assert_eq!(counts(&flat), Ok((1, 1)));
        let splits = [
            "images/training/a.jpg",
            "images/validation/b.jpg",
            "annotations/training/a.png",
            "annotations/validation/b.png",
        ];
        assert_eq!(counts(&splits), Ok((1, 1)));
        let outside = [
            "train/img/a.jpg",
            "train/labels/a.png",
            "val/img/b.jpg",
            "val/labels/b.tif",
            "val/img/c.jpg",
            "val/labels/c.tif",
        ];
        assert_eq!(counts(&outside), Ok((1, 2)));
        let without =
            ["train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg", "val/masks/b.png", "test/images/c.jpg"];
        assert_eq!(counts(&without), Ok((1, 1)));
        let without =
            ["train/images/a.jpg", "train/masks/a.png", "val/images/b.jpg", "val/masks/b.png", "test/images/c.jpg"];
        assert_eq!(counts(&without), Ok((1, 1)));
        let folder = files(&[
            "JPEGImages/a.jpg",
            "JPEGImages/b.jpg",
            "JPEGImages/c.jpg",
            "SegmentationClass/a.png",
            "SegmentationClass/b.png",
        ]);
        let lists = folder.path().join("ImageSets/Segmentation");
        std::fs::create_dir_all(&lists).expect("a folder");
        std::fs::write(lists.join("train.txt"), "a\n").expect("a list");
        std::fs::write(lists.join("val.txt"), "b\n").expect("a list");
        let pairs = Pairs::open(folder.path(), None).expect("VOC");
        assert_eq!((pairs.train.len(), pairs.test[0].image.file_name()), (1, Some("b.jpg".as_ref())));
    }

    #[test]
    fn nothing_is_matched_that_has_another_name() {
        let fault = counts(&["images/a.jpg", "images/b.jpg", "masks/a.png", "masks/c.png"]).expect_err("no mask");
        assert!(fault.contains("1 image has no mask") && fault.contains("b.jpg"), "{fault}");
        let fault = counts(&["images/a.jpg", "images/a.png", "masks/a.png"]).expect_err("two images of a mask");
        assert!(fault.contains("same mask"), "{fault}");
        let fault = counts(&["images/a.jpg", "masks/a.png", "masks/a_mask.png"]).expect_err("two masks");
        assert!(fault.contains("belong to the same image"), "{fault}");
        let fault =
            counts(&["images/train/a.jpg", "images/val/b.jpg", "masks/a.png"]).expect_err("masks without splits");
        assert!(fault.contains("which has no masks"), "{fault}");
        let fault = counts(&["cats/a.jpg", "dogs/b.jpg"]).expect_err("classes");
        assert!(fault.contains("`cats`, `dogs`") && fault.contains("masks"), "{fault}");
    }
}
