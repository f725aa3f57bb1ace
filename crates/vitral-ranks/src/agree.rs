//! Agreement of ranks on whether to go on.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::error::RanksError;
use crate::ranks::Ranks;

/// Why ranks do not go on.
#[derive(Debug)]
pub enum Failed<E> {
    /// This rank's own error.
    Here(E),
    /// Another's, or the exchange failed.
    Elsewhere(RanksError),
}

impl<E: From<RanksError>> Failed<E> {
    /// The error, whoever's it is.
    pub fn into_error(self) -> E {
        match self {
            Failed::Here(error) => error,
            Failed::Elsewhere(error) => error.into(),
        }
    }
}

/// Before what a rank gives: it is well, or what follows is its error.
const WELL: u8 = 0;
const FAILED: u8 = 1;

impl Ranks {
    /// Goes on if all ranks are well. If one has failed, all fail: it with its own error, the others with a word of it.
    ///
    /// # Errors
    /// This rank's own error; that of another; or if the exchange fails.
    pub fn agree<T, E: fmt::Display>(&self, result: Result<T, E>) -> Result<T, Failed<E>> {
        match result {
            Ok(value) => self.gather_if_well::<E>(Ok(Vec::new())).map(|_| value),
            Err(error) => match self.gather_if_well(Err(error)) {
                Ok(_) => unreachable!("one has failed"),
                Err(failed) => Err(failed),
            },
        }
    }

    /// What every rank gives, in the order of ranks, if all are well.
    ///
    /// # Errors
    /// As [`Ranks::agree`].
    pub fn gather_if_well<E: fmt::Display>(&self, given: Result<Vec<u8>, E>) -> Result<Vec<Vec<u8>>, Failed<E>> {
        if !self.is_several() {
            return given.map(|given| vec![given]).map_err(Failed::Here);
        }
        let message = match &given {
            Ok(given) => [&[WELL], &given[..]].concat(),
            Err(error) => [&[FAILED], error.to_string().as_bytes()].concat(),
        };
        let all = match self.gather(&message) {
            Ok(all) => all,
            // The own error explains more.
            Err(error) => return Err(given.err().map_or(Failed::Elsewhere(error), Failed::Here)),
        };
        let failed = all.iter().position(|message| message.first() != Some(&WELL));
        match (failed, given) {
            (None, _) => Ok(all.into_iter().map(|mut message| message.split_off(1)).collect()),
            (Some(rank), given) => {
                self.failed.store(true, Ordering::Relaxed);
                let message = String::from_utf8_lossy(all[rank].get(1..).unwrap_or_default()).into_owned();
                let elsewhere = Failed::Elsewhere(RanksError::Elsewhere { rank, message });
                Err(given.err().map_or(elsewhere, Failed::Here))
            }
        }
    }

    /// Whether any rank says so.
    ///
    /// # Errors
    /// If another rank fails, or the exchange.
    pub fn any(&self, here: bool) -> Result<bool, RanksError> {
        let all = self.gather_if_well::<RanksError>(Ok(vec![u8::from(here)])).map_err(Failed::into_error)?;
        Ok(all.iter().any(|said| said.first() == Some(&1)))
    }

    /// Gives the first rank's bytes to all, if it has them and all are well. The other ranks' results count as errors only.
    ///
    /// # Errors
    /// As [`Ranks::agree`].
    pub fn broadcast_if_well<E: fmt::Display>(&self, given: Result<Vec<u8>, E>) -> Result<Vec<u8>, Failed<E>> {
        let mut bytes = self.agree(given)?;
        self.broadcast(&mut bytes).map_err(Failed::Elsewhere)?;
        Ok(bytes)
    }

    /// Whether all ranks know of a failure, which then need not be told again.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}
