//! The data-size study of the ViT paper (arXiv:2010.11929, figure 4): accuracy as a function of the amount of training
//! data.

mod cell;
mod curve;

use crate::error::TrainError;
use crate::journal::Journal;

pub use cell::Cell;

/// Writes a study's cells to `study.json`, `study.csv` and `study.svg`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &std::path::Path, cells: &[Cell]) -> Result<(), TrainError> {
    let json = serde_json::to_string_pretty(cells).expect("plain data") + "\n";
    let mut table = csv::Writer::from_writer(Vec::new());
    let path = folder.join("study.csv");
    let failed = |error: csv::Error| TrainError::file(&path, "writing the study's table")(error.into());
    cells.iter().try_for_each(|cell| table.serialize(cell)).map_err(failed)?;
    let table = table.into_inner().map_err(|error| failed(error.into_error().into()))?;
    for (name, bytes) in
        [("study.json", json.as_bytes()), ("study.csv", &table[..]), ("study.svg", curve::curve(cells).as_bytes())]
    {
        let path = folder.join(name);
        vitral::atomic::write(&path, bytes).map_err(TrainError::file(&path, "writing the study's results"))?;
    }
    Ok(())
}

/// The result of a run: the accuracy in its report (or without one, that of its best epoch), the best epoch, and the
/// duration of the run in seconds.
///
/// # Errors
/// If the journal cannot be read.
pub fn best(folder: &std::path::Path) -> Result<Option<(f64, u64, f64)>, TrainError> {
    let entries = Journal::read(folder)?;
    let evaluated = entries.iter().filter_map(|entry| Some((entry.validation_accuracy?, entry.epoch)));
    let best = evaluated.reduce(|best, next| if best.0 >= next.0 { best } else { next });
    let seconds = entries.last().map_or(0.0, |entry| entry.seconds);
    Ok(best.map(|(accuracy, epoch)| {
        // Of equal accuracies, the loss decides, which the report knows.
        let epoch = crate::report::best_epoch(folder).unwrap_or(epoch);
        (crate::report::measure(folder).unwrap_or(accuracy), epoch, seconds)
    }))
}
