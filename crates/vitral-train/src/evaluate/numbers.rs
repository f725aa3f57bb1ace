//! Evaluation of a regression: labels are numbers.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitral::message::count;

/// The quality of a regression on images labeled with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NumbersReport {
    /// Images that were answered.
    pub images: usize,
    /// Images that could not be read.
    pub skipped: usize,
    /// Mean absolute error.
    pub mean_absolute_error: f64,
    /// Root of the mean squared error.
    pub root_mean_squared_error: f64,
    /// The coefficient of determination: 1 for a perfect model, 0 for one that always answers the mean label, less for a
    /// worse one. 0 if all labels are equal.
    pub r_squared: f64,
}

/// Errors accumulated so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    count: usize,
    absolute: f64,
    squared: f64,
    /// Mean of the labels, and the sum of their squared distances from it (Welford's, which does not cancel).
    mean: f64,
    spread: f64,
}

impl Errors {
    /// Adds answers and the numbers that they should be.
    ///
    /// # Panics
    /// If their counts differ.
    pub fn add(&mut self, answers: &[f32], labels: &[f32]) {
        assert_eq!(answers.len(), labels.len(), "one answer for each label");
        for (&answer, &label) in answers.iter().zip(labels) {
            let (answer, label) = (f64::from(answer), f64::from(label));
            self.count += 1;
            self.absolute += (answer - label).abs();
            self.squared += (answer - label).powi(2);
            let before = label - self.mean;
            self.mean += before / self.count as f64;
            self.spread += before * (label - self.mean);
        }
    }

    /// The report; `skipped` images could not be read.
    pub fn report(&self, skipped: usize) -> NumbersReport {
        let count = self.count.max(1) as f64;
        NumbersReport {
            images: self.count,
            skipped,
            mean_absolute_error: self.absolute / count,
            root_mean_squared_error: (self.squared / count).sqrt(),
            r_squared: if self.spread > 0.0 { 1.0 - self.squared / self.spread } else { 0.0 },
        }
    }
}

impl fmt::Display for NumbersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mean absolute error {:.4}", self.mean_absolute_error)?;
        write!(f, "   root of the mean squared error {:.4}", self.root_mean_squared_error)?;
        write!(f, "   R² {:.4}   {}", self.r_squared, count(self.images, "image"))?;
        if self.skipped > 0 {
            write!(f, " ({} more could not be read)", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from scikit-learn 1.9.1: `mean_absolute_error`, `root_mean_squared_error`, `r2_score`.
    #[test]
    fn errors_equal_scikit_learn() {
        let mut errors = Errors::default();
        errors.add(&[2.5, 0.0], &[3.0, -0.5]);
        errors.add(&[2.0, 8.0], &[2.0, 7.0]);
        let report = errors.report(0);
        assert_eq!((report.images, report.mean_absolute_error), (4, 0.5));
        assert!((report.root_mean_squared_error - 0.612_372_435_695_794_5).abs() < 1e-12);
        assert!((report.r_squared - 0.948_608_137_044_967_9).abs() < 1e-12);
    }

    #[test]
    fn labels_that_are_all_equal_have_no_spread() {
        let mut errors = Errors::default();
        errors.add(&[0.2; 1000], &[0.1; 1000]);
        assert_eq!(errors.report(0).r_squared, 0.0);
    }
}
