//! Files that results are written to: beside their place first, and in it when they are whole.

mod csv;
mod json_lines;
mod npy;
mod parquet;
mod safetensors;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

pub(crate) use json_lines::JsonLines;
pub(crate) use npy::write_npy;
pub(crate) use safetensors::{Named, write_tensors};

/// A file that takes its place when it is whole. Dropped before, it leaves nothing behind.
pub(crate) struct Aside {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Aside {
    /// Opens a file beside `path`, so that a place that cannot be written to is found out before the work.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("`{}` could not be written", path.display());
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{}: expected a file, found a folder or a device; name another place", place());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = builder().tempfile_in(folder).map_err(without_path).with_context(place)?;
        Ok(Aside { file: BufWriter::new(file), path: path.to_owned() })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another file beside the same place, for what has to wait. It has no name and goes by itself.
    fn spool(&self) -> anyhow::Result<BufWriter<File>> {
        let folder = self.file.get_ref().path().parent().unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(folder).map_err(without_path).with_context(|| self.fault())?;
        Ok(BufWriter::new(file))
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.fault())
    }

    /// Puts the file in its place.
    fn finish(self) -> anyhow::Result<()> {
        let fault = self.fault();
        let file = self.file.into_inner().map_err(|error| error.into_error()).with_context(|| fault.clone())?;
        file.persist(&self.path).map_err(|error| error.error).context(fault)?;
        Ok(())
    }

    fn fault(&self) -> String {
        format!("`{}` could not be written", self.path.display())
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes a whole file and puts it in its place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = Aside::create(path)?;
    file.put(bytes)?;
    file.finish()
}

/// Temporary files with the rights that new files have.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".vitral-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// The name of a temporary file means nothing to anybody.
fn without_path(error: std::io::Error) -> std::io::Error {
    match error.get_ref().and_then(|inner| std::error::Error::source(inner)).map(ToString::to_string) {
        Some(cause) => std::io::Error::new(error.kind(), cause),
        None => error,
    }
}

/// Rows of numbers, all of one shape, each with the name of its picture.
pub(crate) trait Rows {
    /// Adds the numbers of one picture.
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()>;
    /// Completes the file and puts it in its place.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// A format of rows, told by the ending of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Npy,
    Safetensors,
    Csv,
    JsonLines,
    Parquet,
}

impl Format {
    /// The format that a name asks for.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("npy") => Ok(Format::Npy),
            Some("safetensors") => Ok(Format::Safetensors),
            Some("csv") => Ok(Format::Csv),
            Some("jsonl") => Ok(Format::JsonLines),
            Some("parquet") => Ok(Format::Parquet),
            _ => Err("expected a name that ends in .npy, .safetensors, .csv, .jsonl or .parquet".into()),
        }
    }

    /// Opens a file for rows; `tensor` is what the numbers are called where they have a name.
    pub(crate) fn create(self, path: &Path, tensor: &'static str) -> anyhow::Result<Box<dyn Rows>> {
        let file = Aside::create(path)?;
        Ok(match self {
            Format::Npy => Box::new(npy::Npy::new(file)?),
            Format::Safetensors => Box::new(safetensors::Safetensors::new(file, tensor)?),
            Format::Csv => Box::new(csv::Csv::new(file)),
            Format::JsonLines => Box::new(json_lines::JsonLinesFile::new(file, tensor)),
            Format::Parquet => Box::new(parquet::Parquet::new(file, tensor)),
        })
    }
}

/// Holds that all rows have one shape.
#[derive(Default)]
struct OneShape {
    shape: Option<Vec<usize>>,
    count: usize,
}

impl OneShape {
    fn add(&mut self, name: &str, found: &[usize]) -> anyhow::Result<()> {
        let shape = self.shape.get_or_insert_with(|| found.to_vec());
        if shape != found {
            bail!(
                "`{name}`: gives numbers of shape {found:?}, the pictures before gave {shape:?}, and one array holds one \
                 shape; write .jsonl, or let the preprocessing crop to one size"
            );
        }
        self.count += 1;
        Ok(())
    }

    /// The shape of all rows together.
    fn all(&self) -> Vec<usize> {
        std::iter::once(self.count).chain(self.shape.iter().flatten().copied()).collect()
    }
}

/// Numbers as bytes of a file, little-endian.
fn little_endian(values: &[f32]) -> std::borrow::Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        bytemuck::cast_slice(values).into()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}
