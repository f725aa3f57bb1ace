//! Lists of images: CSV with a header, or JSON Lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitral::image::{Limits, RgbImage};

use super::split::Split;
use super::{Dataset, class_names, class_of, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// Common names of the column with the image.
const PATHS: [&str; 6] = ["path", "file_name", "filename", "file", "image", "image_path"];
/// Common names of the column with the class.
const LABELS: [&str; 5] = ["label", "labels", "class", "classes", "target"];
const HINT: &str = "name the columns `path` and `label`; several labels are a JSON list, or separated by `|` in CSV";

/// A file with an image's path and its label or labels on every line; paths are relative to the file.
#[derive(Debug)]
pub struct List {
    classes: Vec<String>,
    images: Vec<(PathBuf, Vec<usize>)>,
    labeling: Labeling,
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
    /// sorted (integers count from 0 to the largest). If there is a column `split`, only the rows of `split` are used.
    ///
    /// # Errors
    /// If a line is malformed, or a label is not a class.
    pub fn open(path: &Path, split: Option<Split>, classes: Option<&[String]>) -> Result<Self, TrainError> {
        let rows = rows(path)?;
        let named = path.with_file_name("classes.txt");
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None if named.exists() => class_names(&named)?,
            None => found_classes(&rows),
        };
        let divided = rows.iter().filter_map(|row| Split::of_name(row.split.as_deref()?)).collect();
        let wanted = split.and_then(|split| split.among(&divided)).filter(|_| divided.len() > 1);
        let kept = |row: &&Row| wanted.is_none() || row.split.as_deref().and_then(Split::of_name) == wanted;
        let folder = path.parent().unwrap_or(Path::new(""));
        let numbered = classes.len();
        let label = |row: &Row, name: &str| match name.parse::<usize>() {
            Ok(number) if !classes.iter().any(|class| class == name) => match number < numbered {
                true => Ok(number),
                false => {
                    let found = format!("line {}: expected a label below {numbered}, found {number}", row.line);
                    Err(fault(path, found, "correct the label, or the list of classes"))
                }
            },
            _ => class_of(&classes, name, path),
        };
        let read = |row: &Row| -> Result<_, TrainError> {
            let labels = row.labels.iter().map(|name| label(row, name)).collect::<Result<Vec<_>, _>>()?;
            Ok((folder.join(&row.path), labels))
        };
        let images = rows.iter().filter(kept).map(read).collect::<Result<Vec<_>, _>>()?;
        if images.is_empty() {
            return Err(fault(path, "expected images, found no lines", HINT));
        }
        // Decided over all rows, so that training and test sets agree.
        let several = rows.iter().any(|row| row.labels.len() > 1);
        let labeling = if several { Labeling::Several } else { Labeling::One };
        Ok(List { classes, images, labeling })
    }

    /// The splits in the list's `split` column.
    pub(super) fn parts(path: &Path) -> Result<BTreeSet<Split>, TrainError> {
        Ok(rows(path)?.iter().filter_map(|row| Split::of_name(row.split.as_deref()?)).collect())
    }
}

/// The labels found, sorted; integers from 0 to the largest.
fn found_classes(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<&String> = rows.iter().flat_map(|row| &row.labels).collect();
    names.sort();
    names.dedup();
    match names.iter().map(|name| name.parse::<u16>()).collect::<Result<Vec<_>, _>>() {
        Ok(numbers) => (0..=numbers.into_iter().max().unwrap_or(0)).map(|number| number.to_string()).collect(),
        Err(_) => names.into_iter().cloned().collect(),
    }
}

fn rows(path: &Path) -> Result<Vec<Row>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::file(path, "reading a list"))?;
    match path.extension().is_some_and(|ending| ending == "csv" || ending == "tsv") {
        true => csv_rows(path, &text),
        false => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| json_row(path, number + 1, line))
            .collect(),
    }
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<Row>, TrainError> {
    let delimiter = if path.extension().is_some_and(|ending| ending == "tsv") { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| fault(path, error.to_string(), HINT);
    let header = reader.headers().map_err(wrong)?.clone();
    let column = |known: &[&str]| {
        let at = header.iter().position(|name| known.contains(&name.trim().to_ascii_lowercase().as_str()));
        at.ok_or_else(|| fault(path, format!("expected a column among {known:?}, found {header:?}"), HINT))
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

fn checked(path: &Path, row: Row) -> Result<Row, TrainError> {
    match row.path.is_empty() || row.labels.is_empty() || row.labels.iter().any(String::is_empty) {
        true => Err(fault(path, format!("line {}: expected a path and a label, found at most one", row.line), HINT)),
        false => Ok(row),
    }
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
}
