//! Finds image files in folders, the same way for every command.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Endings of image files' names, in lower case. The format itself is recognized by content, when a file is read.
pub const IMAGE_ENDINGS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];

/// Endings of arrays that can be images of bands, in a folder that has no other images.
pub const ARRAY_ENDINGS: [&str; 3] = ["npy", "npz", "safetensors"];

/// Folders that systems and tools leave behind, and that no user means, besides those whose name begins with a dot.
const OF_SYSTEMS: [&str; 5] = ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"];

/// Whether a file or folder is hidden, or was left behind by a system.
pub fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') || OF_SYSTEMS.contains(&&*name)
}

/// Whether a file is an image according to its name.
pub fn is_image(path: &Path) -> bool {
    !is_hidden(path) && ending(path).is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str()))
}

/// Whether a file is an array according to its name.
pub fn is_array(path: &Path) -> bool {
    ending(path).is_some_and(|ending| ARRAY_ENDINGS.contains(&ending.as_str()))
}

fn ending(path: &Path) -> Option<String> {
    path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase())
}

/// What a folder and its sub-folders hold.
#[derive(Debug, Default)]
pub struct Found {
    images: Vec<PathBuf>,
    faults: Vec<(PathBuf, String)>,
    others: BTreeMap<String, usize>,
}

impl Found {
    /// The images, sorted by path.
    pub fn images(&self) -> &[PathBuf] {
        &self.images
    }

    /// The images, sorted by path.
    pub fn into_images(self) -> Vec<PathBuf> {
        self.images
    }

    /// What could not be looked at, and why: links to nothing, links in a circle, folders without permission.
    pub fn faults(&self) -> &[(PathBuf, String)] {
        &self.faults
    }

    /// Number of files by ending that are not images according to their names.
    pub fn others(&self) -> &BTreeMap<String, usize> {
        &self.others
    }
}

/// Files that were skipped, as part of a sentence: `3 files that are not images (2 .heic, 1 .txt)`. `None` if there
/// are none.
pub fn passed_over(others: &BTreeMap<String, usize>) -> Option<String> {
    /// Endings to list.
    const LISTED: usize = 5;
    let count: usize = others.values().sum();
    if count == 0 {
        return None;
    }
    let mut endings: Vec<_> = others.iter().collect();
    endings.sort_by_key(|&(ending, &count)| (std::cmp::Reverse(count), ending));
    let named = |(ending, count): &(&String, &usize)| match ending.is_empty() {
        true => format!("{count} without an extension"),
        false => format!("{count} .{ending}"),
    };
    let mut listed: Vec<String> = endings.iter().take(LISTED).map(named).collect();
    if endings.len() > LISTED {
        listed.push("others".to_owned());
    }
    let noun = if count == 1 { "file that is not an image" } else { "files that are not images" };
    Some(format!("{count} {noun} ({})", listed.join(", ")))
}

/// Finds the images in a folder and its sub-folders; if there are none, its arrays are its images. Hidden files and folders are left out, links are followed, and what
/// cannot be looked at is reported without ending the search.
///
/// # Errors
/// If the folder itself cannot be listed.
pub fn images_in(folder: &Path) -> io::Result<Found> {
    std::fs::read_dir(folder)?;
    let mut found = Found::default();
    let mut arrays = Vec::new();
    let root = folder.canonicalize()?;
    let back = RefCell::new(Vec::new());
    let shown = |entry: &walkdir::DirEntry| {
        if entry.depth() == 0 {
            return true;
        }
        // A link to a folder that holds the one searched would bring in its neighbors.
        let target = if entry.path_is_symlink() { entry.path().canonicalize().ok() } else { None };
        if let Some(target) = target.filter(|target| root.starts_with(target)) {
            let why = format!("a link back to `{}`, which holds it", target.display());
            back.borrow_mut().push((entry.path().to_owned(), why));
            return false;
        }
        !is_hidden(entry.path())
    };
    for entry in walkdir::WalkDir::new(folder).follow_links(true).into_iter().filter_entry(shown) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if is_image(entry.path()) && entry.file_type().is_file() => found.images.push(entry.into_path()),
            Ok(entry) if is_array(entry.path()) && entry.file_type().is_file() => arrays.push(entry.into_path()),
            Ok(entry) => *found.others.entry(ending(entry.path()).unwrap_or_default()).or_default() += 1,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                // A broken link named like another kind of file would not have been used either.
                if ending(&path).is_none() || is_image(&path) {
                    found.faults.push((path.clone(), reason(&path, &error)));
                }
            }
        }
    }
    if found.images.is_empty() {
        found.images = arrays;
    } else {
        for array in &arrays {
            *found.others.entry(ending(array).unwrap_or_default()).or_default() += 1;
        }
    }
    found.images.sort();
    found.faults.extend(back.into_inner());
    found.faults.sort();
    Ok(found)
}

fn reason(path: &Path, error: &walkdir::Error) -> String {
    if let Some(ancestor) = error.loop_ancestor() {
        return format!("a link back to `{}`, which holds it", ancestor.display());
    }
    let kind = error.io_error().map(io::Error::kind);
    match (std::fs::read_link(path), kind) {
        (Ok(target), Some(io::ErrorKind::NotFound)) => {
            format!("a link to `{}`, which does not exist", target.display())
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => "no permission to read it".to_owned(),
        // The system's error for links in a circle has no kind of its own yet.
        (Ok(target), _) if !path.exists() => format!("a link to `{}`, which leads nowhere", target.display()),
        _ => error.io_error().map_or_else(|| error.to_string(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b/2.PNG", "b/1.jfif", "a.ppm", "notes.txt", "x.heic", "y.heic", ".hidden.png", "__MACOSX/1.png"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        let found = images_in(folder.path()).expect("a listing");
        let names: Vec<_> =
            found.images().iter().map(|path| path.strip_prefix(folder.path()).expect("inside").to_owned()).collect();
        assert_eq!(names, ["a.ppm", "b/1.jfif", "b/2.PNG"].map(PathBuf::from));
        let said = passed_over(found.others());
        assert_eq!(said.as_deref(), Some("3 files that are not images (2 .heic, 1 .txt)"));
        assert!(images_in(&folder.path().join("nothing")).is_err());
    }

    #[test]
    fn arrays_are_images_where_there_are_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let listed = |names: &[&str]| {
            names.iter().for_each(|name| std::fs::write(folder.path().join(name), "").expect("a file"));
            let found = images_in(folder.path()).expect("a listing");
            (found.images().len(), passed_over(found.others()))
        };
        assert_eq!(listed(&["a.npy", "b.npz"]), (2, None));
        assert_eq!(listed(&["c.png"]), (1, Some("2 files that are not images (1 .npy, 1 .npz)".to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_and_in_circles_are_reported() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("sub")).expect("a folder");
        std::fs::write(at("sub/1.png"), "").expect("a file");
        symlink("nowhere.jpg", at("0.jpg")).expect("a link");
        symlink("nowhere.txt", at("0.txt")).expect("a link");
        symlink("..", at("sub/back")).expect("a link");
        symlink("itself.png", at("itself.png")).expect("a link");
        symlink("sub/1.png", at("9.png")).expect("a link");
        let found = images_in(folder.path()).expect("a listing");
        assert_eq!(found.images(), [at("9.png"), at("sub/1.png")]);
        let said: Vec<String> = found.faults().iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].ends_with("0.jpg: a link to `nowhere.jpg`, which does not exist"), "{said:?}");
        assert!(said[1].ends_with("which leads nowhere"), "{said:?}");
        assert!(said[2].contains("a link back to"), "{said:?}");
    }
}
