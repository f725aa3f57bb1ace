//! Linear classifiers in closed form.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Features, accuracy, cholesky};

/// Least squares with targets of −1 and 1 and an L2 penalty, over scaled features and a constant. The default is the
/// few-shot evaluation of the ViT paper as in big_vision's `fewshot_lsr`: whitened, with a penalty of 2^10.
///
/// That penalty is strong if there are few images: [`Ridge::chosen`] finds a better one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ridge {
    /// The penalty.
    pub l2: f64,
    /// The constant feature; so large that its weight is hardly penalized.
    pub bias: f64,
    /// How features are scaled first.
    pub scaling: Scaling,
}

impl Default for Ridge {
    fn default() -> Self {
        Ridge { l2: 1024.0, bias: 100.0, scaling: Scaling::Whiten }
    }
}

/// How features are scaled before a classifier is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Each feature to mean 0 and standard deviation 1.
    Whiten,
    /// Each image's features to a vector of norm 1.
    UnitLength,
}

/// A linear classifier of features.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearProbe {
    width: usize,
    scaling: Scaling,
    /// `[width, classes]`.
    weights: Vec<f64>,
    offsets: Vec<f64>,
}

impl Ridge {
    /// Penalties to choose from, for whitened features.
    pub const PENALTIES: [f64; 11] = [0.01, 0.1, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

    /// Fits a classifier.
    ///
    /// # Panics
    /// If there are no features, or the penalty is not positive.
    pub fn fit(&self, known: &Features) -> LinearProbe {
        let scaled = match self.scaling {
            Scaling::Whiten => None,
            Scaling::UnitLength => Some(known.of_unit_length()),
        };
        let known = scaled.as_ref().unwrap_or(known);
        let (count, width, classes) = (known.len(), known.width(), known.classes());
        assert!(count > 0 && self.l2 > 0.0, "features to fit, and a penalty");
        let wide = width + 1;
        let (mean, deviation) = self.moments(known);
        let x = self.scaled(known, &mean, &deviation);
        let target = |index: usize, class: usize| if known.labels()[index] == class { 1.0 } else { -1.0 };
        let solved = if count >= wide {
            // (XᵀX + λ)⁻¹ XᵀY
            let columns = transposed(&x, count, wide);
            let mut gram = gram(&columns, wide, count, self.l2);
            let row = |at: usize| {
                let column = &columns[at * count..][..count];
                (0..classes).map(move |class| (0..count).map(|i| column[i] * target(i, class)).sum::<f64>())
            };
            let mut weights: Vec<f64> = (0..wide).flat_map(row).collect();
            cholesky::solve(&mut gram, wide, &mut weights, classes).map(|()| weights)
        } else {
            // Xᵀ (XXᵀ + λ)⁻¹ Y
            let mut gram = gram(&x, count, wide, self.l2);
            let mut dual: Vec<f64> = (0..count).flat_map(|i| (0..classes).map(move |class| target(i, class))).collect();
            cholesky::solve(&mut gram, count, &mut dual, classes).map(|()| {
                let mut weights = vec![0.0; wide * classes];
                for index in 0..count {
                    for (at, value) in x[index * wide..][..wide].iter().enumerate() {
                        let dual = &dual[index * classes..][..classes];
                        weights[at * classes..][..classes].iter_mut().zip(dual).for_each(|(w, d)| *w += value * d);
                    }
                }
                weights
            })
        };
        let mut weights = solved.expect("a penalized system of finite features is positive");
        let mut offsets: Vec<f64> = weights[width * classes..].iter().map(|weight| weight * self.bias).collect();
        weights.truncate(width * classes);
        // Whitening is folded into the weights, so that the probe takes unscaled features.
        for (at, row) in weights.chunks_exact_mut(classes).enumerate() {
            for (weight, offset) in row.iter_mut().zip(&mut offsets) {
                *weight /= deviation[at];
                *offset -= *weight * mean[at];
            }
        }
        LinearProbe { width, scaling: self.scaling, weights, offsets }
    }

    fn moments(&self, known: &Features) -> (Vec<f64>, Vec<f64>) {
        match self.scaling {
            Scaling::Whiten => moments(known),
            Scaling::UnitLength => (vec![0.0; known.width()], vec![1.0; known.width()]),
        }
    }

    /// Scaled features and the constant, `[features, width + 1]`.
    fn scaled(&self, known: &Features, mean: &[f64], deviation: &[f64]) -> Vec<f64> {
        let white = |index: usize| {
            let row = known.row(index).iter().enumerate();
            row.map(|(at, &value)| (f64::from(value) - mean[at]) / deviation[at]).chain([self.bias])
        };
        (0..known.len()).flat_map(white).collect()
    }

    /// The candidate with the least squared leave-one-out error, in closed form. Useful if there are too few features
    /// to split. The cost grows with the cube of their number.
    ///
    /// # Panics
    /// If there are no candidates.
    pub fn chosen_leaving_one_out(known: &Features, candidates: &[Ridge]) -> Ridge {
        let errors: Vec<f64> = candidates.par_iter().map(|ridge| ridge.error_leaving_one_out(known)).collect();
        let best = candidates.iter().zip(errors).min_by(|a, b| a.1.total_cmp(&b.1));
        *best.expect("candidates").0
    }

    fn error_leaving_one_out(&self, known: &Features) -> f64 {
        let (count, classes) = (known.len(), known.classes());
        let unit = (self.scaling == Scaling::UnitLength).then(|| known.of_unit_length());
        let known = unit.as_ref().unwrap_or(known);
        let (mean, deviation) = self.moments(known);
        let mut system = gram(&self.scaled(known, &mean, &deviation), count, known.width() + 1, self.l2);
        let target = |index: usize, class: usize| if known.labels()[index] == class { 1.0 } else { -1.0 };
        // The inverse and (K + λ)⁻¹ Y side by side; their quotient is the leave-one-out error.
        let columns = count + classes;
        let row = |i: usize| {
            (0..columns).map(move |j| if j < count { f64::from(u8::from(i == j)) } else { target(i, j - count) })
        };
        let mut solved: Vec<f64> = (0..count).flat_map(row).collect();
        if cholesky::solve(&mut system, count, &mut solved, columns).is_none() {
            return f64::INFINITY;
        }
        let missed = |i: usize| {
            let row = &solved[i * columns..][..columns];
            row[count..].iter().map(|dual| (dual / row[i]).powi(2)).sum::<f64>()
        };
        (0..count).map(missed).sum()
    }

    /// The penalty among `candidates` whose classifier is best on a validation fifth of the features; the largest of
    /// equal ones. With fewer than two features, `self` is returned.
    #[must_use]
    pub fn chosen(self, known: &Features, candidates: &[f64], seed: u64) -> Self {
        if known.len() < 2 {
            return self;
        }
        let order = crate::data::shuffled(known.len(), seed, 0);
        let (held, rest) = order.split_at((known.len() / 5).max(1).min(known.len() - 1));
        let (held, rest) = (known.select(held), known.select(rest));
        let score = |l2: f64| {
            let ridge = Ridge { l2, ..self };
            (accuracy(&ridge.fit(&rest).classify(&held), held.labels()), l2)
        };
        let best = candidates.iter().map(|&l2| score(l2)).max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        best.map_or(self, |(_, l2)| Ridge { l2, ..self })
    }
}

impl LinearProbe {
    /// A score for every class, `[features, classes]`.
    ///
    /// # Panics
    /// If the features have another width.
    pub fn scores(&self, features: &Features) -> Vec<f64> {
        assert_eq!(features.width(), self.width, "features of the fitted width");
        let scaled = (self.scaling == Scaling::UnitLength).then(|| features.of_unit_length());
        let score = |index: usize| {
            let mut scores = self.offsets.clone();
            let features = scaled.as_ref().unwrap_or(features);
            for (&value, weights) in features.row(index).iter().zip(self.weights.chunks_exact(scores.len())) {
                scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += f64::from(value) * weight);
            }
            scores
        };
        (0..features.len()).into_par_iter().flat_map_iter(score).collect()
    }

