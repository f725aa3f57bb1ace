//! Likely wrong labels.
//!
//! Two witnesses who have not seen the label judge each image. A linear classifier, fitted on the other images
//! (cross-validation), gives probabilities; confident learning (Northcutt et al., arXiv:1911.00068) holds them against each
//! class's own mean, so that a class of which the classifier is never sure is not suspected as a whole. And the nearest
//! images have labels of their own.

use serde::Serialize;
use vitral::Device;
use vitral::search::{Flat, Hit, Index, SearchError};

use crate::evaluate::{Features, OutOfSample, out_of_sample};

/// How labels are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelOptions {
    neighbors: usize,
    folds: usize,
    seed: u64,
}

impl Default for LabelOptions {
    fn default() -> Self {
        LabelOptions { neighbors: 10, folds: 5, seed: 0 }
    }
}

impl LabelOptions {
    /// Nearest images that are asked.
    #[must_use]
    pub fn neighbors(mut self, count: usize) -> Self {
        self.neighbors = count.max(1);
        self
    }

    /// Parts of the cross-validation, at least two.
    #[must_use]
    pub fn folds(mut self, count: usize) -> Self {
        self.folds = count.max(2);
        self
    }

    /// The seed that the parts are drawn with.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// An image whose label is likely wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suspect {
    /// Its row in the index.
    #[serde(skip)]
    pub row: usize,
    /// Its name.
    pub image: String,
    /// The label that it has.
    pub label: String,
    /// The label that the classifier finds most likely.
    pub suggested: String,
    /// The probability of its label, according to the classifier.
    pub probability: f64,
    /// The probability of the suggested one.
    pub suggested_probability: f64,
    /// The part of its neighbors that have its label, of those that could.
    pub neighbors: f64,
    /// Whether confident learning counts it as an error; otherwise only the classifier and the neighbors disagree with it.
    pub confident: bool,
}

/// The labels of an index, judged.
#[derive(Clone, Debug, Serialize)]
pub struct LabelReport {
    /// Images.
    pub images: usize,
    /// Classes.
    pub classes: Vec<String>,
    /// The fraction of labels that the classifier, fitted on other images, gives as well.
    pub agreement: f64,
    /// The L2 penalty of the classifier.
    pub penalty: f64,
    /// Classes with one image, which nothing can be said about.
    pub single: Vec<String>,
    /// Images whose label is likely wrong, the least likely label first.
    pub suspects: Vec<Suspect>,
}

/// Why labels cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// An image has none.
    #[error(
        "expected a label for each image, found none for `{image}`; labels are the names of folders, so put the images of \
         each class into a folder and make the index again"
    )]
    Unlabeled {
        /// The first such image.
        image: String,
    },
    /// There are too few classes or images.
    #[error("expected at least two classes and two images of one, found {classes} and {images}")]
    TooFew {
        /// Classes.
        classes: usize,
        /// Images of the largest class.
        images: usize,
    },
    /// The search failed.
    #[error(transparent)]
    Search(#[from] SearchError),
}

/// The neighbors' share up to which they disagree with a label.
const FEW: f64 = 0.1;

/// Finds the labels of an index that are likely wrong. `advance` is told how many images' neighbors are found.
///
/// # Errors
/// If an image has no label, there are too few, or the device fails.
pub fn suspects(
    index: &Index,
    options: &LabelOptions,
    device: &Device,
    advance: &mut dyn FnMut(usize),
) -> Result<LabelReport, LabelError> {
    let Some((classes, labels)) = index.classes() else {
        let unlabeled = index.entries().iter().find(|entry| entry.label.is_none());
        let Some(unlabeled) = unlabeled else { return Err(LabelError::TooFew { classes: 0, images: 0 }) };
        return Err(LabelError::Unlabeled { image: unlabeled.name.clone() });
    };
    let mut sizes = vec![0; classes.len()];
    labels.iter().for_each(|&label| sizes[label] += 1);
    let largest = sizes.iter().copied().max().unwrap_or(0);
    if classes.len() < 2 || largest < 2 {
        return Err(LabelError::TooFew { classes: classes.len(), images: largest });
    }
    let flat = Flat::new(index.features(), index.width(), device)?;
    let neighbors = flat.neighbors(index.features(), options.neighbors, advance)?;
    drop(flat);
    let known = Features::new(index.features().to_vec(), index.width(), labels.clone(), classes.len());
    let judged = out_of_sample(&known, options.folds, options.seed);
    drop(known);
    let confident = confident(&judged, &labels, classes.len());
    let mut agreeing = 0;
    let mut suspects = Vec::new();
    for (row, &label) in labels.iter().enumerate() {
        let probabilities = judged.of(row);
        let found = most_likely(probabilities);
        agreeing += usize::from(found == label);
        // Its class may be too small to fill the neighborhood.
        let could = neighbors[row].len().min(sizes[label] - 1);
        if could == 0 {
            continue;
        }
        let same = neighbors[row].iter().filter(|hit: &&Hit| labels[hit.row] == label).count();
        let share = (same as f64 / could as f64).min(1.0);
        if confident[row] || found != label && share <= FEW {
            let suggested = if found == label { second(probabilities, label) } else { found };
            suspects.push(Suspect {
                row,
                image: index.entries()[row].name.clone(),
                label: classes[label].clone(),
                suggested: classes[suggested].clone(),
                probability: probabilities[label],
                suggested_probability: probabilities[suggested],
                neighbors: share,
                confident: confident[row],
            });
        }
    }
    suspects.sort_by(|a, b| a.probability.total_cmp(&b.probability).then(a.row.cmp(&b.row)));
    let single = sizes.iter().zip(&classes).filter(|(size, _)| **size == 1).map(|(_, class)| class.clone()).collect();
    let agreement = agreeing as f64 / labels.len() as f64;
    Ok(LabelReport { images: labels.len(), classes, agreement, penalty: judged.penalty(), single, suspects })
}

/// The images that confident learning counts beside the diagonal of its joint distribution: of the classes whose probability
/// is at least the mean that images of that label have, the most likely one is another than the label.
fn confident(judged: &OutOfSample, labels: &[usize], classes: usize) -> Vec<bool> {
    let mut sums = vec![(0.0, 0usize); classes];
    for (row, &label) in labels.iter().enumerate() {
        sums[label].0 += judged.of(row)[label];
        sums[label].1 += 1;
    }
    let thresholds: Vec<f64> = sums.iter().map(|&(sum, count)| sum / count.max(1) as f64).collect();
    let judge = |(row, &label): (usize, &usize)| {
        let likely = judged.of(row).iter().zip(&thresholds).enumerate().filter(|(_, (p, threshold))| p >= threshold);
        let best = likely.max_by(|(a, (p, _)), (b, (q, _))| p.total_cmp(q).then(b.cmp(a)));
        best.is_some_and(|(class, _)| class != label)
    };
    labels.iter().enumerate().map(judge).collect()
}

fn most_likely(probabilities: &[f64]) -> usize {
    (0..probabilities.len())
        .fold(0, |best, class| if probabilities[class] > probabilities[best] { class } else { best })
}

/// The most likely class but one.
fn second(probabilities: &[f64], first: usize) -> usize {
    let others = (0..probabilities.len()).filter(|&class| class != first);
    others.fold(
        usize::from(first == 0),
        |best, class| {
            if probabilities[class] > probabilities[best] { class } else { best }
        },
    )
}
