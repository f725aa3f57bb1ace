//! Results of an evaluation.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitral::message::count;

use crate::data::{Match, listed};

/// The quality of a classifier on labeled images. Fractions are between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Images that were classified.
    pub images: usize,
    /// Images that could not be read.
    pub skipped: usize,
    /// Fraction whose most likely class is their label.
    pub top1: f64,
    /// The mean recall of the classes that have images: with as many images of each, `top1`.
    #[serde(alias = "mean_recall")]
    pub balanced_accuracy: f64,
    /// Fraction whose label is among the five most likely classes.
    pub top5: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Expected calibration error over 15 bins of confidence (Naeini and others 2015).
    pub calibration_error: f64,
    /// The mean F1 of the classes that have images.
    pub mean_f1: f64,
    /// Results per class, those with the most images first.
    pub classes: Vec<ClassReport>,
    /// The confusion matrix: its cells that are not zero, by label, then by predicted class.
    pub confusion: Vec<Cell>,
    /// The most frequently confused pairs of classes, most frequent first.
    pub confused: Vec<Confusion>,
    /// The most confident mistakes, most confident first.
    pub mistakes: Vec<Mistake>,
    /// How the data's classes were matched to the model's, if they are not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<Match>,
    /// Classes of the data that the model does not know. Their images are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<UnknownClass>,
}

/// A cell of the confusion matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The number of the correct class.
    pub label: usize,
    /// The number of the predicted class.
    pub predicted: usize,
    /// Number of images.
    pub images: usize,
}

/// A class of the data that the model does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownClass {
    /// Its name.
    pub name: String,
    /// Images that were left out.
    pub images: usize,
}

/// Results of one class. Ratios with a zero denominator are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Its number, from 0, as in the confusion matrix.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Images with this label.
    pub images: usize,
    /// Fraction of the images predicted as this class that are of this class.
    pub precision: f64,
    /// Fraction of this class's images that were predicted as such.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// A class that was predicted in place of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// The correct class.
    pub label: String,
    /// The predicted class.
    pub predicted: String,
    /// Number of images.
    pub count: usize,
    /// Some of the images, the most confident mistake first.
    #[serde(default)]
    pub examples: Vec<Mistake>,
}

/// A misclassified image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Its index in the data set.
    pub index: usize,
    /// Its name.
    pub image: String,
    /// The correct class.
    pub label: String,
    /// The predicted class.
    pub predicted: String,
    /// The softmax probability of the predicted class.
    pub confidence: f32,
}

/// What was decided about classes, after the first line of a report.
pub(super) struct Beside<'a> {
    pub(super) matched: Option<Match>,
    pub(super) unknown: &'a [UnknownClass],
}

impl fmt::Display for Beside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.matched {
            Some(Match::Order) => write!(f, "\nclasses matched in order: no name of the data is one of the model's")?,
            Some(Match::Numbers) => {
                write!(f, "\nclasses matched by number: class names are the model's class numbers")?
            }
            Some(Match::Names) | None => {}
        }
        if self.unknown.is_empty() {
            return Ok(());
        }
        let images: usize = self.unknown.iter().map(|class| class.images).sum();
        let names: Vec<String> = self.unknown.iter().map(|class| class.name.clone()).collect();
        write!(f, "\nleft out: {} of classes that the model does not know: {}", count(images, "image"), listed(&names))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(f, "top-1 {:.2} %   balanced {:.2} %", percent(self.top1), percent(self.balanced_accuracy))?;
        if self.classes.len() > 5 {
            write!(f, "   top-5 {:.2} %", percent(self.top5))?;
        }
        write!(f, "   loss {:.4}   calibration error {:.2} %", self.loss, percent(self.calibration_error))?;
        write!(f, "   {}", count(self.images, "image"))?;
        if self.skipped > 0 {
            write!(f, " ({} more could not be read)", self.skipped)?;
        }
        write!(f, "{}", Beside { matched: self.matched, unknown: &self.unknown })?;
        // A class that is neither a label nor predicted has nothing to show.
        let taken = |class: &&ClassReport| class.images > 0 || class.precision > 0.0;
        let shown: Vec<&ClassReport> = self.classes.iter().filter(taken).collect();
        let width = shown.iter().map(|class| class.name.chars().count()).max().unwrap_or(0).clamp(5, 32);
        write!(f, "\n\n{:width$}  {:>8}  {:>10}{:>9}{:>9}", "class", "images", "precision", "recall", "F1")?;
        let mut line = |name: &str, images: usize, [precision, recall, f1]: [f64; 3]| {
            let name: String = name.chars().take(width).collect();
            let [precision, recall, f1] = [precision, recall, f1].map(percent);
            write!(f, "\n{name:width$}  {images:8}  {precision:8.2} %{recall:7.2} %{f1:7.2} %")
        };
        for class in shown {
            line(&class.name, class.images, [class.precision, class.recall, class.f1])?;
        }
        let present = || self.classes.iter().filter(|class| class.images > 0);
        let precision = present().map(|class| class.precision).sum::<f64>() / present().count().max(1) as f64;
        line("mean", self.images, [precision, self.balanced_accuracy, self.mean_f1])?;
        if !self.confused.is_empty() {
            write!(f, "\n\nmost confused")?;
        }
        for Confusion { label, predicted, count, .. } in self.confused.iter().take(5) {
            write!(f, "\n  {count:5} × `{label}` predicted as `{predicted}`")?;
        }
        Ok(())
    }
}
