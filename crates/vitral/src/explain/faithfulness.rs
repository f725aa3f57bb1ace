//! How faithful a map is to the model.
//!
//! *Deletion* hides patches, the most important first, and measures how the score falls; *insertion* starts from a
//! blurred image and reveals them (Petsiuk et al., arXiv:1806.07421). A good map has a small area under the first curve
//! and a large one under the second. The *sanity check* (Adebayo et al., arXiv:1810.03292) computes the same map for a
//! model whose weights are shuffled: a map that stays the same does not show what was learned.

use std::borrow::Cow;
use std::collections::BTreeMap;

use vitral_engine::Tensor;
use vitral_engine::random::mix;

use super::perturb::scores;
use super::{InputImage, Map, Method, Progress, Target};
use crate::error::Error;
use crate::load::Model;

/// Scores as patches are hidden or revealed, in equal steps from none to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// `[steps + 1]`.
    pub scores: Vec<f64>,
}

impl Curve {
    /// The area under the curve, with the fraction of patches from 0 to 1 (trapezoidal rule).
    pub fn area(&self) -> f64 {
        let steps = self.scores.len().saturating_sub(1).max(1);
        self.scores.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>() / steps as f64
    }
}

/// Both curves of a map. Maps over pixels are averaged over patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Faithfulness {
    /// Scores as patches are hidden, the most important first.
    pub deletion: Curve,
    /// Scores as patches are revealed over a blurred image, the most important first.
    pub insertion: Curve,
}

/// Evaluates a map in `steps` steps.
///
/// # Errors
/// Those of [`Model::run`].
pub fn faithfulness(
    model: &Model,
    input: &InputImage,
    target: &Target,
    map: &Map,
    steps: usize,
    progress: Progress<'_>,
) -> Result<Faithfulness, Error> {
    let layout = &input.layout;
    let (grid, size) = (layout.grid, layout.image);
    let map = if map.size == grid { Cow::Borrowed(map) } else { Cow::Owned(map.pooled(grid)) };
    let mut rank = vec![0; grid.area()];
    map.order().into_iter().enumerate().for_each(|(place, patch)| rank[patch] = place);
    let blurred = blurred(&input.pixels, layout.stride)?;
    let count = |step: usize| grid.area() * step / steps;
    let swapped = |step: usize, out: &mut [f32], other: Option<&[f32]>, inside: bool| {
        for (channel, plane) in out.chunks_exact_mut(size.area()).enumerate() {
            for (place, pixel) in plane.iter_mut().enumerate() {
                let row = (place / size.width / layout.stride.height).min(grid.height - 1);
                let column = (place % size.width / layout.stride.width).min(grid.width - 1);
                if (rank[row * grid.width + column] < count(step)) == inside {
                    *pixel = other.map_or(0.0, |other| other[channel * size.area() + place]);
                }
            }
        }
    };
    let deletion =
        scores(model, &input.pixels, target, steps + 1, progress, |step, out| swapped(step, out, None, true))?;
    let insertion = scores(model, &input.pixels, target, steps + 1, progress, |step, out| {
        swapped(step, out, Some(&blurred), false);
    })?;
    Ok(Faithfulness { deletion: Curve { scores: deletion }, insertion: Curve { scores: insertion } })
}

/// How to read the numbers of a [`Ranking`], a line each.
pub const READING: [&str; 4] = [
    "Deletion: the mean score while patches are hidden, the most important first; smaller is better.",
    "Insertion: the mean score while they are revealed over a blurred image; larger is better.",
    "Shuffled: rank correlation (-1 to 1) with the map of the model with shuffled weights; near 0 is better.",
    "The random map is the baseline: a map that is no better does not show what the model uses.",
];

/// Mean faithfulness of each map over images.
#[derive(Clone, Debug, Default)]
pub struct Ranking(BTreeMap<(Method, String), Sums>);

#[derive(Clone, Debug, Default)]
struct Sums {
    images: usize,
    deletion: Vec<f64>,
    insertion: Vec<f64>,
    shuffled: f64,
}

/// One map's results in the ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The method.
    pub method: Method,
    /// The map's name: that of the method, and the layer and head if there are several.
    pub name: String,
    /// Number of images it was evaluated on.
    pub images: usize,
    /// The mean area under the deletion curves; smaller is better.
    pub deletion: f64,
    /// The mean area under the insertion curves; larger is better.
    pub insertion: f64,
    /// The mean rank correlation with the maps of the shuffled model; near 0 is better.
    pub shuffled: f64,
    /// The mean curves.
    pub curves: Faithfulness,
}

impl Ranking {
    /// Adds the results for one image under the map's name; `shuffled` is the rank correlation with the map of the
    /// shuffled model.
    pub fn add(&mut self, method: Method, name: &str, found: &Faithfulness, shuffled: f64) {
        let sums = self.0.entry((method, name.to_owned())).or_default();
        sums.images += 1;
        sums.shuffled += shuffled;
        for (sums, curve) in [(&mut sums.deletion, &found.deletion), (&mut sums.insertion, &found.insertion)] {
            sums.resize(curve.scores.len(), 0.0);
            sums.iter_mut().zip(&curve.scores).for_each(|(sum, score)| *sum += score);
        }
    }

