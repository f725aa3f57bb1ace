//! Files that are written to a temporary file first and moved into place when complete.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, bail};
use vitral::atomic::AtomicFile;

/// A file that is moved into place when complete. If dropped earlier, it leaves nothing behind.
pub(crate) struct OutputFile(AtomicFile);

impl OutputFile {
    /// Opens a temporary file next to `path`, so that an unwritable location is reported before the work starts.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("`{}` could not be written", path.display());
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{}: expected a file, found a folder or a device; choose another path", place());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.exists()) {
            bail!("{}: the folder `{}` does not exist; create it first", place(), folder.display());
        }
        Ok(OutputFile(AtomicFile::create(path).with_context(place)?))
    }

    /// Its final path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Another temporary file in the same folder, without a name, which is deleted automatically.
    pub(super) fn spool(&self) -> anyhow::Result<BufWriter<File>> {
        self.0.spool().with_context(|| self.fault())
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.0.write_all(bytes).with_context(|| self.fault())
    }

    /// Moves the file into place.
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

/// Writes a whole file and moves it into place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.put(bytes)?;
    file.finish()
}
