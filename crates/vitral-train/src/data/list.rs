//! Lists of images: CSV with a header, or JSON Lines.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitral::files::IMAGE_ENDINGS;
use vitral::image::{Limits, RgbImage};

use super::classes::{Classes, class_names, of_labels, spelled};
use super::split::Split;
use super::text::read_text;
use super::{Dataset, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// Common names of the column with the image.
const PATHS: [&str; 16] = [
    "path",
    "file_name",
    "filename",
    "file",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "image_name",
    "image_id",
    "imageid",
    "img",
    "img_path",
    "img_name",
    "id",
    "name",
];
/// Common names of the column with the class.
const LABELS: [&str; 12] = [
    "label",
    "labels",
    "class",
    "classes",
    "target",
    "targets",
    "category",
    "class_name",
    "label_name",
    "species",
    "breed",
    "y",
];
const HINT: &str = "name the columns `path` and `label`; several labels are a JSON list, or separated by `|` in CSV";

/// A file with an image's path and its label or labels on every line; paths are relative to the file.
#[derive(Debug)]
pub struct List {
    classes: Vec<String>,
    images: Vec<(PathBuf, Vec<usize>)>,
    labeling: Labeling,
    notes: Vec<String>,
}

/// A line of the file.
struct Row {
    line: usize,
    path: String,
    labels: Vec<String>,
    split: Option<String>,
}

impl List {
    /// Reads a list. The classes are those given, or the lines of `classes.txt` next to the list, or the labels found,
    /// sorted; whole numbers from 0 on count the classes if at least half of them are in use, and are names otherwise.
    /// If there is a column `split`, only the rows of `split` are used. An image's path is relative to the list, or to
    /// the folder of the same name beside it; its ending may be missing.
    ///
    /// # Errors
    /// If a line is malformed, or a label is not a class.
    pub fn open(path: &Path, split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let mut notes = Vec::new();
        let rows = merged(rows(path)?, &mut notes);
        let named = path.with_file_name("classes.txt");
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None if named.exists() => class_names(&named)?,
            None => of_labels(rows.iter().flat_map(|row| &row.labels).cloned().collect()),
        };
        let divided = splits(&rows, path)?;
        let wanted = split.and_then(|split| split.among(&divided)).filter(|_| divided.len() > 1);
        let kept = |row: &&Row| wanted.is_none() || row.split.as_deref().and_then(Split::of_name) == wanted;
        let (known, places) = (Classes::new(&classes), places(path));
        let read = |row: &Row| -> Result<_, TrainError> {
            let place = format!("line {}", row.line);
            let labels = row.labels.iter().map(|label| known.labeled(label, &place, path));
            Ok((located(&places, &row.path), labels.collect::<Result<Vec<_>, _>>()?))
        };
        let images = rows.iter().filter(kept).map(read).collect::<Result<Vec<_>, _>>()?;
        if images.is_empty() {
            return Err(fault(path, "expected images, found no lines", HINT));
        }
        // Decided over all rows, so that training and test sets agree.
        let several = rows.iter().any(|row| row.labels.len() > 1);
        let labeling = if several { Labeling::Several } else { Labeling::One };
        Ok(List { classes, images, labeling, notes })
    }

    /// The splits in the list's `split` column.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        splits(&rows(path)?, path)
    }
}

/// The splits in the column `split`.
///
/// # Errors
/// If a row has another word there: it would be used in none of them, or in all.
fn splits(rows: &[Row], path: &Path) -> Result<BTreeSet<Split>, TrainError> {
    let of = |row: &Row| {
        let word = row.split.as_deref()?;
        Some(Split::of_name(word).ok_or_else(|| {
            let found = format!("line {}: expected `split` to be train, validation or test, found `{word}`", row.line);
            fault(path, found, "correct the column, or give it another name")
        }))
    };
    rows.iter().filter_map(of).collect()
}

/// Puts rows about the same image together, as in lists with a row for each label of an image.
fn merged(rows: Vec<Row>, notes: &mut Vec<String>) -> Vec<Row> {
    let count = rows.len();
    let mut places: HashMap<(String, Option<String>), usize> = HashMap::new();
    let mut paths: HashSet<String> = HashSet::new();
    let mut again = 0;
    let mut merged: Vec<Row> = Vec::with_capacity(count);
    for row in rows {
        let key = (row.path.clone(), row.split.clone());
        match places.get(&key) {
            Some(&place) => {
                let known = &mut merged[place].labels;
                row.labels.into_iter().for_each(|label| {
                    if !known.contains(&label) {
                        known.push(label)
                    }
                });
            }
            None => {
                again += usize::from(!paths.insert(row.path.clone()));
                places.insert(key, merged.len());
                merged.push(row);
            }
        }
    }
    if merged.len() < count {
        let more = count - merged.len();
        notes
            .push(format!("{more} rows name an image that is listed before: the labels of its rows were put together"));
    }
    if again > 0 {
        notes.push(format!("{again} images are in more than one split: what is tested on was trained on"));
    }
    merged
}