    /// The maps in order of increasing deletion area.
    pub fn rows(&self) -> Vec<Place> {
        let place = |((method, name), sums): (&(Method, String), &Sums)| {
            let mean = |scores: &[f64]| Curve { scores: scores.iter().map(|sum| sum / sums.images as f64).collect() };
            let curves = Faithfulness { deletion: mean(&sums.deletion), insertion: mean(&sums.insertion) };
            let (deletion, insertion) = (curves.deletion.area(), curves.insertion.area());
            Place {
                method: *method,
                name: name.clone(),
                images: sums.images,
                deletion,
                insertion,
                shuffled: sums.shuffled / sums.images as f64,
                curves,
            }
        };
        let mut rows: Vec<Place> = self.0.iter().map(place).collect();
        rows.sort_by(|a, b| a.deletion.total_cmp(&b.deletion));
        rows
    }
}

/// The image after three box blurs about three patches wide, which is close to a Gaussian blur.
fn blurred(pixels: &Tensor, stride: crate::config::Size) -> Result<Vec<f32>, Error> {
    let [_, channels, height, width] = pixels.shape()[..] else { unreachable!("pixels have four dimensions") };
    let mut values = pixels.to_vec()?;
    for plane in values.chunks_exact_mut(height * width).take(channels) {
        for _ in 0..3 {
            for row in plane.chunks_exact_mut(width) {
                let means = running_means(row, stride.width);
                row.copy_from_slice(&means);
            }
            for column in 0..width {
                let values: Vec<f32> = plane.iter().skip(column).step_by(width).copied().collect();
                for (row, mean) in running_means(&values, stride.height).into_iter().enumerate() {
                    plane[row * width + column] = mean;
                }
            }
        }
    }
    Ok(values)
}

/// Means over up to `radius` neighbors on either side.
fn running_means(values: &[f32], radius: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64];
    values.iter().for_each(|x| sums.push(sums[sums.len() - 1] + f64::from(*x)));
    let mean = |i: usize| {
        let (first, end) = (i.saturating_sub(radius), (i + radius + 1).min(values.len()));
        ((sums[end] - sums[first]) / (end - first) as f64) as f32
    };
    (0..values.len()).map(mean).collect()
}

/// The same model with the values of every parameter shuffled, which destroys what it learned and nothing else.
///
/// # Errors
/// None for a model that has been built before.
pub fn shuffled(model: &Model, seed: u64) -> Result<Model, Error> {
    model.with_weights(|spec| {
        let id = model.parameters.declarations().find(&spec.name).expect("a parameter of the same model");
        let mut values = model.parameters.read(id)?;
        let mut state = spec.name.bytes().fold(mix(seed + 1), |state, byte| mix(state ^ u64::from(byte)));
        for last in (1..values.len()).rev() {
            state = mix(state);
            values.swap(last, (state % (last as u64 + 1)) as usize);
        }
        Ok(values.into())
    })
}

/// Spearman's rank correlation of two maps of the same size, from −1 to 1; 0 if either is constant.
pub fn rank_correlation(a: &Map, b: &Map) -> f64 {
    let (a, b) = (ranks(&a.values), ranks(&b.values));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (inner(&a, &a) * inner(&b, &b)).sqrt();
    if spread > 0.0 { inner(&a, &b) / spread } else { 0.0 }
}

/// The rank of every value; ties share the mean of their ranks.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let alike = order[first..].iter().take_while(|&&i| values[i] == values[order[first]]).count();
        let rank = first as f64 + (alike as f64 - 1.0) / 2.0;
        order[first..first + alike].iter().for_each(|&i| ranks[i] = rank);
        first += alike;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn areas_follow_the_trapezoidal_rule() {
        assert_eq!(Curve { scores: vec![1.0, 0.5, 0.0] }.area(), 0.5);
        assert_eq!(Curve { scores: vec![1.0, 0.0, 0.0] }.area(), 0.25);
    }

    #[test]
    fn ranks_correlate_whatever_the_scale() {
        let map = |values: [f32; 4]| Map::new(Size::square(2), values.to_vec());
        assert!((rank_correlation(&map([1.0, 2.0, 3.0, 4.0]), &map([0.1, 5.0, 6.0, 100.0])) - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&map([1.0, 2.0, 3.0, 4.0]), &map([4.0, 3.0, 2.0, 1.0])) + 1.0).abs() < 1e-12);
        assert_eq!(rank_correlation(&map([1.0; 4]), &map([4.0, 3.0, 2.0, 1.0])), 0.0);
        assert_eq!(ranks(&[2.0, 1.0, 2.0, 5.0]), [1.5, 0.0, 1.5, 3.0]);
    }

    #[test]
    fn blur_keeps_constant_images() {
        assert_eq!(running_means(&[1.0, 2.0, 6.0], 1), [1.5, 3.0, 4.0]);
    }
}
