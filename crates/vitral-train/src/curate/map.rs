//! Images as points of a plane: principal components, and t-SNE.
//!
//! Both look at vectors of length 1, so that what they show is what search finds. Nothing is drawn at random: t-SNE begins
//! with the principal components, and the neighbors are exact.

use bhtsne::{Neighbor, tSNE};
use rayon::prelude::*;
use vitral::Device;
use vitral::search::{Flat, Index, SearchError};

use crate::evaluate::Features;

/// How points are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The two directions in which the features vary most.
    #[default]
    Pca,
    /// t-distributed stochastic neighbor embedding (van der Maaten & Hinton 2008): neighbors stay neighbors, and distances
    /// between groups mean little.
    Tsne,
}

/// Images in a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// x and y of each image.
    pub points: Vec<[f32; 2]>,
    /// The part of the features' variance that each of the two principal components holds.
    pub variance: [f64; 2],
}

/// The number of neighbors that t-SNE looks at, in effect; a third of all images where there are fewer.
pub const PERPLEXITY: f32 = 30.0;
/// Above this number of points, forces are interpolated on a grid (FIt-SNE), whose cost hardly grows with the number; below,
/// they are summed over a tree (Barnes & Hut).
const MANY: usize = 20_000;
/// How much a tree may be simplified; the usual value.
const THETA: f32 = 0.5;
/// The deviation of the points that t-SNE begins with: small, as in its paper.
const START: f64 = 1e-4;

/// Puts the images of an index into a plane. `advance` is told how many images' neighbors are found.
///
/// # Errors
/// If the device fails.
pub fn map(index: &Index, method: Method, device: &Device, advance: &mut dyn FnMut(usize)) -> Result<Map, SearchError> {
    let count = index.len();
    let all = Features::new(index.features().to_vec(), index.width(), vec![0; count], 1).of_unit_length();
    let (components, variance) = principal(&all);
    drop(all);
    // Fewer points have no neighborhoods.
    if method == Method::Pca || count < 5 {
        let points = components.iter().map(|&[x, y]| [x as f32, y as f32]).collect();
        return Ok(Map { points, variance });
    }
    let perplexity = PERPLEXITY.min((count - 1) as f32 / 3.0);
    let near = ((3.0 * perplexity) as usize).clamp(1, count - 1);
    let flat = Flat::new(index.features(), index.width(), device)?;
    let neighbors = flat.neighbors(index.features(), near, advance)?;
    drop(flat);
    let apart = |cosine: f32| (2.0 - 2.0 * cosine).max(0.0).sqrt();
    let neighbors: Vec<Vec<Neighbor<f32>>> = neighbors
        .into_iter()
        .map(|hits| hits.into_iter().map(|hit| Neighbor { index: hit.row, distance: apart(hit.cosine) }).collect())
        .collect();
    let widest = (components.iter().map(|point| point[0].powi(2)).sum::<f64>() / count as f64).sqrt().max(1e-12);
    let start: Vec<f32> = components.iter().flatten().map(|value| (START * value / widest) as f32).collect();
    let fit = || {
        let nothing = vec![(); count];
        let mut fit = tSNE::<f32, (), 2>::new(&nothing);
        fit.perplexity(perplexity).initial_embedding(start);
        match count > MANY {
            true => fit.fit_sne_with_neighbors(&neighbors).embedding(),
            false => fit.barnes_hut_with_neighbors(THETA, &neighbors).embedding(),
        }
    };
    // On several threads, it adds in the order in which they happen to end, and small differences grow.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let values = match alone {
        Ok(alone) => alone.install(fit),
        Err(_) => fit(),
    };
    Ok(Map { points: values.as_chunks::<2>().0.to_vec(), variance })
}

/// Rows that are added to the covariance at a time.
const ROWS: usize = 256;
/// Directions that are followed together: more than two, so that the first two are found fast.
const DIRECTIONS: usize = 8;
/// Rounds of the iteration, at most.
const ROUNDS: usize = 500;