/// Whether a file is a list of images, according to its name.
pub(super) fn is_list(path: &Path) -> bool {
    ["csv", "tsv", "jsonl"].iter().any(|ending| has_ending(path, ending))
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

/// Whether a list gives its images' labels, which lists of images to be submitted do not. A list that cannot be read
/// counts as one that does, so that the reason is reported.
pub(super) fn is_labeled(path: &Path) -> bool {
    let Ok(text) = read_text(path, "reading a list") else { return true };
    let Some(first) = text.lines().find(|line| !line.trim().is_empty()) else { return true };
    match has_ending(path, "jsonl") {
        true => json_row(path, 1, first).is_ok(),
        false => {
            let delimiter = char::from(delimiter(path, &text));
            let known = |name: &str| LABELS.contains(&name.trim().trim_matches('"').to_ascii_lowercase().as_str());
            first.split(delimiter).any(known)
        }
    }
}

/// The folders that a list's paths may be relative to.
fn places(list: &Path) -> Vec<PathBuf> {
    let beside = list.parent().unwrap_or(Path::new(""));
    let stem = list.file_stem().unwrap_or_default();
    let inner = [Path::new(stem), Path::new("images")].map(|name| beside.join(name));
    std::iter::once(beside.to_owned()).chain(inner.into_iter().filter(|folder| folder.is_dir())).collect()
}

/// The file that a list's path means. If there is none, the path as it was given.
fn located(places: &[PathBuf], given: &str) -> PathBuf {
    // Lists written on Windows have backslashes.
    let forward = given.replace('\\', "/");
    let spellings = if forward == given { vec![given] } else { vec![given, &forward] };
    for place in places {
        if let Some(found) = spellings.iter().map(|spelling| place.join(spelling)).find(|path| path.is_file()) {
            return found;
        }
    }
    if Path::new(&forward).extension().is_none() {
        for place in places {
            let with = |ending: &&str| place.join(format!("{forward}.{ending}"));
            if let Some(found) = IMAGE_ENDINGS.iter().map(with).find(|path| path.is_file()) {
                return found;
            }
        }
    }
    places[0].join(given)
}

fn rows(path: &Path) -> Result<Vec<Row>, TrainError> {
    let text = read_text(path, "reading a list")?;
    match has_ending(path, "jsonl") {
        false => csv_rows(path, &text),
        true => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| json_row(path, number + 1, line))
            .collect(),
    }
}

/// What separates the columns: a tab in `.tsv`, else whichever of `,`, `;` and tab is in the header.
fn delimiter(path: &Path, text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    match has_ending(path, "tsv") {
        true => b'\t',
        false => [b',', b';', b'\t'].into_iter().find(|&mark| header.contains(char::from(mark))).unwrap_or(b','),
    }
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<Row>, TrainError> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter(path, text)).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| fault(path, error.to_string(), HINT);
    let header = reader.headers().map_err(wrong)?.clone();
    let names: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    let column = |known: &[&str]| {
        let at = known.iter().find_map(|known| names.iter().position(|name| name == known));
        at.ok_or_else(|| {
            let listed =
                |names: &mut dyn Iterator<Item = &str>| names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let (expected, found) = (listed(&mut known.iter().copied()), listed(&mut header.iter()));
            fault(path, format!("expected a column among {expected}, found {found}"), HINT)
        })
    };
    let (at_path, at_label, at_split) = (column(&PATHS)?, column(&LABELS)?, column(&["split"]).ok());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let field = |at: usize| record.get(at).unwrap_or_default().trim().to_owned();
        let labels = field(at_label).split('|').map(|label| label.trim().to_owned()).collect();
        let line = record.position().map_or(0, |position| position.line() as usize);
        rows.push(checked(path, Row { line, path: field(at_path), labels, split: at_split.map(field) })?);
    }
    // A table with an empty cell somewhere makes floats of whole numbers: `3.0`.
    let whole = |label: &String| label.strip_suffix(".0").is_some_and(|whole| whole.parse::<u64>().is_ok());
    if rows.iter().flat_map(|row| &row.labels).all(whole) {
        let labels = rows.iter_mut().flat_map(|row| &mut row.labels);
        labels.for_each(|label| label.truncate(label.len() - ".0".len()));
    }
    Ok(rows)
}

fn json_row(path: &Path, line: usize, text: &str) -> Result<Row, TrainError> {
    let wrong = |found: String| fault(path, format!("line {line}: {found}"), HINT);
    let value: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let get = |known: &[&str]| known.iter().find_map(|key| value.get(key));
    let word = |value: &Value| match value {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        _ => None,
    };
    let image = get(&PATHS).and_then(Value::as_str);
    let labels = match get(&LABELS) {
        Some(Value::Array(labels)) => labels.iter().map(word).collect(),
        Some(label) => word(label).map(|label| vec![label]),
        None => None,
    };
    let (Some(image), Some(labels)) = (image, labels) else {
        return Err(wrong(format!("expected a key among {PATHS:?} and one among {LABELS:?}, found {text}")));
    };
    let split = value.get("split").and_then(Value::as_str).map(str::to_owned);
    checked(path, Row { line, path: image.to_owned(), labels, split })
}

fn checked(path: &Path, mut row: Row) -> Result<Row, TrainError> {
    // `nan` is what tables write for an empty cell.
    let missing = |label: &String| label.is_empty() || label.eq_ignore_ascii_case("nan");
    if row.path.is_empty() || row.labels.is_empty() || row.labels.iter().any(missing) {
        return Err(fault(path, format!("line {}: expected a path and a label, found at most one", row.line), HINT));
    }
    row.labels = row.labels.iter().map(|label| spelled(label)).collect();
    Ok(row)
}

impl Dataset for List {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, index: usize) -> usize {
        self.images[index].1[0]
    }

    fn labeling(&self) -> Labeling {
        self.labeling
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.images[index].1.clone()
    }

    fn name(&self, index: usize) -> String {
        self.images[index].0.display().to_string()
    }

    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        Ok(vitral::image::open(&self.images[index].0, &Limits::default()).map_err(vitral::Error::from)?)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
