//! Encoded images stored in a larger buffer or file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Mutex;

/// Bytes that can be read at an offset: in memory, or in a file shared by threads.
#[derive(Debug)]
pub(super) enum Stored {
    Memory(Vec<u8>),
    File(Mutex<File>),
}

impl Stored {
    /// Reads `length` bytes from `start` on.
    pub(super) fn read(&self, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Stored::Memory(bytes) => Ok(bytes[start as usize..][..length].to_vec()),
            Stored::File(file) => {
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mut bytes = vec![0; length];
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// Collects bytes in memory or, if there are too many, in a nameless temporary file that disappears with the process.
pub(super) struct Storing {
    stored: Stored,
    length: u64,
}

impl Storing {
    /// Storage for about `expected` bytes, of which at most `in_memory` are kept in memory.
    pub(super) fn new(expected: u64, in_memory: u64) -> std::io::Result<Self> {
        let stored = if expected <= in_memory {
            Stored::Memory(Vec::new())
        } else {
            Stored::File(Mutex::new(tempfile::tempfile()?))
        };
        Ok(Storing { stored, length: 0 })
    }

    /// Appends bytes and returns their offset.
    pub(super) fn push(&mut self, bytes: &[u8]) -> std::io::Result<u64> {
        match &mut self.stored {
            Stored::Memory(memory) => memory.extend_from_slice(bytes),
            Stored::File(file) => {
                file.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).write_all(bytes)?;
            }
        }
        self.length += bytes.len() as u64;
        Ok(self.length - bytes.len() as u64)
    }

    /// The stored bytes.
    pub(super) fn done(self) -> Stored {
        self.stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_give_the_same() {
        for in_memory in [0, 100] {
            let mut storing = Storing::new(10, in_memory).expect("room");
            let places: Vec<u64> =
                [&b"abc"[..], b"", b"defgh"].iter().map(|b| storing.push(b).expect("written")).collect();
            assert_eq!(places, [0, 3, 3]);
            let stored = storing.done();
            assert_eq!(stored.read(3, 5).expect("read"), b"defgh");
            assert_eq!(stored.read(0, 3).expect("read"), b"abc");
        }
    }
}
