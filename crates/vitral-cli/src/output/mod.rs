//! Files that results are written to: beside their place first, and in it when they are whole.

mod csv;
mod json_lines;
mod npy;
mod parquet;
mod safetensors;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use vitral::whole::WholeFile;

pub(crate) use json_lines::JsonLines;
pub(crate) use npy::write_npy;
pub(crate) use safetensors::{Named, write_tensors};

/// A file that takes its place when it is whole. Dropped before, it leaves nothing behind.
pub(crate) struct Aside(WholeFile);

impl Aside {
    /// Opens a file beside `path`, so that a place that cannot be written to is found out before the work.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("`{}` could not be written", path.display());
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{}: expected a file, found a folder or a device; name another place", place());
        }
        Ok(Aside(WholeFile::create(path).with_context(place)?))
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Another file beside the same place, for what has to wait. It has no name and goes by itself.
    fn spool(&self) -> anyhow::Result<BufWriter<File>> {
        self.0.spool().with_context(|| self.fault())
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).with_context(|| self.fault())
    }

    /// Puts the file in its place.
    fn finish(self) -> anyhow::Result<()> {
        let fault = self.fault();
        self.0.finish().context(fault)
    }

    fn fault(&self) -> String {
        format!("`{}` could not be written", self.path().display())
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Aside {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

/// Writes a whole file and puts it in its place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = Aside::create(path)?;
    file.put(bytes)?;
    file.finish()
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
