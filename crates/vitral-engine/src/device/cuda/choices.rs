//! How products are computed: what was chosen, and the file that it is kept in.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::api::blas::{Algorithm, Blas, Plan, Shape};
use super::api::driver::Driver;
use super::cache::cache_folder;
use super::memory::Memory;

/// cuBLASLt, and what is known about products.
pub(super) struct Multiplier {
    pub(super) blas: Blas,
    pub(super) plans: HashMap<Key, Option<Plan>>,
    pub(super) workspace: Option<Memory>,
    /// Algorithms by the text of a product's key.
    pub(super) chosen: BTreeMap<String, Algorithm>,
    /// Where they are kept.
    pub(super) file: Option<PathBuf>,
    /// Whether ways are timed; otherwise the first is taken.
    pub(super) timed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) shape: Shape,
    /// Whether something is added to.
    pub(super) adds: bool,
}

impl Key {
    pub(super) fn text(&self) -> String {
        let Shape { m, n, k, transposed, inputs, output, tf32, ending, batch, alignment } = self.shape;
        let turned = transposed.map(|turned| if turned { 't' } else { 'n' });
        format!(
            "{inputs:?}-{output:?}{} {}{} {m}x{n}x{k} batch {batch} aligned {alignment} {ending:?}{}",
            if tf32 { " tf32" } else { "" },
            turned[0],
            turned[1],
            if self.adds { " adds" } else { "" }
        )
    }
}

impl Multiplier {
    pub(super) fn open(driver: &Driver, folder: Option<&Path>) -> Result<Self, String> {
        let blas = Blas::open(driver.version, folder)?;
        let card = driver.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let name = format!("products-{card}-{}.txt", blas.version);
        let file = cache_folder().map(|folder| folder.join(name));
        let chosen = file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let timed = std::env::var_os("VITRAL_CUDA_TUNE").is_none_or(|value| value != "0");
        let chosen = chosen.map(|text| read_choices(&text)).unwrap_or_default();
        Ok(Multiplier { blas, plans: HashMap::new(), workspace: None, chosen, file, timed })
    }
}

/// Choices as text: a line each, the product and the algorithm's words.
pub(super) fn write_choices(chosen: &BTreeMap<String, Algorithm>) -> String {
    chosen
        .iter()
        .map(|(key, Algorithm(words))| {
            let words: Vec<String> = words.iter().map(|word| format!("{word:x}")).collect();
            format!("{key} = {}\n", words.join(" "))
        })
        .collect()
}

/// Reads choices; lines that are not understood are left out, and their products timed anew.
pub(super) fn read_choices(text: &str) -> BTreeMap<String, Algorithm> {
    text.lines()
        .filter_map(|line| {
            let (key, words) = line.split_once(" = ")?;
            let words: Option<Vec<u64>> = words.split(' ').map(|word| u64::from_str_radix(word, 16).ok()).collect();
            Some((key.to_owned(), Algorithm(words?.try_into().ok()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_back() {
        let chosen = BTreeMap::from([
            ("Bf16-F32 nt 3x4x5 batch 1 aligned 256 Plain adds".to_owned(), Algorithm([1, 2, 3, 4, 5, 6, 7, u64::MAX])),
            ("F32-F32 nn 1x1x1 batch 2 Bias".to_owned(), Algorithm([0; 8])),
        ]);
        let text = write_choices(&chosen);
        assert_eq!(read_choices(&text), chosen);
        assert_eq!(read_choices(&format!("nonsense\nx = 1 2\n{text}")), chosen);
    }
}
