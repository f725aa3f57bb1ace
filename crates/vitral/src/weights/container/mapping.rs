//! Weight files as memory: mapped where they are files, owned where they come from elsewhere.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use crate::weights::WeightsError;

/// The bytes of a file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Mapped into memory: pages are read when touched, and shared between processes.
    Mapped(memmap2::Mmap),
    /// In memory already.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a file.
    pub(crate) fn map(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(|source| WeightsError::io(path, source))?;
        let length = file.metadata().map_err(|source| WeightsError::io(path, source))?.len();
        if length == 0 {
            // An empty file cannot be mapped.
            return Ok(Bytes::Owned(Vec::new()));
        }
        // SAFETY: the mapping is private and read-only, and we hand out no `&mut`. Should another process truncate or
        // rewrite the file while we read, values change or the process is stopped by SIGBUS; no reader of mapped
        // weights, the reference library included, can prevent that, and nothing is executed from these bytes.
        #[expect(unsafe_code)]
        let mapping = unsafe { memmap2::Mmap::map(&file) };
        mapping.map(Bytes::Mapped).map_err(|source| WeightsError::io(path, source))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapping) => mapping,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
