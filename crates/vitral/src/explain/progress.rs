//! The progress of maps that take many passes, and how they are stopped.

use std::ops::ControlFlow;

use super::ExplainError;
use crate::error::Error;

/// Called with the number of passes done since the last call; what it returns says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// Reports passes, and ends the work if that was asked for.
pub(super) fn report(progress: &mut dyn FnMut(usize) -> ControlFlow<()>, done: usize) -> Result<(), Error> {
    match progress(done) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ExplainError::Stopped.into()),
    }
}
