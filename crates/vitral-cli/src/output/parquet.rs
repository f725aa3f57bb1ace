//! Parquet: one row per image (`image`, and `features` as a list of floats) or per token (`image`, `token`,
//! `features`).

use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use anyhow::Context;

use super::output_file::OutputFile;
use super::rows::{OneShape, Rows};

/// Values per row group: 16 MB, which readers load in one piece.
const GROUP: usize = 4 << 20;

pub(super) struct Parquet {
    /// The file, until its first row determines the columns.
    file: Option<OutputFile>,
    writer: Option<SerializedFileWriter<OutputFile>>,
    fault: String,
    tensor: &'static str,
    shape: OneShape,
    names: Vec<ByteArray>,
    tokens: Vec<i32>,
    values: Vec<f32>,
}

impl Parquet {
    pub(super) fn new(file: OutputFile, tensor: &'static str) -> Self {
        let fault = file.fault();
        let (names, tokens, values) = (Vec::new(), Vec::new(), Vec::new());
        Parquet { file: Some(file), writer: None, fault, tensor, shape: OneShape::default(), names, tokens, values }
    }

    /// Creates the writer, once it is known whether rows are images or tokens.
    fn open(&mut self, by_token: bool) -> anyhow::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let token = if by_token { "required int32 token;" } else { "" };
        let schema = format!(
            "message rows {{ required binary image (STRING); {token} required group {} (LIST) {{ repeated group list {{ \
             required float element; }} }} }}",
            self.tensor
        );
        // Feature values rarely repeat, so a dictionary would only add overhead.
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_column_dictionary_enabled(format!("{}.list.element", self.tensor).as_str().into(), false)
            .set_created_by(concat!("vitral ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = SerializedFileWriter::new(file, Arc::new(parse_message_type(&schema)?), Arc::new(properties));
        self.writer = Some(writer.with_context(|| self.fault.clone())?);
        Ok(())
    }

    /// Writes the buffered rows as one row group.
    fn group(&mut self) -> anyhow::Result<()> {
        if let (Some(writer), false) = (&mut self.writer, self.names.is_empty()) {
            write_group(writer, &self.names, &self.tokens, &self.values).with_context(|| self.fault.clone())?;
        }
        self.names.clear();
        self.tokens.clear();
        self.values.clear();
        Ok(())
    }
}

fn write_group(
    writer: &mut SerializedFileWriter<OutputFile>,
    names: &[ByteArray],
    tokens: &[i32],
    values: &[f32],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    column::<ByteArrayType>(&mut group, names, None)?;
    if !tokens.is_empty() {
        column::<Int32Type>(&mut group, tokens, None)?;
    }
    // 0 where a list begins, 1 where it continues.
    let width = values.len() / names.len();
    let places: Vec<i16> = (0..values.len()).map(|index| i16::from(index % width != 0)).collect();
    column::<FloatType>(&mut group, values, Some(&places))?;
    group.close().map(drop)
}

impl Rows for Parquet {
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        self.shape.add(name, shape)?;
        self.open(shape.len() > 1)?;
        let width = shape.last().copied().unwrap_or(1).max(1);
        for (token, values) in values.chunks_exact(width).enumerate() {
            self.names.push(name.into());
            if shape.len() > 1 {
                self.tokens.push(i32::try_from(token)?);
            }
            self.values.extend_from_slice(values);
        }
        if self.values.len() >= GROUP { self.group() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.open(false)?;
        self.group()?;
        match self.writer {
            Some(writer) => writer.into_inner().context(self.fault)?.finish(),
            None => Ok(()),
        }
    }
}

/// Writes the next column of a row group; `places` marks where a list continues (1) and where a row begins (0).
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, OutputFile>,
    values: &[T::T],
    places: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns than there are to write".into());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    let present = places.map(|places| vec![1; places.len()]);
    column.typed::<T>().write_batch(values, present.as_deref(), places)?;
    column.close()
}
