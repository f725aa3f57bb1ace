//! Errors, reported once and on one line.

use std::io::ErrorKind;
use std::process::ExitCode;

use vitral::{DeviceError, message};
use vitral_train::TrainError;

pub(crate) use message::plain;

/// Kind of error that ended a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The command failed.
    Failed,
    /// The command line was wrong, which only became clear while running.
    Usage,
    /// The output pipe was closed, as `head` does: not an error.
    OutputClosed,
}

/// A command line error.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Writing to standard output failed.
#[derive(Debug)]
pub(crate) struct StandardOutput(pub(crate) std::io::Error);

impl std::fmt::Display for StandardOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "standard output: {}", self.0)
    }
}

impl std::error::Error for StandardOutput {}

impl Fault {
    pub(crate) fn of(error: &anyhow::Error) -> Fault {
        let gone = |cause: &StandardOutput| cause.0.kind() == ErrorKind::BrokenPipe;
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(gone)) {
            Fault::OutputClosed
        } else if error.is::<Usage>() {
            Fault::Usage
        } else {
            Fault::Failed
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Fault::OutputClosed => 0,
            Fault::Failed => 1,
            Fault::Usage => 2,
        }
    }
}

/// Whether a device has stopped working, in the middle of something that others may wait for.
pub(crate) fn is_lost_device(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let known = match (cause.downcast_ref(), cause.downcast_ref()) {
            (Some(TrainError::Device(error) | TrainError::Vitral(vitral::Error::Device(error))), _) => Some(error),
            (_, Some(vitral::Error::Device(error))) => Some(error),
            _ => cause.downcast_ref(),
        };
        matches!(known, Some(DeviceError::Failed { .. }))
    })
}

/// An error and its causes on one line.
pub(crate) fn line(error: &anyhow::Error) -> String {
    message::line(error.as_ref())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_appear_once_on_one_line() {
        let cause = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(cause).context("`a`: not written: disk on fire").context("saving");
        assert_eq!(line(&error), "saving: `a`: not written: disk on fire");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error_and_a_wrong_flag_is_usage() {
        let gone = Err::<(), _>(StandardOutput(ErrorKind::BrokenPipe.into())).context("printing").unwrap_err();
        assert_eq!(Fault::of(&gone), Fault::OutputClosed);
        assert_eq!(Fault::of(&Usage("no".into()).into()), Fault::Usage);
        assert_eq!(Fault::of(&anyhow::anyhow!("broken")), Fault::Failed);
    }
}
