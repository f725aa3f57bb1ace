//! Output files, written to a temporary file first and moved into place when complete.

mod csv;
mod grids;
mod json_lines;
mod npy;
mod output_file;
mod parquet;
mod rows;
mod safetensors;

use std::path::{Path, PathBuf};

pub(crate) use grids::Grids;
pub(crate) use json_lines::JsonLines;
pub(crate) use npy::write_npy;
pub(crate) use output_file::{OutputFile, write_file};
pub(crate) use rows::Rows;
pub(crate) use safetensors::{Named, write_tensors};

/// A format of rows, recognized by the file extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Npy,
    Safetensors,
    Csv,
    JsonLines,
    Parquet,
}

impl Format {
    /// The format for a file name.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Ok(Format::Npy),
            Some("safetensors") => Ok(Format::Safetensors),
            Some("csv") => Ok(Format::Csv),
            Some("jsonl") => Ok(Format::JsonLines),
            Some("parquet") => Ok(Format::Parquet),
            _ => Err("expected a name that ends in .npy, .safetensors, .csv, .jsonl or .parquet".into()),
        }
    }

    /// A path whose name ends in one of these, for commands that write only that.
    pub(crate) fn ending(text: &str, endings: &[&str]) -> Result<PathBuf, String> {
        let path = PathBuf::from(text);
        let found =
            path.extension().is_some_and(|found| endings.iter().any(|ending| found.eq_ignore_ascii_case(ending)));
        if found { Ok(path) } else { Err(format!("expected a name that ends in .{}", endings.join(" or ."))) }
    }

    /// A path for a `.safetensors` file; one whose name ends like another format's would be misread.
    pub(crate) fn safetensors(text: &str) -> Result<PathBuf, String> {
        const OTHERS: [&str; 9] = ["npy", "npz", "csv", "json", "jsonl", "parquet", "pt", "pth", "onnx"];
        match Format::ending(text, &OTHERS) {
            Ok(_) => Err("expected a name that ends in .safetensors".into()),
            Err(_) => Ok(PathBuf::from(text)),
        }
    }

    /// Opens a file for rows; `tensor` names the values in formats that name them.
    pub(crate) fn create(self, path: &Path, tensor: &'static str) -> anyhow::Result<Box<dyn Rows>> {
        let file = OutputFile::create(path)?;
        Ok(match self {
            Format::Npy => Box::new(npy::Npy::new(file)?),
            Format::Safetensors => Box::new(safetensors::Safetensors::new(file, tensor)?),
            Format::Csv => Box::new(csv::Csv::new(file)),
            Format::JsonLines => Box::new(json_lines::JsonLinesFile::new(file, tensor)),
            Format::Parquet => Box::new(parquet::Parquet::new(file, tensor)),
        })
    }
}
