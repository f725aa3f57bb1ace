//! Agreement of ranks in a run: what one does for all, and what one knows and tells all.

use serde::Serialize;
use serde::de::DeserializeOwned;
use vitral_ranks::{Failed, Ranks, RanksError};

use crate::error::TrainError;

/// Goes on if all ranks are well.
///
/// # Errors
/// This rank's own error, or a word of another's.
pub(crate) fn agree<T>(ranks: &Ranks, result: Result<T, TrainError>) -> Result<T, TrainError> {
    ranks.agree(result).map_err(Failed::into_error)
}

/// Does something on the first rank only, where all wait for it; what it gives is nothing on the others.
///
/// # Errors
/// As [`agree`].
pub(crate) fn on_first<T>(
    ranks: &Ranks,
    work: impl FnOnce() -> Result<T, TrainError>,
) -> Result<Option<T>, TrainError> {
    agree(ranks, if ranks.is_first() { work().map(Some) } else { Ok(None) })
}

/// Bytes that the first rank has, on all of them.
///
/// # Errors
/// As [`agree`].
pub(crate) fn bytes_from_first(
    ranks: &Ranks,
    work: impl FnOnce() -> Result<Vec<u8>, TrainError>,
) -> Result<Vec<u8>, TrainError> {
    let bytes = if ranks.is_first() { work() } else { Ok(Vec::new()) };
    ranks.broadcast_if_well(bytes).map_err(Failed::into_error)
}

/// Something that the first rank knows, on all of them.
///
/// # Errors
/// As [`agree`].
pub(crate) fn from_first<T: Serialize + DeserializeOwned>(
    ranks: &Ranks,
    work: impl FnOnce() -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    if !ranks.is_several() {
        return work();
    }
    let bytes = bytes_from_first(ranks, || Ok(serde_json::to_vec(&work()?).expect("plain data")))?;
    parsed(&bytes)
}

/// What every rank has, in their order.
///
/// # Errors
/// As [`agree`].
pub(crate) fn gather<T: Serialize + DeserializeOwned>(ranks: &Ranks, own: &T) -> Result<Vec<T>, TrainError> {
    let bytes = Ok::<_, TrainError>(serde_json::to_vec(own).expect("plain data"));
    let all = ranks.gather_if_well(bytes).map_err(Failed::into_error)?;
    all.iter().map(|bytes| parsed(bytes)).collect()
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TrainError> {
    let strange = |fault: serde_json::Error| RanksError::Elsewhere {
        rank: 0,
        message: format!("ranks run different versions of this program ({fault})"),
    };
    Ok(serde_json::from_slice(bytes).map_err(strange)?)
}
