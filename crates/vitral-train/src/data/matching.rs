//! Matches the classes of some data to those of a model: by name wherever names fit.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// How classes were matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// By their names.
    Names,
    /// The data's class names are the numbers of the model's classes.
    Numbers,
    /// In order, as no name fits and the counts are equal.
    Order,
}

/// The model's class for every class of the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    to: Vec<Option<usize>>,
    how: Match,
}

impl Matching {
    /// Matches the names `own` to a model's classes, of which there are `count`, with these names. Names are equal if
    /// they differ only in case, spaces, `_` and `-`, or if one is among several names of a class
    /// (`tench, Tinca tinca`). If a single name fits, all are matched by name, and those that fit none stay unmatched.
    /// If no name fits, numbers below `count` are the numbers of classes; otherwise classes are matched in order, if
    /// there are as many. `None` if nothing fits.
    pub fn of(own: &[String], count: usize, names: Option<&[String]>) -> Option<Self> {
        let known = names.map(Known::new);
        let to: Vec<Option<usize>> = own.iter().map(|name| known.as_ref()?.find(name)).collect();
        if to.iter().any(Option::is_some) {
            return Some(Matching { to, how: Match::Names });
        }
        let number = |name: &String| name.parse::<usize>().ok().filter(|&number| number < count);
        let to: Vec<Option<usize>> = own.iter().map(number).collect();
        if !to.is_empty() && to.iter().all(Option::is_some) {
            return Some(Matching { to, how: Match::Numbers });
        }
        (own.len() == count).then(|| Matching { to: (0..count).map(Some).collect(), how: Match::Order })
    }

    /// Matches names to equal ones only.
    pub fn exact(own: &[String], names: &[String]) -> Self {
        let places: HashMap<&String, usize> = names.iter().enumerate().map(|(class, name)| (name, class)).collect();
        Matching { to: own.iter().map(|name| places.get(name).copied()).collect(), how: Match::Names }
    }

    /// The model's class for each of the data's, in order; `None` where the model has none.
    pub fn to(&self) -> &[Option<usize>] {
        &self.to
    }

    /// How they were matched.
    pub fn how(&self) -> Match {
        self.how
    }

    /// Those of the names that were matched which fit no class of the model.
    pub fn unknown<'a>(&self, own: &'a [String]) -> Vec<&'a String> {
        own.iter().zip(&self.to).filter(|(_, to)| to.is_none()).map(|(name, _)| name).collect()
    }
}

/// A model's names, ready to be searched.
struct Known<'a> {
    /// `None` where two classes have one name.
    exact: HashMap<&'a str, Option<usize>>,
    /// By reduced names and parts of names; `None` where two classes share one, so that neither is certain.
    reduced: HashMap<String, Option<usize>>,
}

impl<'a> Known<'a> {
    fn new(names: &'a [String]) -> Self {
        let mut exact: HashMap<&str, Option<usize>> = HashMap::new();
        for (class, name) in names.iter().enumerate() {
            exact.entry(name).and_modify(|known| *known = None).or_insert(Some(class));
        }
        let mut reduced: HashMap<String, Option<usize>> = HashMap::new();
        for (class, name) in names.iter().enumerate() {
            for part in std::iter::once(name.as_str()).chain(name.split(',')) {
                let known = reduced.entry(plain(part)).or_insert(Some(class));
                if *known != Some(class) {
                    *known = None;
                }
            }
        }
        Known { exact, reduced }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.exact.get(name).or_else(|| self.reduced.get(&plain(name))).copied().flatten()
    }
}

/// A name reduced to what spelling variants have in common.
fn plain(name: &str) -> String {
    name.trim().nfc().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn matched(own: &[&str], count: usize, model: Option<&[&str]>) -> Option<(Vec<Option<usize>>, Match)> {
        let model = model.map(names);
        Matching::of(&names(own), count, model.as_deref()).map(|found| (found.to, found.how))
    }

    #[test]
    fn classes_match_by_name_then_by_number_then_in_order() {
        let imagenet: &[&str] = &["tench, Tinca tinca", "great white shark, white shark", "hen"];
        let found = |to: &[Option<usize>], how| Some((to.to_vec(), how));
        assert_eq!(matched(&["hen", "white_shark"], 3, Some(imagenet)), found(&[Some(2), Some(1)], Match::Names));
        assert_eq!(matched(&["hen", "cock"], 3, Some(imagenet)), found(&[Some(2), None], Match::Names));
        assert_eq!(
            matched(&["n01", "n02", "n03"], 3, Some(imagenet)),
            found(&[Some(0), Some(1), Some(2)], Match::Order)
        );
        assert_eq!(matched(&["0", "2"], 3, Some(imagenet)), found(&[Some(0), Some(2)], Match::Numbers));
        assert_eq!(matched(&["1", "2", "3"], 3, None), found(&[Some(0), Some(1), Some(2)], Match::Order));
        assert_eq!(matched(&["a", "b"], 2, None), found(&[Some(0), Some(1)], Match::Order));
        assert_eq!(matched(&["a", "b"], 3, Some(imagenet)), None);
        assert_eq!(
            matched(&["b", "c", "d"], 3, Some(&["a", "b", "c"])),
            found(&[Some(1), Some(2), None], Match::Names)
        );
    }

    #[test]
    fn a_name_of_two_classes_is_none() {
        let cranes: &[&str] = &["crane, bird", "crane, machine", "hen"];
        let found = matched(&["crane", "machine"], 3, Some(cranes)).expect("one fits");
        assert_eq!(found.0, [None, Some(1)]);
        assert_eq!(
            matched(&["crane", "hen"], 3, Some(&["crane", "crane", "hen"])).expect("one fits").0,
            [None, Some(2)]
        );
        assert_eq!(matched(&["cafe\u{301}"], 2, Some(&["caf\u{e9}", "tea"])).expect("one fits").0, [Some(0)]);
    }
}
