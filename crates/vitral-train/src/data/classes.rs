//! Names of classes: their order, and labels looked up among them.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use super::fault;
use super::text::read_text;
use crate::error::TrainError;

/// Names in order. If all of them are whole numbers they are sorted as numbers, so that class 10 comes after class 9,
/// as timm does; otherwise by their characters.
pub(super) fn ordered(names: BTreeSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().collect();
    if names.iter().all(|name| number(name).is_some()) {
        names.sort_by_key(|name| number(name));
    }
    names
}

/// The classes that labels in a file stand for. Whole numbers from 0 on, of which at least half are in use, count the
/// classes, so that one without images keeps its place; other numbers are names, like words.
pub(super) fn of_labels(labels: BTreeSet<String>) -> Vec<String> {
    let numbers: Option<Vec<u64>> = labels.iter().map(|label| number(label)).collect();
    match numbers.and_then(|numbers| Some((numbers.iter().copied().max()?, numbers))) {
        Some((most, numbers)) if numbers.contains(&0) && most < 2 * numbers.len() as u64 => {
            (0..=most).map(|number| number.to_string()).collect()
        }
        _ => ordered(labels),
    }
}

fn number(name: &str) -> Option<u64> {
    name.parse().ok().filter(|_| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Class names, and where each is.
pub(super) struct Classes<'a> {
    names: &'a [String],
    places: HashMap<&'a str, usize>,
    /// Whether a number that is not a name is a place: only if names are words, or count from 0.
    by_number: bool,
}

impl<'a> Classes<'a> {
    pub(super) fn new(names: &'a [String]) -> Self {
        let places = names.iter().enumerate().rev().map(|(place, name)| (name.as_str(), place)).collect();
        let counted = names.iter().enumerate().all(|(place, name)| number(name) == Some(place as u64));
        let by_number = counted || names.iter().all(|name| number(name).is_none());
        Classes { names, places, by_number }
    }

    /// The class with a name.
    ///
    /// # Errors
    /// If there is none; the error names some that there are.
    pub(super) fn named(&self, name: &str, path: &Path) -> Result<usize, TrainError> {
        self.places.get(name).copied().ok_or_else(|| {
            let found = format!(
                "expected one of the classes {}, found `{name}`{}",
                listed(self.names),
                in_case(name, self.names)
            );
            fault(path, found, "correct the label or its folder")
        })
    }

    /// The class of a label: its name, or its number.
    ///
    /// # Errors
    /// If there is none; the error begins with `place`.
    pub(super) fn labeled(&self, label: &str, place: &str, path: &Path) -> Result<usize, TrainError> {
        if let Some(&class) = self.places.get(label) {
            return Ok(class);
        }
        let hint = "correct the label, or the list of classes";
        match number(label).filter(|_| self.by_number) {
            Some(number) => usize::try_from(number).ok().filter(|&number| number < self.names.len()).ok_or_else(|| {
                let found = format!("{place}: expected a label below {}, found {number}", self.names.len());
                fault(path, found, hint)
            }),
            None => {
                let (names, meant) = (listed(self.names), in_case(label, self.names));
                let found = format!("{place}: expected one of the classes {names}, found `{label}`{meant}");
                Err(fault(path, found, hint))
            }
        }
    }
}

/// A name in one spelling: macOS writes letters with accents in two characters, other systems in one.
pub(crate) fn spelled(name: &str) -> String {
    name.nfc().collect()
}

/// The name that one differs from in case alone, as part of a sentence; nothing if there is none.
pub(crate) fn in_case(name: &str, names: &[String]) -> String {
    let same = names.iter().find(|known| known.to_lowercase() == name.to_lowercase());
    same.map_or_else(String::new, |known| format!(" (did you mean `{known}`? case matters)"))
}

/// Some names, as part of a sentence.
pub(crate) fn listed(names: &[String]) -> String {
    /// How many are listed.
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown} and {} more", names.len() - MOST) } else { shown }
}

/// Class names in a text file, one per line.
pub(super) fn class_names(path: &Path) -> Result<Vec<String>, TrainError> {
    let text = read_text(path, "reading class names")?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(spelled).collect();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        let found = format!("expected every class once, found `{twice}` twice");
        return Err(fault(path, found, "name each class once, one per line"));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn numbers_are_sorted_as_numbers() {
        assert_eq!(ordered(set(&["10", "9", "1"])), ["1", "9", "10"]);
        assert_eq!(ordered(set(&["010", "009"])), ["009", "010"]);
        assert_eq!(ordered(set(&["class10", "class9"])), ["class10", "class9"]);
    }

    #[test]
    fn dense_numbers_count_and_sparse_ones_are_names() {
        assert_eq!(of_labels(set(&["0", "1", "3"])), ["0", "1", "2", "3"]);
        assert_eq!(of_labels(set(&["17", "4023", "60112"])), ["17", "4023", "60112"]);
        assert_eq!(of_labels(set(&["1", "2", "3"])), ["1", "2", "3"]);
        assert_eq!(of_labels(set(&["0", "5"])), ["0", "5"]);
        assert_eq!(of_labels(set(&["cat", "2"])), ["2", "cat"]);
        assert_eq!(of_labels(set(&["18446744073709551615", "0"])), ["0", "18446744073709551615"]);
        assert_eq!(of_labels(set(&["-1", "0"])), ["-1", "0"]);
    }

    #[test]
    fn a_number_is_a_place_only_where_names_leave_no_doubt() {
        let find = |names: &[&str], label: &str| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Classes::new(&names).labeled(label, "line 1", Path::new("a")).map_err(|error| error.to_string())
        };
        assert_eq!(find(&["cat", "dog"], "1"), Ok(1));
        assert_eq!(find(&["0", "1", "2"], "0002"), Ok(2));
        assert_eq!(find(&["17", "4023"], "4023"), Ok(1));
        assert!(find(&["17", "4023"], "1").is_err_and(|error| error.contains("line 1") && error.contains("`17`")));
        assert!(find(&["cat", "dog"], "2").is_err_and(|error| error.contains("below 2")));
        assert!(find(&["cat"], "Cat").is_err_and(|error| error.contains("`Cat` (did you mean `cat`? case matters);")));
        assert!(find(&["cat"], "cats").is_err_and(|error| !error.contains("did you mean")));
    }
}
