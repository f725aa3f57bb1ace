//! Parquet files as on the Hugging Face hub: an image (`image`, a struct of `bytes` and `path`, or just bytes) and a
//! label per row, in one file or several shards.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, Image, ImageError, decode_for};

use super::classes::{Classes, of_labels};
use super::stored::{Stored, Storing};
use super::{Dataset, fault};
use crate::error::TrainError;

/// Common names of the column with the image.
const IMAGES: [&str; 5] = ["image", "img", "picture", "pixel_values", "jpg"];
/// Common names of the column with the class.
const LABELS: [&str; 7] = ["label", "labels", "class", "target", "fine_label", "cls", "category"];
const HINT: &str = "name the columns `image` (bytes, or a struct with `bytes`) and `label` (an integer or a name)";
/// Bytes of encoded images to keep in memory; more go to a temporary file.
const IN_MEMORY: u64 = 1 << 30;

/// Images and labels in Parquet files.
#[derive(Debug)]
pub struct Parquet {
    classes: Vec<String>,
    files: Vec<PathBuf>,
    rows: Vec<Row>,
    stored: Stored,
}

#[derive(Debug)]
struct Row {
    file: usize,
    row: usize,
    /// The image's path according to the row.
    path: Option<String>,
    label: usize,
    start: u64,
    length: usize,
}

/// A label in the file.
#[derive(Clone)]
enum Label {
    Number(i64),
    Name(String),
}

/// Indices of the leaf columns.
struct Columns {
    bytes: usize,
    path: Option<usize>,
    label: usize,
    label_name: String,
}

impl Parquet {
    /// Reads files. The classes are those given, those named in the files (Hugging Face's `ClassLabel`), or the labels
    /// found, sorted; whole numbers from 0 on count the classes if at least half of them are in use, and are names
    /// otherwise.
    ///
    /// # Errors
    /// If a file is damaged, lacks the columns, or a label is not a class.
    pub fn open(files: &[PathBuf], classes: Option<&[String]>) -> Result<Self, TrainError> {
        let mut readers = Vec::with_capacity(files.len());
        let (mut expected, mut named) = (0, None);
        for path in files {
            let reader = reader(path)?;
            let metadata = reader.metadata();
            let columns = columns(metadata.file_metadata().schema_descr(), path)?;
            let groups = metadata.row_groups().iter();
            expected += groups.map(|group| group.column(columns.bytes).uncompressed_size().max(0) as u64).sum::<u64>();
            let pairs = metadata.file_metadata().key_value_metadata().into_iter().flatten();
            let described = pairs.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref());
            named = named.or_else(|| declared_names(described?, &columns.label_name));
            readers.push((path, reader, columns));
        }
        let storing = |path: &Path| TrainError::file(path.to_path_buf(), "keeping images in a temporary file");
        let first = files.first().map_or(Path::new(""), |path| path);
        let mut stored = Storing::new(expected, IN_MEMORY).map_err(storing(first))?;
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (file, (path, reader, columns)) in readers.iter().enumerate() {
            let damaged = |error: ParquetError| fault(path, error.to_string(), "download the file again");
            let (mut row, uneven) = (0, || fault(path, "columns of different lengths", "download the file again"));
            for group in 0..reader.num_row_groups() {
                let group = reader.get_row_group(group).map_err(damaged)?;
                let count = usize::try_from(group.metadata().num_rows()).map_err(|_| uneven())?;
                let most = |index| group.metadata().column(index).column_descr().max_def_level();
                let read = || {
                    let column = |index| group.get_column_reader(index);
                    let images = bytes(column(columns.bytes)?, count, most(columns.bytes))?;
                    let paths = match columns.path {
                        Some(index) => bytes(column(index)?, count, most(index))?,
                        None => vec![None; images.len()],
                    };
                    Ok((images, paths, read_labels(column(columns.label)?, count, most(columns.label))?))
                };
                let (images, paths, found) = caught(read).map_err(damaged)?;
                if images.len() != count || paths.len() != count || found.len() != count {
                    return Err(uneven());
                }
                for ((image, path_of), label) in images.iter().zip(paths).zip(found) {
                    // A row without bytes is an unreadable image, reported when it is requested.
                    let image = image.as_ref().map_or(&[][..], ByteArray::data);
                    let start = stored.push(image).map_err(storing(path))?;
                    let path = path_of.and_then(|path| path.as_utf8().ok().map(str::to_owned));
                    rows.push(Row { file, row, path, label: 0, start, length: image.len() });
                    labels.push(label);
                    row += 1;
                }
            }
        }
        if rows.is_empty() {
            return Err(fault(first, "expected images, found no rows", HINT));
        }
        let classes =
            classes.map(<[String]>::to_vec).or_else(|| named.clone()).unwrap_or_else(|| found_classes(&labels));
        let known = Classes::new(&classes);
        for (row, label) in rows.iter_mut().zip(labels) {
            let (path, place) = (&files[row.file], format!("row {}", row.row));
            row.label = match label {
                Some(Label::Number(number)) => {
                    // Declared names say what a number means, whatever the order of the classes.
                    let declared = usize::try_from(number).ok().and_then(|number| named.as_ref()?.get(number));
                    match declared {
                        Some(name) => known.named(name, path)?,
                        None => known.labeled(&number.to_string(), &place, path)?,
                    }
                }
                Some(Label::Name(name)) => known.named(&name, path)?,
                None => {
                    let hint = "remove such rows, or correct their labels";
                    return Err(fault(path, format!("{place}: expected a label, found none"), hint));
                }
            };
        }
        Ok(Parquet { classes, files: files.to_vec(), rows, stored: stored.done() })
    }
}