    /// The class of each feature vector.
    pub fn classify(&self, features: &Features) -> Vec<usize> {
        let scores = self.scores(features);
        let best =
            |row: &[f64]| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        scores.chunks_exact(self.offsets.len()).map(best).collect()
    }

    /// As a linear layer: weights `[classes, width]` and biases. With [`Scaling::UnitLength`], features must be
    /// normalized first.
    pub fn layer(&self) -> (Vec<f32>, Vec<f32>) {
        let weights = transposed(&self.weights, self.width, self.offsets.len());
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        (narrow(&weights), narrow(&self.offsets))
    }
}

/// Mean and standard deviation of every feature; the latter slightly enlarged, to avoid division by zero.
fn moments(features: &Features) -> (Vec<f64>, Vec<f64>) {
    let count = features.len() as f64;
    let mut mean = vec![0.0; features.width()];
    for index in 0..features.len() {
        mean.iter_mut().zip(features.row(index)).for_each(|(sum, &value)| *sum += f64::from(value) / count);
    }
    let mut variance = vec![0.0; features.width()];
    for index in 0..features.len() {
        for ((sum, &value), mean) in variance.iter_mut().zip(features.row(index)).zip(&mean) {
            *sum += (f64::from(value) - mean).powi(2) / count;
        }
    }
    (mean, variance.into_iter().map(|variance| variance.sqrt() + 1e-5).collect())
}

fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
}

/// `M · Mᵀ + l2` for `M` `[size, length]`; only the lower triangle.
fn gram(rows: &[f64], size: usize, length: usize, l2: f64) -> Vec<f64> {
    let mut gram = vec![0.0; size * size];
    gram.par_chunks_exact_mut(size).enumerate().for_each(|(i, out)| {
        for (j, value) in out[..=i].iter_mut().enumerate() {
            *value = cholesky::dot(&rows[i * length..][..length], &rows[j * length..][..length]);
        }
        out[i] += l2;
    });
    gram
}