/// The first two principal components of each vector, and their parts of the variance.
fn principal(all: &Features) -> (Vec<[f64; 2]>, [f64; 2]) {
    let (count, width) = (all.len(), all.width());
    let mut mean = vec![0.0; width];
    for row in 0..count {
        mean.iter_mut().zip(all.row(row)).for_each(|(sum, &value)| *sum += f64::from(value) / count as f64);
    }
    let centered = |row: usize| all.row(row).iter().zip(&mean).map(|(&value, mean)| f64::from(value) - mean);
    let mut covariance = vec![0.0; width * width];
    for first in (0..count).step_by(ROWS) {
        let some: Vec<f64> = (first..(first + ROWS).min(count)).flat_map(centered).collect();
        covariance.par_chunks_exact_mut(width).enumerate().for_each(|(at, sums)| {
            for row in some.chunks_exact(width) {
                let own = row[at];
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += own * value);
            }
        });
    }
    let trace: f64 = (0..width).map(|at| covariance[at * width + at]).sum();
    let directions = leading(&covariance, width, DIRECTIONS.min(width));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let variance = [0, 1].map(|which| {
        let Some(direction) = directions.get(which) else { return 0.0 };
        let moved: Vec<f64> = covariance.chunks_exact(width).map(|row| dot(row, direction)).collect();
        if trace > 0.0 { dot(&moved, direction) / trace } else { 0.0 }
    });
    let point = |row: usize| {
        let values: Vec<f64> = centered(row).collect();
        [0, 1].map(|which| directions.get(which).map_or(0.0, |direction| dot(&values, direction)))
    };
    ((0..count).map(point).collect(), variance)
}

/// The leading eigenvectors of a symmetric matrix `[size, size]` without negative eigenvalues, by iteration of a subspace.
/// The largest number of each is positive, so that a map is not mirrored by chance.
fn leading(matrix: &[f64], size: usize, count: usize) -> Vec<Vec<f64>> {
    // Directions without structure, the same every time.
    let start = |direction: usize| {
        (0..size)
            .map(move |at| (1.0 + ((at + 1) * (2 * direction + 3)) as f64 * 0.618_033_988_749_894_9).sin())
            .collect()
    };
    let mut directions: Vec<Vec<f64>> = (0..count).map(start).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let orthonormal = |directions: &mut Vec<Vec<f64>>| {
        for at in 0..directions.len() {
            let (before, from) = directions.split_at_mut(at);
            let own = &mut from[0];
            // Twice, because rounding leaves a part of what is taken away.
            for other in before.iter().chain(before.iter()) {
                let along = dot(own, other);
                own.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
            let length = dot(own, own).sqrt();
            own.iter_mut().for_each(|value| *value = if length > 1e-300 { *value / length } else { 0.0 });
        }
    };
    orthonormal(&mut directions);
    for _ in 0..ROUNDS {
        let mut moved: Vec<Vec<f64>> = directions
            .par_iter()
            .map(|direction| matrix.chunks_exact(size).map(|row| dot(row, direction)).collect())
            .collect();
        orthonormal(&mut moved);
        let still = moved.iter().zip(&directions).take(2).all(|(new, old)| 1.0 - dot(new, old).abs() < 1e-14);
        directions = moved;
        if still {
            break;
        }
    }
    for direction in &mut directions {
        let largest =
            direction.iter().copied().fold(0.0, |most: f64, value| if value.abs() > most.abs() { value } else { most });
        if largest < 0.0 {
            direction.iter_mut().for_each(|value| *value = -*value);
        }
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_components_are_the_directions_of_the_largest_variance() {
        // Along (3, 4, 0)/5 with deviation 2, along (0, 0, 1) with 1, and nothing else.
        let values: Vec<f32> = (0..200)
            .flat_map(|i| {
                let (a, b) = (2.0 * ((i as f32) * 0.7).sin(), ((i as f32) * 1.3).cos());
                [0.6 * a + 5.0, 0.8 * a, b]
            })
            .collect();
        let (points, variance) = principal(&Features::new(values.clone(), 3, vec![0; 200], 1));
        assert!(variance[0] > 0.75 && (variance[0] + variance[1] - 1.0).abs() < 1e-9, "{variance:?}");
        let distance = |a: [f64; 2], b: [f64; 2]| ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt();
        let original = |i: usize, j: usize| {
            let row = |i: usize| &values[3 * i..3 * i + 3];
            row(i).iter().zip(row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        for (i, j) in [(0, 1), (3, 77), (120, 199)] {
            assert!((distance(points[i], points[j]) - original(i, j)).abs() < 1e-5, "{i} {j}");
        }
        // Equal vectors, one vector and none are points all the same.
        for count in [3, 1, 0] {
            let (points, variance) = principal(&Features::new(vec![1.0; count * 2], 2, vec![0; count], 1));
            assert_eq!((points.len(), variance), (count, [0.0; 2]));
            assert!(points.iter().flatten().all(|value| *value == 0.0), "{points:?}");
        }
    }
}
