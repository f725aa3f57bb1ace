//! Files that are written beside their place first, and stand in it when they are whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

/// A file that takes its place when it is whole. Dropped before, it leaves nothing behind.
pub(crate) struct Aside {
    pub(super) file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Aside {
    /// Opens a file beside `path`, so that a place that cannot be written to is found out before the work.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let place = || format!("`{}` could not be written", path.display());
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            bail!("{}: expected a file, found a folder or a device; name another place", place());
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = builder().tempfile_in(folder).map_err(without_path).with_context(place)?;
        Ok(Aside { file: BufWriter::new(file), path: path.to_owned() })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Another file beside the same place, for what has to wait. It has no name and goes by itself.
    pub(super) fn spool(&self) -> anyhow::Result<BufWriter<File>> {
        let folder = self.file.get_ref().path().parent().unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(folder).map_err(without_path).with_context(|| self.fault())?;
        Ok(BufWriter::new(file))
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| self.fault())
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let fault = self.fault();
        let file = self.file.into_inner().map_err(|error| error.into_error()).with_context(|| fault.clone())?;
        file.persist(&self.path).map_err(|error| error.error).context(fault)?;
        Ok(())
    }

    pub(super) fn fault(&self) -> String {
        format!("`{}` could not be written", self.path.display())
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes a whole file and puts it in its place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = Aside::create(path)?;
    file.put(bytes)?;
    file.finish()
}

/// Temporary files with the rights that new files have.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".vitral-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

/// The name of a temporary file means nothing to anybody.
fn without_path(error: std::io::Error) -> std::io::Error {
    match error.get_ref().and_then(|inner| std::error::Error::source(inner)).map(ToString::to_string) {
        Some(cause) => std::io::Error::new(error.kind(), cause),
        None => error,
    }
}
