//! Weight files as memory: mapped if they are files, owned if they come from elsewhere.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use crate::weights::WeightsError;

/// The bytes of a file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// Mapped into memory: pages are read on first access and shared between processes.
    Mapped(memmap2::Mmap),
    /// Already in memory.
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
        let mapping = mapping.map_err(|source| WeightsError::io(path, source))?;
        // The whole file is needed: the system may start reading ahead. If it does not, pages are read on first access.
        #[cfg(unix)]
        let _ = mapping.advise(memmap2::Advice::WillNeed);
        Ok(Bytes::Mapped(mapping))
    }
}

impl Bytes {
    /// Lets the system reclaim the memory of a part that has been read: it is read again on the next access.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(mapping) = self {
            /// A multiple of every page size in use.
            const PAGE: usize = 1 << 16;
            let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
            if start < end {
                // SAFETY: the mapping is of a file, read-only and never written, so that a page that is dropped comes
                // back with the same bytes; borrowed slices stay valid.
                #[expect(unsafe_code)]
                let released =
                    unsafe { mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
                // If the system refuses, the memory just stays in use.
                let _ = released;
            }
        }
        #[cfg(not(unix))]
        let _ = range;
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
