//! Accumulates predictions, batch by batch.

use std::collections::BTreeMap;

use super::report::{Cell, ClassReport, Confusion, Mistake, Report};
use crate::loss::argmax;

/// Bins of confidence for the calibration error.
const BINS: usize = 15;
/// Number of class pairs and mistakes in a report.
const LISTED: usize = 20;
/// Number of example images per pair.
const EXAMPLES: usize = 6;

/// Predictions accumulated so far.
#[derive(Debug)]
pub struct Metrics {
    names: Vec<String>,
    /// Images by label and predicted class, for pairs that occur: their number grows with the images, not with the square
    /// of the classes.
    confusion: BTreeMap<(usize, usize), usize>,
    among_five: usize,
    loss: f64,
    /// Number of images, summed confidence, and number of correct predictions.
    bins: [(usize, f64, usize); BINS],
    mistakes: Vec<(usize, usize, usize, f32)>,
    seen: usize,
}

impl Metrics {
    /// Empty metrics for classes with these names.
    pub fn new(names: &[String]) -> Self {
        Metrics {
            names: names.to_vec(),
            confusion: BTreeMap::new(),
            among_five: 0,
            loss: 0.0,
            bins: [(0, 0.0, 0); BINS],
            mistakes: Vec::new(),
            seen: 0,
        }
    }

    /// Adds one prediction.
    ///
    /// # Panics
    /// If the number of logits differs from the number of classes.
    pub fn add(&mut self, logits: &[f32], label: usize) {
        assert_eq!(logits.len(), self.names.len(), "one logit per class");
        let predicted = argmax(logits);
        let most = f64::from(logits[predicted]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
        let confidence = 1.0 / sum;
        self.loss += sum.ln() + most - f64::from(logits[label]);
        // Among equal logits, the first class ranks higher.
        let better = |(class, &logit): (usize, &f32)| logit > logits[label] || logit == logits[label] && class < label;
        self.among_five += usize::from(logits.iter().enumerate().filter(|&item| better(item)).count() < 5);
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (count, sum, correct) = &mut self.bins[bin];
        *count += 1;
        *sum += confidence;
        *correct += usize::from(predicted == label);
        *self.confusion.entry((label, predicted)).or_default() += 1;
        if predicted != label {
            self.mistakes.push((self.seen, label, predicted, confidence as f32));
        }
        self.seen += 1;
    }

    /// The mean recall of the classes that have images.
    pub fn balanced_accuracy(&self) -> f64 {
        mean_of_present(&self.classes(), |class| class.recall)
    }

    /// The report. `image` gives the index and the name of the n-th image that was added.
    pub fn report(mut self, skipped: usize, image: impl Fn(usize) -> (usize, String)) -> Report {
        let mut classes = self.classes();
        let balanced_accuracy = mean_of_present(&classes, |class| class.recall);
        let mean_f1 = mean_of_present(&classes, |class| class.f1);
        // Stable: classes with as many images stay in order.
        classes.sort_by_key(|class| std::cmp::Reverse(class.images));
        let images = self.seen;
        let share = |count: f64| count / images.max(1) as f64;
        let correct = self.confusion.iter().filter(|((l, p), _)| l == p).map(|(_, n)| n).sum::<usize>();
        let gap = self.bins.iter().map(|&(_, confidence, correct)| (correct as f64 - confidence).abs()).sum();
        let mut pairs: Vec<(usize, usize, usize)> =
            self.confusion.iter().filter(|((l, p), _)| l != p).map(|(&(l, p), &count)| (count, l, p)).collect();
        pairs.sort_by_key(|&(count, label, predicted)| (std::cmp::Reverse(count), label, predicted));
        self.mistakes.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(&b.0)));
        let name = |class: usize| self.names[class].clone();
        let mistake = |&(nth, label, predicted, confidence): &(usize, usize, usize, f32)| {
            let (index, image) = image(nth);
            Mistake { index, image, label: name(label), predicted: name(predicted), confidence }
        };
        let confused = pairs.into_iter().take(LISTED).map(|(count, label, predicted)| {
            let of_pair = self.mistakes.iter().filter(|mistake| (mistake.1, mistake.2) == (label, predicted));
            let examples = of_pair.take(EXAMPLES).map(mistake).collect();
            Confusion { label: name(label), predicted: name(predicted), count, examples }
        });
        let confused = confused.collect();
        let mistakes = self.mistakes.iter().take(LISTED).map(mistake);
        Report {
            images,
            skipped,
            top1: share(correct as f64),
            balanced_accuracy,
            top5: share(self.among_five as f64),
            loss: share(self.loss),
            calibration_error: share(gap),
            mean_f1,
            mistakes: mistakes.collect(),
            classes,
            confused,
            confusion: self
                .confusion
                .into_iter()
                .map(|((label, predicted), images)| Cell { label, predicted, images })
                .collect(),
            matched: None,
            unknown: Vec::new(),
        }
    }

    fn classes(&self) -> Vec<ClassReport> {
        // For every class: images with this label, images predicted as it, and images that are both.
        let mut counts = vec![(0, 0, 0); self.names.len()];
        for (&(label, predicted), &images) in &self.confusion {
            counts[label].0 += images;
            counts[predicted].1 += images;
            counts[label].2 += if label == predicted { images } else { 0 };
        }
        let report = |(number, (name, (images, taken, correct))): (usize, (&String, (usize, usize, usize)))| {
            let share = |of: usize| if of > 0 { correct as f64 / of as f64 } else { 0.0 };
            let (precision, recall) = (share(taken), share(images));
            let f1 = if correct > 0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 };
            ClassReport { number, name: name.clone(), images, precision, recall, f1 }
        };
        self.names.iter().zip(counts).enumerate().map(report).collect()
    }
}

/// The mean of a measure over the classes that have images.
fn mean_of_present(classes: &[ClassReport], measure: fn(&ClassReport) -> f64) -> f64 {
    let present = || classes.iter().filter(|class| class.images > 0);
    present().map(measure).sum::<f64>() / present().count().max(1) as f64
}
