//! NumPy's own format, float32; names go to a text file next to it, one per line.
//!
//! Written here rather than with a library because the header holds the number of rows, which is known only at the end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use vitral::npy::header;

use super::output_file::OutputFile;
use super::rows::{OneShape, Rows, little_endian};
use crate::fault::Usage;

/// Size of magic, version and header, with room for any shape.
const HEADER: usize = 192;

pub(super) struct Npy {
    file: OutputFile,
    names: OutputFile,
    shape: OneShape,
}

impl Npy {
    pub(super) fn new(mut file: OutputFile) -> anyhow::Result<Self> {
        let beside = file.path().with_extension("txt");
        if beside.exists() && !is_ours(file.path(), &beside) {
            let (names, rows) = (beside.display(), file.path().display());
            bail!(Usage(format!(
                "`{names}` exists, and is not the list of names of `{rows}`, which would replace it; choose another name \
                 for the output, or move the file"
            )));
        }
        let names = OutputFile::create(&beside)?;
        file.put(&[0; HEADER])?;
        Ok(Npy { file, names, shape: OneShape::default() })
    }
}

/// Whether a text file lists the rows of an array beside it, so that both may be written again.
fn is_ours(array: &Path, names: &Path) -> bool {
    let rows = || -> Option<usize> {
        let mut header = [0; HEADER];
        File::open(array).ok()?.read_exact(&mut header).ok()?;
        let header = String::from_utf8_lossy(&header);
        let (_, shape) = header.split_once("'shape': (")?;
        shape.split([',', ')']).next()?.trim().parse().ok()
    };
    let lines = std::fs::read_to_string(names).ok().map(|text| text.lines().count());
    rows().is_some_and(|rows| Some(rows) == lines)
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
