//! Files that are written beside their place first, and stand in it when they are whole.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use vitral::atomic::AtomicFile;

/// A file that takes its place when it is whole. Dropped before, it leaves nothing behind.
pub(crate) struct OutputFile(AtomicFile);

impl OutputFile {
    /// Opens a file beside `path`, so that a place that cannot be written to is found out before the work.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("`{}` could not be written", path.display());
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{}: expected a file, found a folder or a device; name another place", place());
        }
        Ok(OutputFile(AtomicFile::create(path).with_context(place)?))
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Another file beside the same place, for what has to wait. It has no name and goes by itself.
    pub(super) fn spool(&self) -> anyhow::Result<BufWriter<File>> {
        self.0.spool().with_context(|| self.fault())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).with_context(|| self.fault())
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let fault = self.fault();
        self.0.finish().context(fault)
    }

    pub(super) fn fault(&self) -> String {
        format!("`{}` could not be written", self.path().display())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for OutputFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

/// Writes a whole file and puts it in its place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.put(bytes)?;
    file.finish()
}
