//! What a linear classifier says about images that it was not fitted on: cross-validation.

use super::{Features, Ridge};
use crate::data::shuffled;

/// Probabilities of classes, each from a classifier that did not see the image.
#[derive(Clone, Debug, PartialEq)]
pub struct OutOfSample {
    classes: usize,
    /// `[images, classes]`.
    probabilities: Vec<f64>,
    penalty: f64,
    temperature: f64,
}

impl OutOfSample {
    /// The probabilities of an image's classes.
    pub fn of(&self, image: usize) -> &[f64] {
        &self.probabilities[image * self.classes..][..self.classes]
    }

    /// The penalty of the classifiers.
    pub fn penalty(&self) -> f64 {
        self.penalty
    }

    /// What scores were divided by before softmax.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }
}

/// Images that a penalty is chosen on, at most: more do not change the choice.
const CHOOSING: usize = 20_000;
/// Temperatures to choose from, in even steps of their logarithm, from e⁻⁵ to e³.
const TEMPERATURES: usize = 81;

/// Fits a classifier without each of `folds` parts of the images, drawn with the seed and with all classes in the same
/// proportion, and lets it judge that part. Scores become probabilities by a softmax at the temperature that makes the
/// given labels most likely.
///
/// # Panics
/// If there are fewer than two folds or images.
pub fn out_of_sample(known: &Features, folds: usize, seed: u64) -> OutOfSample {
    assert!(folds >= 2 && known.len() >= 2, "at least two folds of at least two images");
    let order = shuffled(known.len(), seed, 0);
    let some = known.select(&order[..order.len().min(CHOOSING)]);
    let ridge = Ridge::default().chosen(&some, &Ridge::PENALTIES, seed);
    let classes = known.classes();
    let mut scores = vec![0.0; known.len() * classes];
    let fold_of = folds_of(known, &order, folds);
    for fold in 0..folds {
        let (held, rest): (Vec<usize>, Vec<usize>) = (0..known.len()).partition(|&image| fold_of[image] == fold);
        if held.is_empty() || rest.is_empty() {
            continue;
        }
        let found = ridge.fit(&known.select(&rest)).scores(&known.select(&held));
        for (&image, found) in held.iter().zip(found.chunks_exact(classes)) {
            scores[image * classes..][..classes].copy_from_slice(found);
        }
    }
    let rows = || scores.chunks_exact(classes).zip(known.labels());
    let unlikely = |temperature: f64| rows().map(|(row, &label)| -log_softmax(row, temperature)[label]).sum::<f64>();
    let candidates = (0..TEMPERATURES).map(|step| (-5.0 + 8.0 * step as f64 / (TEMPERATURES - 1) as f64).exp());
    let best = candidates.map(|temperature| (unlikely(temperature), temperature)).min_by(|a, b| a.0.total_cmp(&b.0));
    let temperature = best.map_or(1.0, |best| best.1);
    let probabilities = rows().flat_map(|(row, _)| log_softmax(row, temperature)).map(f64::exp).collect();
    OutOfSample { classes, probabilities, penalty: ridge.l2, temperature }
}

/// The part that each image belongs to: those of a class are dealt out in turn, each class beginning where the one before
/// ended.
fn folds_of(known: &Features, order: &[usize], folds: usize) -> Vec<usize> {
    let mut by_class = order.to_vec();
    by_class.sort_by_key(|&image| known.labels()[image]);
    let mut fold_of = vec![0; known.len()];
    by_class.iter().enumerate().for_each(|(place, &image)| fold_of[image] = place % folds);
    fold_of
}

fn log_softmax(scores: &[f64], temperature: f64) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| ((score - most) / temperature).exp()).sum();
    scores.iter().map(|score| (score - most) / temperature - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_judged_by_the_others() {
        // Two classes on either side of zero; image 3 has the wrong label.
        let values: Vec<f32> =
            (0..40).flat_map(|i| [if i % 2 == 0 { 1.0 } else { -1.0 }, (i * 7 % 5) as f32 / 10.0]).collect();
        let mut labels: Vec<usize> = (0..40).map(|i| i % 2).collect();
        labels[3] = 0;
        let found = out_of_sample(&Features::new(values, 2, labels, 2), 5, 0);
        let wrong = found.of(3)[0];
        assert!(wrong < 0.2, "{found:?}");
        assert!((0..40).filter(|&i| i != 3).all(|i| found.of(i)[i % 2] > 0.5), "{found:?}");
        assert!((0..40).all(|i| (found.of(i).iter().sum::<f64>() - 1.0).abs() < 1e-9));
    }

    #[test]
    fn classes_are_in_all_folds_in_proportion() {
        let labels: Vec<usize> = (0..50).map(|i| usize::from(i >= 10)).collect();
        let known = Features::new(vec![0.0; 50], 1, labels.clone(), 2);
        let folds = folds_of(&known, &shuffled(50, 3, 0), 5);
        for fold in 0..5 {
            let of_class = |class| (0..50).filter(|&i| folds[i] == fold && labels[i] == class).count();
            assert_eq!((of_class(0), of_class(1)), (2, 8));
        }
    }
}
