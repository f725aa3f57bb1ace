//! JSON Lines: one object per image, `{"image": …, "features": […]}`.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use vitral::nested::Nested;

use super::output_file::OutputFile;
use super::rows::Rows;

/// One line.
pub(crate) struct JsonLines<'a> {
    pub(crate) tensor: &'a str,
    pub(crate) image: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) values: &'a [f32],
}

impl Serialize for JsonLines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(Some(2))?;
        line.serialize_entry("image", self.image)?;
        line.serialize_entry(self.tensor, &Nested { shape: self.shape, values: self.values })?;
        line.end()
    }
}

pub(super) struct JsonLinesFile {
    file: OutputFile,
    tensor: &'static str,
}

impl JsonLinesFile {
    pub(super) fn new(file: OutputFile, tensor: &'static str) -> Self {
        JsonLinesFile { file, tensor }
    }
}

impl Rows for JsonLinesFile {
    fn row(&mut self, image: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        let line = JsonLines { tensor: self.tensor, image, shape, values };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.file.put(&line)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.file.finish()
    }
}
