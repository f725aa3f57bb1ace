//! CSV: one row per image (`image,0,1,…`), or one row per token (`image,token,0,1,…`).

use super::output_file::OutputFile;
use super::rows::{OneShape, Rows};

pub(super) struct Csv {
    file: OutputFile,
    shape: OneShape,
}

impl Csv {
    pub(super) fn new(file: OutputFile) -> Self {
        Csv { file, shape: OneShape::default() }
    }
}

impl Rows for Csv {
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        self.shape.add(name, shape)?;
        let width = shape.last().copied().unwrap_or(1);
        let by_token = shape.len() > 1;
        let mut rows = csv::Writer::from_writer(Vec::new());
        if self.shape.count == 1 {
            rows.write_field("image")?;
            if by_token {
                rows.write_field("token")?;
            }
            rows.write_record((0..width).map(|column| column.to_string()))?;
        }
        for (token, values) in values.chunks_exact(width.max(1)).enumerate() {
            rows.write_field(name)?;
            if by_token {
                rows.write_field(token.to_string())?;
            }
            rows.write_record(values.iter().map(ToString::to_string))?;
        }
        let bytes = rows.into_inner()?;
        self.file.put(&bytes)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.file.finish()
    }
}
