//! Data with few images of some classes: what the classes count in the loss, and what chooses the best epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, listed, spelled};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// What the classes count in the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `inverse`, or `effective` with or without a `beta`, or a table of numbers by the names of classes"
)]
pub enum ClassWeights {
    /// Computed from the number of their images.
    By(ClassRule),
    /// Given by name; a class that is not named has 1.
    Given(BTreeMap<String, f32>),
}

/// Weights from the numbers of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClassRule {
    /// `images / (classes · images of the class)`, as scikit-learn's `balanced`; where images have several labels,
    /// `images without the label / images with it`, as PyTorch advises for `pos_weight`.
    Inverse,
    /// `(1 − beta) / (1 − beta^(images of the class))`, the inverse of the effective number of images (arXiv:1901.05555),
    /// divided by its mean over the classes.
    Effective {
        /// From 0, where all classes count the same, towards 1, where it is the inverse number of images.
        #[serde(default = "beta")]
        beta: f64,
    },
}

fn beta() -> f64 {
    0.999
}

/// What the best epoch is chosen by, where images have one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChooseBy {
    /// The fraction of the images that are classified correctly.
    #[default]
    Accuracy,
    /// The mean of this fraction over the classes that have images.
    BalancedAccuracy,
}

fn fault(fault: String) -> TrainError {
    TrainError::Recipe { path: "[run]".into(), fault }
}

impl ClassWeights {
    /// The weight of each class of a data set, in order. A class without images has 1.
    ///
    /// # Errors
    /// If a name is not a class; the error lists the classes.
    pub fn of(&self, dataset: &dyn Dataset) -> Result<Vec<f32>, TrainError> {
        let names = dataset.classes();
        let rule = match self {
            ClassWeights::By(rule) => rule,
            ClassWeights::Given(weights) => {
                let mut of_classes = vec![1.0; names.len()];
                for (name, &weight) in weights {
                    let spelled = spelled(name);
                    let Some(class) = names.iter().position(|known| *known == spelled) else {
                        let known = listed(names);
                        return Err(fault(format!(
                            "expected `run.class_weights` with names of classes, found `{name}`; the classes are {known}"
                        )));
                    };
                    of_classes[class] = weight;
                }
                return Ok(of_classes);
            }
        };
        let mut counts = vec![0usize; names.len()];
        (0..dataset.len()).flat_map(|index| dataset.labels(index)).for_each(|class| counts[class] += 1);
        Ok(rule.weights(&counts, dataset.len(), dataset.labeling()))
    }
}

impl ClassRule {
    /// The weights of classes with so many images each, of `images` in all.
    fn weights(self, counts: &[usize], images: usize, labeling: Labeling) -> Vec<f32> {
        let present = counts.iter().filter(|count| **count > 0).count() as f64;
        let inverse = |count: usize| match labeling {
            // A label that every image has leaves nothing to weigh it against.
            Labeling::Several if count == images => 1.0,
            Labeling::Several => (images - count) as f64 / count as f64,
            Labeling::One | Labeling::Number => images as f64 / (present * count as f64),
        };
        let weigh = |weight: &dyn Fn(usize) -> f64| {
            counts.iter().map(|&count| if count > 0 { weight(count) } else { 1.0 }).collect::<Vec<f64>>()
        };
        let weights = match self {
            ClassRule::Inverse => weigh(&inverse),
            ClassRule::Effective { beta } => {
                let of = |count: usize| (1.0 - beta) / -(count as f64 * beta.ln()).exp_m1();
                let mean = counts.iter().filter(|count| **count > 0).map(|&count| of(count)).sum::<f64>() / present;
                weigh(&|count| of(count) / mean)
            }
        };
        weights.into_iter().map(|weight| weight as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from scikit-learn 1.9.1's `compute_class_weight("balanced")`, and from the definition.
    #[test]
    fn weights_of_one_label_equal_scikit_learn() {
        let counts = [60, 5, 0, 20];
        let inverse = ClassRule::Inverse.weights(&counts, 85, Labeling::One);
        assert_eq!(inverse, [0.472_222_2, 5.666_666_5, 1.0, 1.416_666_6]);
        let mean: f64 = counts.iter().zip(&inverse).map(|(&n, &w)| n as f64 * f64::from(w)).sum::<f64>() / 85.0;
        assert!((mean - 1.0).abs() < 1e-6, "the loss keeps its size: {mean}");
        let effective = ClassRule::Effective { beta: 0.9 }.weights(&counts, 85, Labeling::One);
        let of = |n: i32| 0.1 / (1.0 - 0.9f64.powi(n));
        let scale = 3.0 / (of(60) + of(5) + of(20));
        for (found, expected) in effective.iter().zip([of(60) * scale, of(5) * scale, 1.0, of(20) * scale]) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{effective:?}");
        }
        assert_eq!(ClassRule::Effective { beta: 0.0 }.weights(&counts, 85, Labeling::One), [1.0; 4]);
    }

    /// Images without pixels.
    struct Labeled(Labeling, Vec<Vec<usize>>, Vec<String>);

    impl Dataset for Labeled {
        fn classes(&self) -> &[String] {
            &self.2
        }
        fn len(&self) -> usize {
            self.1.len()
        }
        fn label(&self, index: usize) -> usize {
            self.1[index].first().copied().unwrap_or(0)
        }
        fn labels(&self, index: usize) -> Vec<usize> {
            self.1[index].clone()
        }
        fn labeling(&self) -> Labeling {
            self.0
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn image_for(
            &self,
            index: usize,
            _: vitral::image::preprocess::Channels,
        ) -> Result<vitral::image::Image, TrainError> {
            Err(fault(format!("image {index} has no pixels")))
        }
    }

    fn labeled(labeling: Labeling) -> Labeled {
        Labeled(labeling, vec![vec![0], vec![0, 1], vec![0], vec![]], ["a", "é"].map(str::to_owned).to_vec())
    }

    #[test]
    fn weights_are_of_the_data() {
        let several = labeled(Labeling::Several);
        assert_eq!(ClassWeights::By(ClassRule::Inverse).of(&several).expect("weights"), [1.0 / 3.0, 3.0]);
        // In two characters, as macOS writes it.
        let given = ClassWeights::Given(BTreeMap::from([("e\u{301}".to_owned(), 2.5)]));
        assert_eq!(given.of(&several).expect("weights"), [1.0, 2.5]);
        let wrong = ClassWeights::Given(BTreeMap::from([("b".to_owned(), 2.5)]));
        let error = wrong.of(&several).expect_err("no such class").to_string();
        assert!(error.contains("found `b`; the classes are `a`, `é`"), "{error}");
    }

    #[test]
    fn weights_of_several_labels_are_absent_over_present() {
        let weights = ClassRule::Inverse.weights(&[100, 25, 0, 400], 400, Labeling::Several);
        assert_eq!(weights, [3.0, 15.0, 1.0, 1.0]);
    }
}
