//! Grids of values whose rows come one after the other, so that a grid need not fit into memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use vitral::npy;

use super::output_file::OutputFile;
use super::rows::little_endian;
use super::safetensors::header;

/// A file of grids, each `[rows, columns, width]`, one for each image.
pub(crate) struct Grids {
    file: OutputFile,
    kind: Kind,
}

enum Kind {
    /// The grid of one image.
    Npy,
    /// Grids of several, each a tensor of the image's name. The header comes first and holds their shapes, so the values wait
    /// in a second file.
    Safetensors { waiting: BufWriter<File>, tensors: Vec<(String, Vec<usize>)>, about: Vec<Value> },
}

impl Grids {
    /// Opens a file for the grid of one image (.npy) or of several (.safetensors).
    pub(crate) fn create(path: &Path, npy: bool) -> anyhow::Result<Self> {
        let file = OutputFile::create(path)?;
        let kind = match npy {
            true => Kind::Npy,
            false => Kind::Safetensors { waiting: file.spool()?, tensors: vec![], about: vec![] },
        };
        Ok(Grids { file, kind })
    }

    /// Begins the grid of an image, whose name no other has. `about` says more of it, in formats with room for that.
    pub(crate) fn begin(&mut self, name: &str, shape: [usize; 3], about: Value) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Npy => self.file.put(&npy::header(&shape, 0)),
            Kind::Safetensors { tensors, about: all, .. } => {
                tensors.push((name.to_owned(), shape.to_vec()));
                let mut one = json!({ "image": name });
                if let (Some(one), Value::Object(about)) = (one.as_object_mut(), about) {
                    one.extend(about);
                }
                all.push(one);
                Ok(())
            }
        }
    }

    /// Adds values to the grid that began last.
    pub(crate) fn put(&mut self, values: &[f32]) -> anyhow::Result<()> {
        let bytes = little_endian(values);
        match &mut self.kind {
            Kind::Npy => self.file.put(&bytes),
            Kind::Safetensors { waiting, .. } => waiting.write_all(&bytes).with_context(|| self.file.fault()),
        }
    }

    /// Completes the file and moves it into place.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if let Kind::Safetensors { waiting, tensors, about } = self.kind {
            let about = HashMap::from([("grids".to_owned(), serde_json::to_string(&about)?)]);
            self.file.put(&header(about, tensors)?)?;
            let fault = self.file.fault();
            let mut waiting = waiting.into_inner().map_err(|error| error.into_error()).context(fault.clone())?;
            let mut copy = |file: &mut OutputFile| -> std::io::Result<()> {
                waiting.seek(SeekFrom::Start(0))?;
                std::io::copy(&mut waiting, file).map(drop)
            };
            copy(&mut self.file).context(fault)?;
        }
        self.file.finish()
    }
}
