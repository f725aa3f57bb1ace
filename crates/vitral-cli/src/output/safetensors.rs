//! Safetensors: several tensors at once, or rows one by one.

use std::collections::HashMap;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};

use anyhow::Context;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::output_file::OutputFile;
use super::rows::{OneShape, Rows, little_endian};

/// One tensor's name, shape and values.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// Writes tensors to a file and moves it into place.
pub(crate) fn write_tensors(mut file: OutputFile, tensors: &[Named]) -> anyhow::Result<()> {
    let shapes: Vec<_> = tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    file.put(&header(HashMap::new(), shapes)?)?;
    for (_, _, values) in tensors {
        file.put(&little_endian(values))?;
    }
    file.finish()
}

/// Rows of one tensor. The header holds their count, so they are kept in a second file until all are there.
pub(super) struct Safetensors {
    file: OutputFile,
    waiting: BufWriter<std::fs::File>,
    tensor: &'static str,
    names: Vec<String>,
    shape: OneShape,
}

impl Safetensors {
    pub(super) fn new(file: OutputFile, tensor: &'static str) -> anyhow::Result<Self> {
        let waiting = file.spool()?;
        Ok(Safetensors { file, waiting, tensor, names: Vec::new(), shape: OneShape::default() })
    }
}

impl Rows for Safetensors {
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
        self.shape.add(name, shape)?;
        self.names.push(name.to_owned());
        self.waiting.write_all(&little_endian(values)).with_context(|| self.file.fault())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        let names = HashMap::from([("names".to_owned(), serde_json::to_string(&self.names)?)]);
        self.file.put(&header(names, vec![(self.tensor.to_owned(), self.shape.all())])?)?;
        let fault = self.file.fault();
        let mut waiting = self.waiting.into_inner().map_err(|error| error.into_error()).context(fault.clone())?;
        let copy = |waiting: &mut std::fs::File, file: &mut OutputFile| -> std::io::Result<()> {
            waiting.seek(SeekFrom::Start(0))?;
            std::io::copy(&mut waiting.take(u64::MAX), file).map(drop)
        };
        copy(&mut waiting, &mut self.file).context(fault)?;
        self.file.finish()
    }
}

/// The start of a file: length and header, for float32 tensors that follow in this order.
pub(super) fn header(about: HashMap<String, String>, tensors: Vec<(String, Vec<usize>)>) -> anyhow::Result<Vec<u8>> {
    let mut end = 0;
    let place = |(name, shape): (String, Vec<usize>)| {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        (name, TensorInfo { dtype: Dtype::F32, shape, data_offsets: (start, end) })
    };
    let infos = tensors.into_iter().map(place).collect();
    let metadata = Metadata::new((!about.is_empty()).then_some(about), infos)?;
    let mut text = serde_json::to_vec(&metadata)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    Ok(header)
}
