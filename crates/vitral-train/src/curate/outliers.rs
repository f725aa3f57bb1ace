//! Images unlike all others.

use serde::Serialize;
use vitral::Device;
use vitral::search::{Flat, Index, SearchError};

/// An image far from its nearest neighbors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// Its row in the index.
    #[serde(skip)]
    pub row: usize,
    /// Its name.
    pub image: String,
    /// Its label.
    pub label: Option<String>,
    /// The mean of 1 − cosine to its nearest neighbors.
    pub distance: f64,
    /// How many deviations that is beyond the median of all images: the deviation is 1.4826 times the median distance from
    /// the median, which is the standard deviation if distances are normally distributed.
    pub deviations: f64,
    /// The nearest image.
    pub nearest: String,
}

/// Deviations beyond the median from which an image counts as an outlier.
const FAR: f64 = 3.5;

/// Finds the images that are unusually far from their `count` nearest neighbors, the farthest first. `advance` is told how
/// many are done.
///
/// # Errors
/// If the device fails.
pub fn outliers(
    index: &Index,
    count: usize,
    device: &Device,
    advance: &mut dyn FnMut(usize),
) -> Result<Vec<Outlier>, SearchError> {
    let flat = Flat::new(index.features(), index.width(), device)?;
    let neighbors = flat.neighbors(index.features(), count.max(1), advance)?;
    let mean = |hits: &Vec<vitral::search::Hit>| {
        hits.iter().map(|hit| 1.0 - f64::from(hit.cosine)).sum::<f64>() / hits.len().max(1) as f64
    };
    let distances: Vec<f64> = neighbors.iter().map(mean).collect();
    let middle = median(distances.clone());
    let deviation = 1.4826 * median(distances.iter().map(|distance| (distance - middle).abs()).collect());
    let mut found: Vec<Outlier> = Vec::new();
    for (row, &distance) in distances.iter().enumerate() {
        let deviations = (distance - middle) / deviation.max(1e-9);
        if deviations < FAR {
            continue;
        }
        let Some(nearest) = neighbors[row].first() else { continue };
        let entry = &index.entries()[row];
        found.push(Outlier {
            row,
            image: entry.name.clone(),
            label: entry.label.clone(),
            distance,
            deviations,
            nearest: index.entries()[nearest.row].name.clone(),
        });
    }
    found.sort_by(|a, b| b.distance.total_cmp(&a.distance).then(a.row.cmp(&b.row)));
    Ok(found)
}

fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
