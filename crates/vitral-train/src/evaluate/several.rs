//! Evaluation where an image can have several labels: every class is a yes-or-no question of its own.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitral::message::count;

use super::report::{Beside, UnknownClass};
use crate::data::Match;

/// Probability from which a class counts as predicted.
const THRESHOLD: f32 = 0.5;

/// The quality of a classifier on images with any number of labels each. Fractions are between 0 and 1; those with a
/// zero denominator are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeveralReport {
    /// Images that were classified.
    pub images: usize,
    /// Images that could not be read.
    pub skipped: usize,
    /// The mean of the average precision of the classes that have images, as in scikit-learn's
    /// `average_precision_score(average="macro")`.
    pub mean_average_precision: f64,
    /// The probability (sigmoid of a logit) from which a class counts as predicted.
    pub threshold: f32,
    /// Fraction of the predicted labels that are right, over all images and classes.
    pub precision: f64,
    /// Fraction of the labels that are predicted.
    pub recall: f64,
    /// The harmonic mean of the two (micro F1).
    pub f1: f64,
    /// The mean of the classes' F1 (macro F1), over classes that have images.
    pub mean_f1: f64,
    /// Fraction of the images whose labels are all predicted, and no others.
    pub exact: f64,
    /// Mean binary cross-entropy, over all images and classes.
    pub loss: f64,
    /// Results per class, those with the most images first.
    pub classes: Vec<SeveralClass>,
    /// How the data's classes were matched to the model's, if they are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<Match>,
    /// Classes of the data that the model does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<UnknownClass>,
}

/// Results of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeveralClass {
    /// Its name.
    pub name: String,
    /// Images with this label.
    pub images: usize,
    /// The area under the curve of precision over recall, in steps; none without images.
    pub average_precision: Option<f64>,
    /// Fraction of the images predicted as this class that have its label.
    pub precision: f64,
    /// Fraction of this class's images that were predicted as such.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// Predictions accumulated so far.
#[derive(Debug)]
pub struct SeveralMetrics {
    names: Vec<String>,
    /// Probabilities, `[images, classes]`.
    probabilities: Vec<f32>,
    /// Whether each image has each label, in the same order.
    labels: Vec<bool>,
    loss: f64,
    exact: usize,
}

impl SeveralMetrics {
    /// Empty metrics for classes with these names.
    pub fn new(names: &[String]) -> Self {
        SeveralMetrics { names: names.to_vec(), probabilities: vec![], labels: vec![], loss: 0.0, exact: 0 }
    }

    /// Adds an image's logits and labels.
    ///
    /// # Panics
    /// If the number of logits differs from the number of classes, or a label is not a class.
    pub fn add(&mut self, logits: &[f32], labels: &[usize]) {
        let classes = self.names.len();
        assert_eq!(logits.len(), classes, "one logit per class");
        let begin = self.labels.len();
        self.labels.resize(begin + classes, false);
        labels.iter().for_each(|&label| self.labels[begin + label] = true);
        let mut exact = true;
        for (&logit, &has) in logits.iter().zip(&self.labels[begin..]) {
            let logit64 = f64::from(logit);
            self.probabilities.push(1.0 / (1.0 + (-logit).exp()));
            // log(1 + e^x) − y·x, written so that it does not overflow.
            self.loss += logit64.max(0.0) + (-logit64.abs()).exp().ln_1p() - if has { logit64 } else { 0.0 };
            exact &= (logit >= 0.0) == has;
        }
        self.exact += usize::from(exact);
    }

    /// Adds the logits and targets of a batch, `[images, classes]` each; a target is 1 for each label and 0 elsewhere.
    ///
    /// # Panics
    /// If their numbers differ.
    pub fn add_batch(&mut self, logits: &[f32], targets: &[f32]) {
        assert_eq!(logits.len(), targets.len(), "one target per logit");
        let classes = self.names.len().max(1);
        for (row, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
            let labels: Vec<usize> = (0..classes).filter(|&class| targets[class] > 0.5).collect();
            self.add(row, &labels);
        }
    }

