//! Mean and standard deviation of a data set's channels.

use std::num::NonZero;

use vitral::image::Preprocess;
use vitral::image::statistics::BandStatistics;
use vitral::pipeline::ahead;

use super::Dataset;
use crate::error::TrainError;

/// The mean and the standard deviation of every channel over all images of a set, in the numbers that `preprocess` normalizes;
/// and what is wrong with those that could not be read. The bits do not depend on the number of threads.
///
/// # Errors
/// If no image can be read.
pub fn statistics(
    dataset: &dyn Dataset,
    preprocess: &Preprocess,
    threads: NonZero<usize>,
) -> Result<(BandStatistics, Vec<String>), TrainError> {
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let mut found = BandStatistics::new(preprocess);
    let mut faults = Vec::new();
    let read = |&index: &usize| dataset.image_for(index, preprocess.channels);
    ahead(&indices, threads, read, |images| {
        for image in images {
            let added = image.and_then(|image| Ok(found.add(&image).map_err(vitral::Error::from)?));
            faults.extend(added.err().map(|fault| fault.to_string()));
        }
    });
    match (found.images(), faults.first()) {
        (0, Some(first)) => Err(super::fault(
            std::path::Path::new(&dataset.name(0)),
            format!("expected images that can be read, found none; the first: {first}"),
            "check the paths, or replace the files",
        )),
        _ => Ok((found, faults)),
    }
}