/// Whether a file is Parquet according to its name.
pub(super) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"))
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>, TrainError> {
    let file = File::open(path).map_err(TrainError::file(path, "opening Parquet"))?;
    caught(|| SerializedFileReader::new(file))
        .map_err(|error| fault(path, error.to_string(), "download the file again"))
}

/// The underlying reader panics on some damaged files; this turns the panic into an error.
fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let damaged = |_| Err(ParquetError::General("the file is damaged".into()));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(damaged)
}

fn columns(schema: &SchemaDescriptor, path: &Path) -> Result<Columns, TrainError> {
    let leaves: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let find = |name: &str| {
        let flat = |index: &usize| schema.column(*index).max_rep_level() == 0;
        leaves.iter().position(|leaf| leaf == name).filter(flat)
    };
    let first = |names: &[&str], ending: &str| names.iter().find_map(|name| find(&format!("{name}{ending}")));
    let missing = |what: &str| {
        let shown = leaves.iter().map(|leaf| format!("`{leaf}`")).collect::<Vec<_>>().join(", ");
        fault(path, format!("expected a column with {what}, found {shown}"), HINT)
    };
    let bytes = first(&IMAGES, ".bytes").or_else(|| first(&IMAGES, "")).ok_or_else(|| missing("images"))?;
    let label = first(&LABELS, "").ok_or_else(|| missing("one label per row"))?;
    Ok(Columns { bytes, path: first(&IMAGES, ".path"), label, label_name: leaves[label].clone() })
}

/// All values of one row group, `None` for rows without a value. `most` is the definition level of a row with a value.
fn all<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    count: usize,
    most: i16,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < count {
        let (records, ..) = reader.read_records(count - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    let mut values = values.into_iter();
    if most == 0 {
        return Ok(values.map(Some).collect());
    }
    Ok(levels.into_iter().map(|level| if level == most { values.next() } else { None }).collect())
}

fn bytes(reader: ColumnReader, count: usize, most: i16) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    match reader {
        ColumnReader::ByteArrayColumnReader(reader) => all(reader, count, most),
        _ => Err(ParquetError::General("the image column does not contain bytes".into())),
    }
}

fn read_labels(reader: ColumnReader, count: usize, most: i16) -> Result<Vec<Option<Label>>, ParquetError> {
    let numbers = |values: Vec<Option<i64>>| values.into_iter().map(|value| value.map(Label::Number)).collect();
    match reader {
        ColumnReader::Int64ColumnReader(reader) => Ok(numbers(all(reader, count, most)?)),
        ColumnReader::Int32ColumnReader(reader) => {
            let values = all(reader, count, most)?;
            Ok(numbers(values.into_iter().map(|value| value.map(i64::from)).collect()))
        }
        ColumnReader::BoolColumnReader(reader) => {
            let values = all(reader, count, most)?;
            Ok(numbers(values.into_iter().map(|value| value.map(i64::from)).collect()))
        }
        ColumnReader::ByteArrayColumnReader(reader) => {
            let name = |value: ByteArray| value.as_utf8().map(|name| Label::Name(name.to_owned()));
            all(reader, count, most)?.into_iter().map(|value| value.map(name).transpose()).collect()
        }
        _ => Err(ParquetError::General("labels are neither integers nor names".into())),
    }
}

/// Class names of a column, as Hugging Face's `datasets` writes them into a file.
fn declared_names(described: &str, column: &str) -> Option<Vec<String>> {
    let described: serde_json::Value = serde_json::from_str(described).ok()?;
    let names = described.get("info")?.get("features")?.get(column)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The classes that the labels stand for.
fn found_classes(labels: &[Option<Label>]) -> Vec<String> {
    let label = |label: &Label| match label {
        Label::Name(name) => name.clone(),
        Label::Number(number) => number.to_string(),
    };
    // By convention, negative numbers stand for images without a label.
    let labels = labels.iter().flatten().filter(|label| !matches!(label, Label::Number(..0)));
    of_labels(labels.map(label).collect())
}

impl Dataset for Parquet {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn label(&self, index: usize) -> usize {
        self.rows[index].label
    }

    fn name(&self, index: usize) -> String {
        let row = &self.rows[index];
        let file = self.files[row.file].display();
        match row.path.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => format!("{file}, row {}, {path}", row.row),
            None => format!("{file}, row {}", row.row),
        }
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        let Row { start, length, .. } = self.rows[index];
        let bytes = self.stored.read(start, length).map_err(TrainError::file(self.name(index), "reading an image"))?;
        let within = |source| ImageError::InFile { path: self.name(index).into(), source: Box::new(source) };
        let decoded = decode_for(&bytes, channels, &DecodeOptions::default()).map_err(within);
        Ok(decoded.map_err(vitral::Error::from)?.into_image())
    }
}
