//! PyTorch checkpoints (`.pth`, `.pt`, `.bin`): a pickle that describes tensors, and their bytes.
//!
//! A pickle is a program. This interpreter knows only the few calls that make tensors and dictionaries, and executes
//! nothing. Any other object beside the tensors is kept without being understood; what can only be meant to run a command
//! is rejected by name. (We considered the crate `pytorch-reader`: it keeps unknown calls
//! as opaque values even where they stand for tensors, copies tensors through file reads instead of borrowing from a mapping,
//! and is a pre-release.)

mod fault;
mod legacy;
mod module;
mod pickle;
mod tensors;

use std::path::Path;

use super::zip;
use crate::weights::WeightsError;
use fault::Fault;
use tensors::Read;

/// Whether the bytes look like a checkpoint: a zip archive, or a pickle of protocol 2 and later.
pub(crate) fn recognizes(bytes: &[u8]) -> bool {
    zip::recognizes(bytes) || legacy::recognizes(bytes)
}

/// Finds every tensor of the checkpoint.
pub(crate) fn entries(path: &Path, bytes: &[u8], section: Option<&str>) -> Result<Read, WeightsError> {
    let read = if zip::recognizes(bytes) { from_archive(bytes, section) } else { legacy::entries(bytes, section) };
    read.map_err(|fault| match fault {
        Fault::Damaged(fault) => WeightsError::Damaged { path: path.to_owned(), format: "PyTorch", fault },
        Fault::Forbidden(global) => WeightsError::ForbiddenGlobal { path: path.to_owned(), global },
        Fault::Unreadable { tensor, class } => WeightsError::UnreadableTensor { path: path.to_owned(), tensor, class },
        Fault::Section { asked, found } => {
            WeightsError::MissingSection { path: path.to_owned(), section: asked, found }
        }
    })
}

fn from_archive(bytes: &[u8], section: Option<&str>) -> Result<Read, Fault> {
    let archive = zip::Archive::read(bytes)?;
    let folder = archive
        .names()
        .find_map(|name| name.strip_suffix("data.pkl").filter(|folder| folder.matches('/').count() <= 1))
        .ok_or("a zip archive without `data.pkl`, so not written by `torch.save`")?
        .to_owned();
    let program = &bytes[archive.stored(&format!("{folder}data.pkl"))?];
    let big_endian = match archive.stored(&format!("{folder}byteorder")) {
        Ok(range) => match &bytes[range] {
            b"little" => false,
            b"big" => true,
            other => return Err(format!("unknown byte order `{}`", other.escape_ascii()).into()),
        },
        Err(_) => false,
    };
    let (heap, root, _) = pickle::load(program)?;
    archive.check_apart()?;
    let storage = |key: &str| Ok(archive.stored(&format!("{folder}data/{key}"))?);
    tensors::collect(&heap, root, section, big_endian, &storage)
}
