//! NumPy's own format, float32; names go to a text file next to it, one per line.
//!
//! Written here rather than with a library because the header holds the number of rows, which is known only at the end.

use std::io::{Seek, SeekFrom, Write};

use anyhow::Context;
use vitral::npy::header;

use super::output_file::OutputFile;
use super::rows::{OneShape, Rows, little_endian};

/// Size of magic, version and header, with room for any shape.
const HEADER: usize = 192;

pub(super) struct Npy {
    file: OutputFile,
    names: OutputFile,
    shape: OneShape,
}

impl Npy {
    pub(super) fn new(mut file: OutputFile) -> anyhow::Result<Self> {
        let names = OutputFile::create(&file.path().with_extension("txt"))?;
        file.put(&[0; HEADER])?;
        Ok(Npy { file, names, shape: OneShape::default() })
    }
}

impl Rows for Npy {
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        self.shape.add(name, shape)?;
        self.names.put(name.replace('\n', "\\n").as_bytes())?;
        self.names.put(b"\n")?;
        self.file.put(&little_endian(values))
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        let header = header(&self.shape.all(), HEADER);
        let fault = self.file.fault();
        let file = &mut self.file;
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).context(fault)?;
        self.names.finish()?;
        self.file.finish()
    }
}

/// Writes one array to a file and moves it into place.
pub(crate) fn write_npy(mut file: OutputFile, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
    file.put(&header(shape, HEADER))?;
    file.put(&little_endian(values))?;
    file.finish()
}
