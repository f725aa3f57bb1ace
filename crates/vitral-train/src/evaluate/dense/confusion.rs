//! How what was predicted for pixels overlaps with the truth.

use serde::Serialize;

/// Numbers of pixels by true and predicted class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confusion {
    classes: usize,
    /// `[true, predicted]`.
    counts: Vec<u64>,
}

/// One class in the overlap.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassOverlap {
    /// The value that the masks have for it.
    pub value: u16,
    /// Its name, or its value.
    pub name: String,
    /// True pixels of the class.
    pub pixels: u64,
    /// The fraction of its true pixels that were found.
    pub recall: Option<f64>,
    /// Intersection over union: pixels that are of the class and predicted, over those that are either.
    pub iou: Option<f64>,
}

/// How well predictions overlap with the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// The mean of the intersection over union of all classes that are in the truth or in the predictions.
    pub mean_iou: f64,
    /// The mean of the fractions found, over all classes in the truth.
    pub mean_recall: f64,
    /// The fraction of all pixels whose class is right.
    pub pixel_accuracy: f64,
    /// Every class, in the order of values.
    pub classes: Vec<ClassOverlap>,
}

impl Confusion {
    pub(super) fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one pixel.
    pub(super) fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.classes + predicted] += 1;
    }

    /// The same counts with room for more classes.
    pub(super) fn grown(self, classes: usize) -> Self {
        let mut grown = Confusion::new(classes);
        for (truth, row) in self.counts.chunks_exact(self.classes).enumerate() {
            grown.counts[truth * classes..][..self.classes].copy_from_slice(row);
        }
        grown
    }

    /// Counts the pixels of another.
    pub(super) fn join(mut self, other: &Self) -> Self {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        self
    }

    pub(super) fn overlap(&self, classes: &[(u16, String)]) -> Overlap {
        assert_eq!(classes.len(), self.classes, "a name for each class");
        let count = |truth: usize, predicted: usize| self.counts[truth * self.classes + predicted];
        let ratio = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let of = |(class, (value, name)): (usize, &(u16, String))| {
            let right = count(class, class);
            let pixels: u64 = (0..self.classes).map(|predicted| count(class, predicted)).sum();
            let predicted: u64 = (0..self.classes).map(|truth| count(truth, class)).sum();
            ClassOverlap {
                value: *value,
                name: name.clone(),
                pixels,
                recall: ratio(right, pixels),
                iou: ratio(right, pixels + predicted - right),
            }
        };
        let classes: Vec<ClassOverlap> = classes.iter().enumerate().map(of).collect();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let right: u64 = (0..self.classes).map(|class| count(class, class)).sum();
        Overlap {
            mean_iou: mean(classes.iter().filter_map(|class| class.iou).collect()),
            mean_recall: mean(classes.iter().filter_map(|class| class.recall).collect()),
            pixel_accuracy: ratio(right, self.counts.iter().sum()).unwrap_or(0.0),
            classes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_as_by_hand() {
        let mut confusion = Confusion::new(4);
        // True 0: three right, one taken for 1. True 1: two right, two taken for 0. Class 2 is predicted once where 0 is
        // true; class 3 is nowhere.
        for (truth, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 0), (1, 0), (0, 2)] {
            confusion.add(truth, predicted);
        }
        let names: Vec<(u16, String)> = (0..4).map(|value| (value, value.to_string())).collect();
        let found = confusion.overlap(&names);
        let ious: Vec<Option<f64>> = found.classes.iter().map(|class| class.iou).collect();
        assert_eq!(ious, [Some(3.0 / 7.0), Some(2.0 / 5.0), Some(0.0), None]);
        assert!((found.mean_iou - (3.0 / 7.0 + 2.0 / 5.0) / 3.0).abs() < 1e-12);
        assert!((found.mean_recall - (3.0 / 5.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
        assert!((found.pixel_accuracy - 5.0 / 9.0).abs() < 1e-12);
    }
}
