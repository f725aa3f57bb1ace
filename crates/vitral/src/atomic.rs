//! Atomic writes: files and folders are written beside their final path, flushed to disk, then renamed. A process that
//! is interrupted leaves the previous version intact.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, NamedTempFile};

/// Suffix of unfinished files and folders.
const UNFINISHED: &str = ".part";
/// Suffix of a folder that is about to be replaced.
const BEFORE: &str = ".before";

/// Temporary files and folders that this process has not finished.
static UNFINISHED_NOW: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A temporary path on the list of those to remove if the process is ended from outside.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        // Absolute, as the working directory may have changed by the time it is removed.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        UNFINISHED_NOW.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Listed(path)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        UNFINISHED_NOW.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes the temporary files and folders of this process that are not finished: for a process that is about to end
/// without running destructors, as when a signal arrives.
pub fn discard_unfinished() {
    let unfinished = std::mem::take(&mut *UNFINISHED_NOW.lock().unwrap_or_else(PoisonError::into_inner));
    for path in unfinished {
        // What cannot be removed stays; the process ends in any case.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// A file that is renamed to its path once complete. If dropped earlier, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    listed: Listed,
}

impl AtomicFile {
    /// Opens a file beside `path`, so that a path that cannot be written is detected before the work.
    ///
    /// # Errors
    /// If the folder does not exist or cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.prefix(".vitral-").suffix(UNFINISHED);
        // The usual permissions of new files.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder_of(path)).map_err(without_path)?;
        let listed = Listed::new(file.path());
        Ok(AtomicFile { file: BufWriter::new(file), path: path.to_owned(), listed })
    }

    /// The final path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A temporary file in the same folder, without a name, which is removed automatically.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn spool(&self) -> io::Result<BufWriter<File>> {
        tempfile::tempfile_in(folder_of(&self.path)).map(BufWriter::new).map_err(without_path)
    }

    /// Renames the file to its path.
    ///
    /// # Errors
    /// If it cannot be fully written or renamed; an existing file is kept.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map(drop).map_err(|fault| fault.error)?;
        drop(self.listed);
        Ok(())
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

/// Writes a file atomically.
///
/// # Errors
/// Those of [`AtomicFile::create`] and [`AtomicFile::finish`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Renames a complete file or folder to its path, on the same disk.
///
/// # Errors
/// If it cannot be flushed or renamed; what was there is kept.
pub fn settle(from: &Path, to: &Path) -> io::Result<()> {
    flush(from)?;
    fs::rename(from, to)
}

/// A folder that is renamed to its path once complete. If dropped earlier, it is removed.
#[derive(Debug)]
pub struct AtomicFolder {
    aside: PathBuf,
    place: PathBuf,
    /// Removed from the list when the folder is dropped.
    _listed: Listed,
}

impl AtomicFolder {
    /// Creates an empty folder beside `path`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let aside = sibling(path, UNFINISHED);
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir_all(&aside)?;
        let listed = Listed::new(&aside);
        Ok(AtomicFolder { aside, place: path.to_owned(), _listed: listed })
    }

    /// The temporary path, where it is filled.
    pub fn path(&self) -> &Path {
        &self.aside
    }

    /// Renames the folder to its path, which must not exist or be an empty folder.
    ///
    /// # Errors
    /// If the path is occupied, or the folder cannot be flushed or renamed.
    pub fn finish(self) -> io::Result<()> {
        settle(&self.aside, &self.place)
    }

    /// Renames one of the files inside to the folder's path, and removes the rest.
    ///
    /// # Errors
    /// Those of [`settle`].
    pub fn finish_as(self, file: &str) -> io::Result<()> {
        settle(&self.aside.join(file), &self.place)
    }

    /// Replaces the folder at the path with one inside, and removes the rest.
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
        // After a rename there is nothing left to remove.
        let _ = fs::remove_dir_all(&self.aside);
    }
}

/// Cleans up what interrupted processes left beside a folder that no process is writing now. If one was interrupted
/// while it replaced the folder, the previous folder is restored.
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
        let of_ours = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        let marked =
            |ending: &str| rest.strip_suffix(ending).is_some_and(|id| !id.is_empty() && id.bytes().all(of_ours));
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

/// The parent folder of a path.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The prefix of unfinished folders beside a path.
fn start_of(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or("folder".as_ref()));
    name.push(".");
    name
}

/// A name beside a path that nothing else in any running process has.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = start_of(path);
    name.push(format!("{}-{}{ending}", std::process::id(), COUNT.fetch_add(1, Relaxed)));
    folder_of(path).join(name)
}

/// Flushes a file, or all files of a folder, to disk.
fn flush(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path)?.try_for_each(|entry| flush(&entry?.path()));
    }
    File::options().append(true).open(path)?.sync_all()
}

/// Removes the name of a temporary file from an error message.
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
    fn a_file_appears_once_it_is_complete() {
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
    fn a_folder_appears_once_it_is_complete() {
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
        // Two at once do not touch each other's files; the first to finish wins.
        let other = place.path().join("other");
        let both = [(); 2].map(|()| AtomicFolder::beside(&other).unwrap());
        for (folder, text) in both.iter().zip(["one", "two"]) {
            fs::write(folder.path().join(text), text).unwrap();
        }
        let [one, two] = both;
        one.finish().unwrap();
        assert!(two.finish().is_err());
        assert_eq!(names(&other), ["one"]);
        fs::remove_dir_all(&other).unwrap();
        let file = place.path().join("file");
        let folder = AtomicFolder::beside(&file).unwrap();
        fs::write(folder.path().join("one"), "1").unwrap();
        folder.finish_as("one").unwrap();
        assert_eq!((fs::read(&file).unwrap(), names(place.path()).len()), (b"1".to_vec(), 2));
    }

    #[test]
    fn what_is_not_finished_is_on_the_list() {
        let place = tempfile::tempdir().unwrap();
        let listed = || {
            let all = UNFINISHED_NOW.lock().unwrap();
            all.iter().filter(|path| path.starts_with(place.path())).count()
        };
        let file = AtomicFile::create(&place.path().join("a")).unwrap();
        let folder = AtomicFolder::beside(&place.path().join("b")).unwrap();
        assert_eq!((listed(), names(place.path()).len()), (2, 2));
        file.finish().unwrap();
        folder.finish().unwrap();
        assert_eq!((listed(), names(place.path())), (0, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn the_remains_of_an_interrupted_process_are_cleaned_up() {
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
