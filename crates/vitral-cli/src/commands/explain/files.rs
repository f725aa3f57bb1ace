//! Output files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, bail};
use vitral::explain::paint;
use vitral::image::RgbImage;

use super::args::Numbers;
use crate::fault::Usage;
use crate::output::{Named, OutputFile, write_file, write_npy, write_tensors};

/// The files that images come from, which results must not replace.
#[derive(Clone, Default)]
pub(super) struct Inputs(Rc<HashSet<PathBuf>>);

impl Inputs {
    /// With the files in their true places, whatever links lead to them.
    pub(super) fn new<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        Inputs(Rc::new(files.filter_map(|file| file.canonicalize().ok()).collect()))
    }

    /// Refuses to write to a file that an image comes from.
    pub(super) fn refuse(&self, output: &Path) -> anyhow::Result<()> {
        let place = output.canonicalize();
        if place.is_ok_and(|place| self.0.contains(&place)) {
            let output = output.display();
            bail!(Usage(format!("`{output}` is both an input and a result; choose another folder with `--output`")));
        }
        Ok(())
    }
}

/// A folder of results, and the files written to it.
pub(super) struct Folder {
    path: PathBuf,
    inputs: Inputs,
    written: Vec<String>,
}

impl Folder {
    pub(super) fn create(path: &Path, inputs: &Inputs) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot create the folder `{}`", path.display()))?;
        Ok(Folder { path: path.to_owned(), inputs: inputs.clone(), written: vec![] })
    }

    /// Paths of all files written.
    pub(super) fn written(&self) -> &[String] {
        &self.written
    }

    /// Where a file of this name goes; refused if an image comes from there.
    fn place(&mut self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        self.inputs.refuse(&path)?;
        self.written.push(path.display().to_string());
        Ok(path)
    }

    pub(super) fn image(&mut self, name: &str, image: &RgbImage) -> anyhow::Result<()> {
        let bytes = paint::png(image)?;
        write_file(&self.place(&format!("{name}.png"))?, &bytes)
    }

    pub(super) fn plot(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        write_file(&self.place(&format!("{name}.svg"))?, text.as_bytes())
    }

    /// Writes numbers to one file, or to one file each.
    pub(super) fn numbers(&mut self, name: &str, tensors: &[Named], kind: Numbers) -> anyhow::Result<()> {
        if tensors.is_empty() {
            return Ok(());
        }
        match kind {
            Numbers::Safetensors => {
                let file = OutputFile::create(&self.place(&format!("{name}.safetensors"))?)?;
                write_tensors(file, tensors)
            }
            Numbers::Npy => {
                for (tensor, shape, values) in tensors {
                    let file = OutputFile::create(&self.place(&format!("{tensor}.npy"))?)?;
                    write_npy(file, shape, values)?;
                }
                Ok(())
            }
            Numbers::Json => {
                let all: serde_json::Map<_, _> = tensors
                    .iter()
                    .map(|(tensor, shape, values)| {
                        (tensor.clone(), serde_json::json!({ "shape": shape, "values": values }))
                    })
                    .collect();
                write_file(&self.place(&format!("{name}.json"))?, serde_json::to_string(&all)?.as_bytes())
            }
        }
    }
}

/// Chooses a folder name for each image: the file name without its extension, numbered if it is taken.
#[derive(Default)]
pub(super) struct Stems {
    taken: HashSet<String>,
    /// The last number that a name was given.
    numbers: HashMap<String, usize>,
}

impl Stems {
    pub(super) fn of(&mut self, name: &str) -> String {
        let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let stem = match stem.as_deref() {
            None | Some("-") => "image".to_owned(),
            // As of `...jpg`: it would be a folder above.
            Some(stem) if stem.chars().all(|c| c == '.') => "image".to_owned(),
            Some(stem) => stem.to_owned(),
        };
        if self.taken.insert(stem.clone()) {
            return stem;
        }
        let number = self.numbers.entry(stem.clone()).or_insert(1);
        loop {
            *number += 1;
            let numbered = format!("{stem}-{number}");
            // Another image may have that very name.
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_the_same_name_get_separate_folders() {
        let mut stems = Stems::default();
        assert_eq!(["a/cat.jpg", "b/cat.png", "-"].map(|name| stems.of(name)), ["cat", "cat-2", "image"]);
        assert_eq!(["c/cat-2.jpg", "d/cat.jpg", "...jpg"].map(|name| stems.of(name)), ["cat-2-2", "cat-3", "image-2"]);
    }
}
