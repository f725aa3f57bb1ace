//! A data set mapped to a model's classes.

use std::sync::Arc;

use vitral::image::RgbImage;

use super::{Dataset, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A data set whose classes are those of a model, in the model's order.
#[derive(Debug)]
pub struct Relabeled {
    inner: Arc<dyn Dataset>,
    classes: Vec<String>,
    /// The model's class for every class of the data.
    to: Vec<usize>,
}

/// How the data's classes were matched to the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// By their names.
    Names,
    /// In order: the counts are equal, but the names do not match.
    Order,
}

impl Relabeled {
    /// Maps the data to the classes of a model that has `count` of them, with these names. Names are equal if they
    /// differ only in case, spaces, `_` and `-`, or if one is among several names of a class (`tench, Tinca tinca`).
    ///
    /// # Errors
    /// If the classes match neither by name nor in number.
    pub fn to(inner: Arc<dyn Dataset>, count: usize, names: Option<&[String]>) -> Result<(Self, Match), TrainError> {
        let own = inner.classes().to_vec();
        let find = |class: &String| {
            let names = names?;
            let exact = names.iter().position(|name| name == class);
            let class = plain(class);
            let one_of = |name: &&String| plain(name) == class || name.split(',').any(|part| plain(part) == class);
            exact.or_else(|| {
                let mut found = names.iter().enumerate().filter(|(_, name)| one_of(name));
                // If two match, neither is certain.
                found.next().filter(|_| found.next().is_none()).map(|(index, _)| index)
            })
        };
        let by_name: Option<Vec<usize>> = own.iter().map(find).collect();
        let distinct = |to: &Vec<usize>| to.iter().collect::<std::collections::BTreeSet<_>>().len() == to.len();
        let (to, how) = match by_name.filter(distinct) {
            Some(to) => (to, Match::Names),
            None if own.len() == count => ((0..count).collect(), Match::Order),
            None => {
                let stranger = own.iter().find(|class| find(class).is_none()).unwrap_or(&own[0]);
                let problem = format!(
                    "expected classes of the model, which has {count}, found {}, among them `{stranger}`",
                    own.len()
                );
                return Err(fault(
                    inner.name(0).as_ref(),
                    problem,
                    "name the folders after the model's labels, or fine-tune it on this data",
                ));
            }
        };
        let classes = match names {
            Some(names) if how == Match::Names => names.to_vec(),
            _ => own,
        };
        Ok((Relabeled { inner, classes, to }, how))
    }
}

/// A name reduced to what spelling variants have in common.
fn plain(name: &str) -> String {
    name.trim().chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

impl Dataset for Relabeled {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn label(&self, index: usize) -> usize {
        self.to[self.inner.label(index)]
    }

    fn labeling(&self) -> Labeling {
        self.inner.labeling()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.inner.labels(index).into_iter().map(|label| self.to[label]).collect()
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn image(&self, index: usize) -> Result<RgbImage, TrainError> {
        self.inner.image(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(Vec<String>);

    impl Dataset for Named {
        fn classes(&self) -> &[String] {
            &self.0
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn label(&self, index: usize) -> usize {
            index
        }
        fn name(&self, index: usize) -> String {
            format!("image {index}")
        }
        fn image(&self, _: usize) -> Result<RgbImage, TrainError> {
            unreachable!("no image is looked at")
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn matched(own: &[&str], count: usize, model: Option<&[&str]>) -> Result<(Vec<usize>, Match), TrainError> {
        let model = model.map(names);
        let (found, how) = Relabeled::to(Arc::new(Named(names(own))), count, model.as_deref())?;
        Ok(((0..found.len()).map(|index| found.label(index)).collect(), how))
    }

    #[test]
    fn classes_match_by_name_then_by_order() {
        let imagenet = ["tench, Tinca tinca", "great white shark, white shark", "hen"];
        assert_eq!(matched(&["hen", "white_shark"], 3, Some(&imagenet)).unwrap(), (vec![2, 1], Match::Names));
        assert_eq!(matched(&["n01", "n02", "n03"], 3, Some(&imagenet)).unwrap(), (vec![0, 1, 2], Match::Order));
        assert_eq!(matched(&["a", "b"], 2, None).unwrap(), (vec![0, 1], Match::Order));
        let error = matched(&["hen", "cock"], 3, Some(&imagenet)).unwrap_err().to_string();
        assert!(error.contains("`cock`") && error.contains('3'), "{error}");
    }
}
