//! Files and folders that appear when they are whole, and not before: written beside their place, flushed to the disk,
//! then renamed. A process that ends in between leaves what was there before.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// What names of unfinished files and folders end with.
const UNFINISHED: &str = ".part";
/// What the name of a folder ends with that another one is about to replace.
const BEFORE: &str = ".before";

/// A file that takes its place when it is whole. Dropped before, it leaves nothing behind.
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl AtomicFile {
    /// Opens a file beside `path`, so that a place that cannot be written to is found out before the work.
    ///
    /// # Errors
    /// If the folder is not there or cannot be written to.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.prefix(".vitral-").suffix(UNFINISHED);
        // The rights that new files have.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(path)).map_err(without_path)?;
        Ok(AtomicFile { file: BufWriter::new(file), path: path.to_owned() })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another file beside the same place, for what has to wait. It has no name and goes by itself.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn spool(&self) -> io::Result<BufWriter<File>> {
        tempfile::tempfile_in(folder_of(&self.path)).map(BufWriter::new).map_err(without_path)
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// If it cannot be written to the end or renamed; what was in its place stays.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map(drop).map_err(|fault| fault.error)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a whole file and puts it in its place.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Puts a file or folder that is whole in its place, on the same disk.
///
/// # Errors
/// If it cannot be flushed or renamed; what was in its place stays.
pub fn settle(from: &Path, to: &Path) -> io::Result<()> {
    flush(from)?;
    fs::rename(from, to)
}

/// A folder that takes its place when it is whole. Dropped before, it goes.
pub struct AtomicFolder {
    aside: PathBuf,
    place: PathBuf,
}

impl AtomicFolder {
    /// Makes an empty folder beside `path`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let aside = sibling(path, UNFINISHED);
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir_all(&aside)?;
        Ok(AtomicFolder { aside, place: path.to_owned() })
    }

    /// Where it is filled.
    pub fn path(&self) -> &Path {
        &self.aside
    }

    /// Puts the folder in its place, where nothing or an empty folder is.
    ///
    /// # Errors
    /// If something is there, or it cannot be flushed or renamed.
    pub fn finish(self) -> io::Result<()> {
        settle(&self.aside, &self.place)
    }

    /// Puts one of the files inside in the folder's place, and removes the rest.
    ///
    /// # Errors
    /// As [`settle`].
    pub fn finish_as(self, file: &str) -> io::Result<()> {
        settle(&self.aside.join(file), &self.place)
    }

    /// Puts a folder inside in place of what is there, and removes the rest.
    ///
    /// # Errors
    /// If it cannot be flushed or renamed.
    pub fn replace_with(self, inside: &str) -> io::Result<()> {
        let new = self.aside.join(inside);
        flush(&new)?;
        if !self.place.exists() {
            return fs::rename(&new, &self.place);
        }
        let before = sibling(&self.place, BEFORE);
        fs::rename(&self.place, &before)?;
        if let Err(fault) = fs::rename(&new, &self.place) {
            fs::rename(&before, &self.place)?;
            return Err(fault);
        }
        fs::remove_dir_all(&before)
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // Renamed away, there is nothing left to remove.
        let _ = fs::remove_dir_all(&self.aside);
    }
}

/// Removes what processes that ended early left beside a folder that nobody writes now. Where one ended between moving the
/// folder before away and putting the new one in its place, the one before comes back.
///
/// # Errors
/// If something cannot be removed.
pub fn recover(path: &Path) -> io::Result<()> {
    let start = start_of(path);
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Ok(());
    }
    let (mut unfinished, mut before) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(&*start.to_string_lossy()) else { continue };
        let marked = |ending: &str| {
            rest.strip_suffix(ending).is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if marked(UNFINISHED) {
            unfinished.push(entry.path());
        } else if marked(BEFORE) {
            before.push(entry.path());
        }
    }
    if let Some(last) = before.pop_if(|_| !path.exists()) {
        fs::rename(last, path)?;
    }
    unfinished.iter().chain(&before).try_for_each(fs::remove_dir_all)
}

/// The folder that something lies in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How names of unfinished folders beside a path begin.
fn start_of(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or("folder".as_ref()));
    name.push(".");
    name
}

/// A name beside a path that is this process's own.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = start_of(path);
    name.push(format!("{}{ending}", std::process::id()));
    folder_of(path).join(name)
}

/// Flushes a file, or all files of a folder, to the disk.
fn flush(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| flush(&entry?.path()));
    }
    File::options().append(true).open(path)?.sync_all()
}

/// The name of a temporary file means nothing to anybody.
fn without_path(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        write(&path, b"before").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        let mut dropped = AtomicFile::create(&path).unwrap();
        dropped.write_all(b"never").unwrap();
        drop(dropped);
        assert_eq!((fs::read(&path).unwrap(), names(place.path())), (b"after".to_vec(), vec!["a".to_owned()]));
        let fault = AtomicFile::create(&place.path().join("not/there")).err().unwrap();
        assert!(fault.kind() == io::ErrorKind::NotFound && !fault.to_string().contains(".vitral"), "{fault}");
    }

    #[test]
    fn a_folder_appears_when_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("best");
        let filled = |text: &str| {
            let folder = AtomicFolder::beside(&path).unwrap();
            fs::create_dir(folder.path().join("new")).unwrap();
            for file in ["a", "new/a"] {
                fs::write(folder.path().join(file), text).unwrap();
            }
            folder
        };
        let read = || fs::read_to_string(path.join("a")).unwrap();
        filled("one").finish().unwrap();
        assert!(filled("two").finish().is_err(), "something is there");
        assert_eq!(read(), "one");
        filled("three").replace_with("new").unwrap();
        drop(filled("never"));
        assert_eq!((read(), names(place.path())), ("three".to_owned(), vec!["best".to_owned()]));
        let file = place.path().join("file");
        let folder = AtomicFolder::beside(&file).unwrap();
        fs::write(folder.path().join("one"), "1").unwrap();
        folder.finish_as("one").unwrap();
        assert_eq!((fs::read(&file).unwrap(), names(place.path()).len()), (b"1".to_vec(), 2));
    }

    #[test]
    fn what_a_stopped_process_left_is_put_right() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("best");
        let leave = |name: &str| {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("a"), name).unwrap();
        };
        for name in [".best.1.part", ".best.2.before", ".best.mine", ".other.1.part"] {
            leave(name);
        }
        recover(&path).unwrap();
        assert_eq!(names(place.path()), [".best.mine", ".other.1.part", "best"]);
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), ".best.2.before");
        leave(".best.3.before");
        recover(&path).unwrap();
        assert_eq!(names(place.path()), [".best.mine", ".other.1.part", "best"]);
        recover(&place.path().join("not there/best")).unwrap();
    }
}
