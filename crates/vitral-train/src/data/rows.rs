//! The rows of a list: CSV with a header, or JSON Lines.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::classes::{listed, spelled};
use super::fault;
use super::split::Split;
use super::text::read_text;
use crate::error::TrainError;

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
/// Names of a column that says whether a row is for training.
const TRAINING: [&str; 4] = ["is_train", "is_training", "is_training_image", "is_training_img"];
pub(super) const HINT: &str =
    "name the columns `path` and `label`; several labels are a JSON list, or separated by `|` in CSV";

/// A row: an image and its labels.
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) path: String,
    pub(super) labels: Vec<String>,
    /// The split it belongs to, by its own column or by the folders of its path.
    pub(super) split: Option<Split>,
    /// Whether the labels are a list, which may be empty.
    pub(super) is_list: bool,
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
            let plain = |name: &str| name.trim().trim_matches('"').to_ascii_lowercase();
            let names: Vec<String> = first.split(delimiter).map(plain).collect();
            let has = |known: &[&str]| names.iter().any(|name| known.contains(&name.as_str()));
            has(&LABELS) && has(&PATHS)
        }
    }
}

/// Reads a list.
///
/// # Errors
/// If a row is malformed.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, TrainError> {
    let text = read_text(path, "reading a list")?;
    let mut rows = match has_ending(path, "jsonl") {
        false => csv_rows(path, &text)?,
        true => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| json_row(path, number + 1, line))
            .collect::<Result<_, _>>()?,
    };
    if let (Some(_), Some(without)) =
        (rows.iter().find(|row| row.split.is_some()), rows.iter().find(|row| row.split.is_none()))
    {
        let found = format!("line {}: expected a `split`, as other rows have one, found none", without.line);
        return Err(fault(path, found, "give every row its split, or none"));
    }
    // Without a column of splits, the folders in the paths say which split a row belongs to, if there are several.
    if rows.iter().all(|row| row.split.is_none()) {
        let of = |row: &Row| Split::of_path(Path::new(&row.path.replace('\\', "/")));
        let found: Vec<Option<Split>> = rows.iter().map(of).collect();
        if found.iter().flatten().collect::<BTreeSet<_>>().len() > 1 && found.iter().all(Option::is_some) {
            rows.iter_mut().zip(found).for_each(|(row, split)| row.split = split);
        }
    }
    Ok(rows)
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
    let find = |known: &[&str]| known.iter().find_map(|known| names.iter().position(|name| name == known));
    let column = |known: &[&str]| {
        find(known).ok_or_else(|| {
            let expected = listed(&known.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
            let found = listed(&header.iter().map(str::to_owned).collect::<Vec<_>>());
            fault(path, format!("expected a column among {expected}, found {found}"), HINT)
        })
    };
    let (at_path, at_label) = (column(&PATHS)?, column(&LABELS)?);
    let (at_split, at_training) = (find(&["split"]), find(&TRAINING));
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let field = |at: usize| record.get(at).unwrap_or_default().trim();
        let line = record.position().map_or(0, |position| position.line() as usize);
        let split = match (at_split, at_training) {
            (Some(at), _) => Some(split(path, line, field(at))?),
            (None, Some(at)) => Some(training(path, line, field(at), &names[at])?),
            (None, None) => None,
        };
        let (labels, is_list) = cell(field(at_label));
        rows.push(checked(path, Row { line, path: field(at_path).to_owned(), labels, split, is_list })?);
    }
    // A table with an empty cell somewhere makes floats of whole numbers: `3.0`.
    let whole = |label: &String| label.strip_suffix(".0").is_some_and(|whole| whole.parse::<u64>().is_ok());
    if rows.iter().flat_map(|row| &row.labels).all(whole) {
        let labels = rows.iter_mut().flat_map(|row| &mut row.labels);
        labels.for_each(|label| label.truncate(label.len() - ".0".len()));
    }
    Ok(rows)
}

/// The labels in a cell: a list as in JSON or Python, or separated by `|`; and whether it is such a list.
fn cell(text: &str) -> (Vec<String>, bool) {
    if text.starts_with('[') && text.ends_with(']') {
        let spellings = [text.to_owned(), text.replace('\'', "\"")];
        let parsed = spellings.iter().find_map(|text| serde_json::from_str::<Vec<Value>>(text).ok());
        if let Some(labels) = parsed.and_then(|values| values.iter().map(word).collect::<Option<Vec<_>>>()) {
            return (labels, true);
        }
    }
    (text.split('|').map(|label| label.trim().to_owned()).collect(), false)
}

/// A label in JSON.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Some(whole.to_string()),
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 1e15 => Some(format!("{float:.0}")),
            // What a model is to predict may be any number.
            _ => Some(number.to_string()),
        },
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn split(path: &Path, line: usize, word: &str) -> Result<Split, TrainError> {
    Split::of_name(word).ok_or_else(|| {
        let found = format!("line {line}: expected `split` to be train, validation or test, found `{word}`");
        fault(path, found, "correct the column, or give it another name")
    })
}

fn training(path: &Path, line: usize, word: &str, column: &str) -> Result<Split, TrainError> {
    match word.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(Split::Train),
        "0" | "false" | "no" => Ok(Split::Test),
        _ => {
            let found = format!("line {line}: expected `{column}` to be 0 or 1, found `{word}`");
            Err(fault(path, found, "correct the column, or give it another name"))
        }
    }
}

fn json_row(path: &Path, line: usize, text: &str) -> Result<Row, TrainError> {
    let wrong = |found: String| fault(path, format!("line {line}: {found}"), HINT);
    let value: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    // What tables write for an empty cell is as good as absent.
    let find = |key: &str| value.get(key).filter(|value| !value.is_null());
    let get = |known: &[&str]| known.iter().find_map(|key| find(key));
    let Some((image, label)) = get(&PATHS).zip(get(&LABELS)) else {
        let [paths, labels] = [&PATHS[..3], &LABELS[..3]].map(|names| names.join("`, `"));
        return Err(wrong(format!(
            "expected keys for the path (`{paths}`…) and the label (`{labels}`…), found {text}"
        )));
    };
    let Some(image) = image.as_str() else { return Err(wrong(format!("expected a path, found {image}"))) };
    let (labels, is_list) = match label {
        Value::Array(labels) => (labels.iter().map(word).collect(), true),
        label => (word(label).map(|label| vec![label]), false),
    };
    let expected = || wrong(format!("expected labels that are words or numbers, found {label}"));
    let labels: Vec<String> = labels.ok_or_else(expected)?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let split = match (find("split"), TRAINING.iter().find_map(|key| Some((key, find(key)?)))) {
        (Some(Value::String(word)), _) => Some(split(path, line, word)?),
        (Some(other), _) => return Err(wrong(format!("expected `split` to be a text, found {other}"))),
        (None, Some((key, yes))) => Some(training(path, line, &text(yes), key)?),
        (None, None) => None,
    };
    checked(path, Row { line, path: image.to_owned(), labels, split, is_list })
}

fn checked(path: &Path, mut row: Row) -> Result<Row, TrainError> {
    // `nan` is what tables write for an empty cell.
    let missing = |label: &String| label.is_empty() || label.eq_ignore_ascii_case("nan");
    let none = row.labels.is_empty() && !row.is_list;
    if row.path.is_empty() || none || row.labels.iter().any(missing) {
        return Err(fault(path, format!("line {}: expected a path and a label, found at most one", row.line), HINT));
    }
    row.labels = row.labels.iter().map(|label| spelled(label)).collect();
    Ok(row)
}
