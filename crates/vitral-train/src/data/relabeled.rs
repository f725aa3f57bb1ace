//! A data set mapped to a model's classes.

use std::sync::Arc;

use vitral::image::Image;
use vitral::image::preprocess::Channels;

use super::classes::{in_case, listed};
use super::{Dataset, Match, Matching, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A data set whose classes are those of a model, in the model's order. Images whose classes the model does not know are
/// left out.
#[derive(Debug)]
pub struct Relabeled {
    inner: Arc<dyn Dataset>,
    classes: Vec<String>,
    /// The model's class for every class of the data.
    matching: Matching,
    /// The images that are kept, by their index in the whole set.
    kept: Vec<usize>,
    unknown: Vec<(String, usize)>,
}

/// How many of a model's classes an error names.
const NAMED: usize = 5;

impl Relabeled {
    /// Maps the data to the classes of a model that has `count` of them, with these names, by [`Matching::of`].
    ///
    /// # Errors
    /// If the classes match neither by name nor in number.
    pub fn to(inner: Arc<dyn Dataset>, count: usize, names: Option<&[String]>) -> Result<Self, TrainError> {
        let own = inner.classes().to_vec();
        let Some(matching) = Matching::of(&own, count, names) else {
            let problem = match names {
                Some(names) => format!(
                    "none of the data's classes ({}) is one of the model's, which has {count} ({}{})",
                    listed(&own),
                    listed(&names[..names.len().min(NAMED)]),
                    if names.len() > NAMED { ", …" } else { "" }
                ),
                None => format!(
                    "expected as many classes as the model has, {count} without names, found {} ({})",
                    own.len(),
                    listed(&own)
                ),
            };
            let hint = "name the folders after the model's labels, or fine-tune it on this data";
            return Err(fault(inner.name(0).as_ref(), problem, hint));
        };
        let classes = match (names, matching.how()) {
            (Some(names), Match::Names | Match::Numbers) => names.to_vec(),
            (None, Match::Numbers) => (0..count).map(|number| number.to_string()).collect(),
            (_, Match::Order) | (None, Match::Names) => own,
        };
        Ok(Relabeled::matched(inner, classes, matching))
    }

    /// Gives a part of a data set the classes of another part, by equal names.
    ///
    /// # Errors
    /// If it has classes that are not among them; the error names them.
    pub fn among(inner: Arc<dyn Dataset>, classes: &[String]) -> Result<Self, TrainError> {
        let matching = Matching::exact(inner.classes(), classes);
        let unknown: Vec<String> = matching.unknown(inner.classes()).into_iter().cloned().collect();
        if !unknown.is_empty() {
            let meant = unknown.iter().map(|name| in_case(name, classes)).find(|meant| !meant.is_empty());
            let problem = format!(
                "expected the classes of the training images ({}), found other ones: {}{}",
                listed(classes),
                listed(&unknown),
                meant.unwrap_or_default()
            );
            return Err(fault(inner.name(0).as_ref(), problem, "give all parts of the data the same class names"));
        }
        Ok(Relabeled::matched(inner, classes.to_vec(), matching))
    }

    fn matched(inner: Arc<dyn Dataset>, classes: Vec<String>, matching: Matching) -> Self {
        let own = inner.classes();
        let known = |index: usize| {
            let labels = inner.labels(index);
            // That none of the classes applies is known, too.
            labels.is_empty() || labels.iter().any(|&label| matching.to()[label].is_some())
        };
        let mut kept = Vec::with_capacity(inner.len());
        let mut left_out = vec![0; own.len()];
        for index in 0..inner.len() {
            match known(index) {
                true => kept.push(index),
                false => left_out[inner.label(index)] += 1,
            }
        }
        let unknown = own.iter().zip(left_out).zip(matching.to()).filter(|(_, to)| to.is_none());
        let unknown = unknown.map(|((name, images), _)| (name.clone(), images)).collect();
        Relabeled { inner, classes, matching, kept, unknown }
    }

    /// How the classes were matched.
    pub fn how(&self) -> Match {
        self.matching.how()
    }

    /// The data's classes that the model does not have, and how many images were left out for each.
    pub fn unknown(&self) -> &[(String, usize)] {
        &self.unknown
    }
}

/// A part of a data set with the classes of another part, usually the training images, matched by equal names.
///
/// # Errors
/// As [`Relabeled::among`].
pub fn with_classes(part: Arc<dyn Dataset>, classes: &[String]) -> Result<Arc<dyn Dataset>, TrainError> {
    if part.classes() == classes {
        return Ok(part);
    }
    Ok(Arc::new(Relabeled::among(part, classes)?))
}

impl Dataset for Relabeled {
    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn len(&self) -> usize {
        self.kept.len()
    }

    fn label(&self, index: usize) -> usize {
        self.labels(index)[0]
    }

    fn labeling(&self) -> Labeling {
        self.inner.labeling()
    }

    fn labels(&self, index: usize) -> Vec<usize> {
        self.inner.labels(self.kept[index]).into_iter().filter_map(|label| self.matching.to()[label]).collect()
    }

    fn values(&self, index: usize) -> Vec<f32> {
        self.inner.values(self.kept[index])
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(self.kept[index])
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        self.inner.image_for(self.kept[index], channels)
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
            2 * self.0.len()
        }
        fn label(&self, index: usize) -> usize {
            index / 2
        }
        fn name(&self, index: usize) -> String {
            format!("image {index}")
        }
        fn image_for(&self, _: usize, _: Channels) -> Result<Image, TrainError> {
            unreachable!("no image is looked at")
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn images_of_unknown_classes_are_left_out_by_name() {
        let model = names(&["a", "b", "c"]);
        let found = Relabeled::to(Arc::new(Named(names(&["b", "x", "c"]))), 3, Some(&model)).expect("two fit");
        assert_eq!((found.classes(), found.how()), (&model[..], Match::Names));
        let labels: Vec<_> = (0..found.len()).map(|index| (found.name(index), found.label(index))).collect();
        let expected = [("image 0", 1), ("image 1", 1), ("image 4", 2), ("image 5", 2)];
        assert_eq!(labels, expected.map(|(name, label)| (name.to_owned(), label)));
        assert_eq!(found.unknown(), [("x".to_owned(), 2)]);
        let error = Relabeled::to(Arc::new(Named(names(&["x", "y"]))), 3, Some(&model)).expect_err("none fits");
        let expected = "none of the data's classes (`x`, `y`) is one of the model's, which has 3 (`a`, `b`, `c`);";
        assert!(error.to_string().contains(expected), "{error}");
        let error = Relabeled::among(Arc::new(Named(names(&["A", "b"]))), &model).expect_err("another case");
        assert!(error.to_string().contains("`A` (did you mean `a`? case matters)"), "{error}");
    }
}