    /// The report; `skipped` images could not be read.
    pub fn report(&self, skipped: usize) -> SeveralReport {
        let classes = self.names.len();
        let images = self.labels.len() / classes.max(1);
        let (mut right, mut predicted, mut labeled) = (0, 0, 0);
        let mut reports = Vec::with_capacity(classes);
        for (class, name) in self.names.iter().enumerate() {
            let of = |image: usize| (self.probabilities[image * classes + class], self.labels[image * classes + class]);
            let mut answers: Vec<(f32, bool)> = (0..images).map(of).collect();
            let taken = answers.iter().filter(|(probability, _)| *probability >= THRESHOLD).count();
            let positives = answers.iter().filter(|(_, has)| *has).count();
            let both = answers.iter().filter(|(probability, has)| *has && *probability >= THRESHOLD).count();
            (right, predicted, labeled) = (right + both, predicted + taken, labeled + positives);
            let [precision, recall, f1] = ratios(both, taken, positives);
            let average_precision = average_precision(&mut answers, positives);
            reports.push(SeveralClass {
                name: name.clone(),
                images: positives,
                average_precision,
                precision,
                recall,
                f1,
            });
        }
        let mean = |value: fn(&SeveralClass) -> f64| {
            let present = || reports.iter().filter(|class| class.images > 0);
            present().map(value).sum::<f64>() / present().count().max(1) as f64
        };
        let [precision, recall, f1] = ratios(right, predicted, labeled);
        let (mean_average_precision, mean_f1) =
            (mean(|class| class.average_precision.unwrap_or(0.0)), mean(|class| class.f1));
        // Stable: classes with as many images stay in order.
        reports.sort_by_key(|class| std::cmp::Reverse(class.images));
        SeveralReport {
            images,
            skipped,
            mean_average_precision,
            threshold: THRESHOLD,
            precision,
            recall,
            f1,
            mean_f1,
            exact: self.exact as f64 / images.max(1) as f64,
            loss: self.loss / self.labels.len().max(1) as f64,
            classes: reports,
            matched: None,
            unknown: Vec::new(),
        }
    }
}

/// Precision, recall and F1.
fn ratios(right: usize, predicted: usize, labeled: usize) -> [f64; 3] {
    let share = |of: usize| if of > 0 { right as f64 / of as f64 } else { 0.0 };
    let (precision, recall) = (share(predicted), share(labeled));
    [precision, recall, if right > 0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }]
}

/// The sum over thresholds of precision times the gain in recall; equal probabilities are one threshold.
fn average_precision(answers: &mut [(f32, bool)], positives: usize) -> Option<f64> {
    if positives == 0 {
        return None;
    }
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut sum, mut right, mut seen) = (0.0, 0, 0);
    for equal in answers.chunk_by(|a, b| a.0 == b.0) {
        let gained = equal.iter().filter(|(_, has)| *has).count();
        right += gained;
        seen += equal.len();
        sum += gained as f64 / positives as f64 * (right as f64 / seen as f64);
    }
    Some(sum)
}

impl fmt::Display for SeveralReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(f, "mean average precision {:.2} %", percent(self.mean_average_precision))?;
        write!(f, "   F1 {:.2} %   exact {:.2} %", percent(self.f1), percent(self.exact))?;
        write!(f, "   loss {:.4}   {}", self.loss, count(self.images, "image"))?;
        if self.skipped > 0 {
            write!(f, " ({} more could not be read)", self.skipped)?;
        }
        write!(f, "\na label counts as predicted from a probability of {} on", self.threshold)?;
        write!(f, "{}", Beside { matched: self.matched, unknown: &self.unknown })?;
        let width = self.classes.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).clamp(5, 32);
        write!(f, "\n\n{:width$}  images  average precision  precision{:>9}{:>9}", "class", "recall", "F1")?;
        let mut line = |name: &str, images: usize, values: [f64; 4]| {
            let name: String = name.chars().take(width).collect();
            let [average, precision, recall, f1] = values.map(percent);
            write!(f, "\n{name:width$}  {images:6}  {average:15.2} %  {precision:7.2} %{recall:7.2} %{f1:7.2} %")
        };
        for class in self.classes.iter().filter(|class| class.images > 0 || class.precision > 0.0) {
            let average = class.average_precision.unwrap_or(0.0);
            line(&class.name, class.images, [average, class.precision, class.recall, class.f1])?;
        }
        line("all", self.images, [self.mean_average_precision, self.precision, self.recall, self.f1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from scikit-learn 1.9.1 (`tools/golden/evaluate_several.py`).
    #[test]
    fn measures_equal_scikit_learn() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut metrics = SeveralMetrics::new(&names);
        let rows: [([f32; 3], &[usize]); 6] = [
            ([2.0, -1.0, 0.5], &[0]),
            ([-0.5, 1.5, 0.5], &[1, 2]),
            ([1.0, 0.25, -2.0], &[0, 1]),
            ([0.5, -0.75, 0.5], &[2]),
            ([-1.0, 2.0, -0.25], &[1]),
            ([-2.0, -3.0, 1.0], &[0, 2]),
        ];
        rows.iter().for_each(|(logits, labels)| metrics.add(logits, labels));
        let report = metrics.report(1);
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
        close(report.classes[0].average_precision.expect("images"), 5.0 / 6.0);
        close(report.classes[1].average_precision.expect("images"), 1.0);
        close(report.classes[2].average_precision.expect("images"), 5.0 / 6.0);
        close(report.mean_average_precision, 8.0 / 9.0);
        close(report.precision, 0.8);
        close(report.recall, 8.0 / 9.0);
        close(report.f1, 0.842_105_263);
        close(report.exact, 0.5);
        close(report.loss, 0.495_549_7);
        let text = report.to_string();
        assert!(text.contains("88.89 %") && text.contains("1 more could not be read"), "{text}");
        let ends: Vec<usize> = text.lines().skip(3).map(|line| line.chars().count()).collect();
        assert!(ends.len() == 5 && ends.iter().all(|&end| end == ends[0]), "{text}");
    }
}
