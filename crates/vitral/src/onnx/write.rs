//! Writes a graph with its constants, one of them at a time. Only the graph itself is in memory as a whole.

use std::collections::HashMap;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::error::OnnxError;
use super::initializer::{Initializer, Weights};
use super::proto::tensor_proto::DataLocation;
use super::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};

/// The most that readers of the format take in one message.
const LIMIT: usize = i32::MAX as usize;

/// Constants of fewer bytes stay in the graph.
const SMALL: usize = 1024;

/// Tags of the fields that are written apart: a model's graph, a graph's constants, a constant's values.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// Where constants of a file beside the graph begin: at a page, and large ones where Windows can map them.
pub(super) fn alignment(size: usize) -> usize {
    if size < 1 << 20 { 4096 } else { 1 << 16 }
}

/// A digest of a constant's bytes.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// What is written.
pub(super) struct Whole<'a> {
    /// Everything about the model but its graph.
    pub(super) model: ModelProto,
    /// The graph without its constants.
    pub(super) graph: GraphProto,
    pub(super) constants: &'a [Initializer],
}

impl Whole<'_> {
    /// Whether it is too large for one file.
    pub(super) fn needs_two_files(&self) -> bool {
        let graph = self.graph_length(&self.headers(None));
        self.model.encoded_len() + graph + 16 > LIMIT
    }

    /// The descriptions of all constants; with the name of a file, large ones say where in it they are.
    fn headers(&self, beside: Option<&str>) -> Vec<TensorProto> {
        let mut end = 0usize;
        let of = |constant: &Initializer| {
            let mut header = constant.header();
            let size = constant.size();
            if let Some(location) = beside.filter(|_| size >= SMALL) {
                let start = end.next_multiple_of(alignment(size));
                end = start + size;
                let entries =
                    [("location", location.to_owned()), ("offset", start.to_string()), ("length", size.to_string())];
                header.external_data =
                    entries.into_iter().map(|(key, value)| StringStringEntryProto { key: key.into(), value }).collect();
                header.data_location = DataLocation::External.into();
            }
            header
        };
        self.constants.iter().map(of).collect()
    }

    fn graph_length(&self, headers: &[TensorProto]) -> usize {
        let constants = self.constants.iter().zip(headers).map(|(constant, header)| {
            let length = tensor_length(constant, header);
            1 + varint(length).len() + length
        });
        self.graph.encoded_len() + constants.sum::<usize>()
    }

    /// Writes the model to `file`, and where a file beside it is named, large constants to that. Gives the digest of every
    /// constant's bytes.
    ///
    /// # Errors
    /// If a parameter cannot be read, or a file not be written.
    pub(super) fn write(
        &self,
        weights: &Weights<'_, '_>,
        file: &Path,
        beside: Option<(&Path, &str)>,
    ) -> Result<HashMap<String, u64>, OnnxError> {
        let headers = self.headers(beside.map(|(_, location)| location));
        let mut data = beside.map(|(path, _)| Data::create(path)).transpose()?;
        let failed = |fault| OnnxError::writing(file, fault);
        let mut out = BufWriter::new(File::create(file).map_err(failed)?);
        let mut head = self.model.encode_to_vec();
        encode_key(GRAPH, WireType::LengthDelimited, &mut head);
        head.extend(varint(self.graph_length(&headers)));
        head.extend(self.graph.encode_to_vec());
        out.write_all(&head).map_err(failed)?;
        let mut digests = HashMap::new();
        for (constant, header) in self.constants.iter().zip(&headers) {
            let bytes = constant.bytes(weights)?;
            digests.insert(constant.name.clone(), digest(&bytes));
            let mut head = Vec::new();
            encode_key(INITIALIZER, WireType::LengthDelimited, &mut head);
            head.extend(varint(tensor_length(constant, header)));
            head.extend(header.encode_to_vec());
            if let Some(data) = data.as_mut().filter(|_| is_external(header)) {
                data.put(&bytes)?;
                out.write_all(&head).map_err(failed)?;
            } else {
                encode_key(RAW_DATA, WireType::LengthDelimited, &mut head);
                head.extend(varint(bytes.len()));
                out.write_all(&head).and_then(|()| out.write_all(&bytes)).map_err(failed)?;
            }
        }
        finished(out).map_err(failed)?;
        data.map(Data::finish).transpose()?;
        Ok(digests)
    }
}

fn is_external(header: &TensorProto) -> bool {
    header.data_location == i32::from(DataLocation::External)
}

/// Bytes of a constant in its message.
fn tensor_length(constant: &Initializer, header: &TensorProto) -> usize {
    let size = constant.size();
    header.encoded_len() + if is_external(header) { 0 } else { 1 + varint(size).len() + size }
}

fn varint(value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    encode_varint(value as u64, &mut bytes);
    bytes
}

fn finished(file: BufWriter<File>) -> io::Result<()> {
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The file beside a graph.
struct Data<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    end: usize,
}

impl<'a> Data<'a> {
    fn create(path: &'a Path) -> Result<Self, OnnxError> {
        let file = File::create(path).map_err(|fault| OnnxError::writing(path, fault))?;
        Ok(Data { path, file: BufWriter::new(file), end: 0 })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        let start = self.end.next_multiple_of(alignment(bytes.len()));
        let padding = vec![0; start - self.end];
        self.end = start + bytes.len();
        let written = self.file.write_all(&padding).and_then(|()| self.file.write_all(bytes));
        written.map_err(|fault| OnnxError::writing(self.path, fault))
    }

    fn finish(self) -> Result<(), OnnxError> {
        finished(self.file).map_err(|fault| OnnxError::writing(self.path, fault))
    }
}
