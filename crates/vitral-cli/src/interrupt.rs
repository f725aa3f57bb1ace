//! What happens when the user or the system ends a command: Ctrl-C, `SIGTERM`, `SIGHUP`.
//!
//! Training stops after the current step and leaves a run that can be resumed; a second signal ends it at once. Every
//! other command ends at once. Nothing half-written stays.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use vitral::atomic::discard_unfinished;

/// The exit code of an interrupted command, as shells report a process that Ctrl-C ended.
pub(crate) const CODE: u8 = 130;

/// Whether the command at work ends by itself soon after it is interrupted.
static GRACEFUL: AtomicBool = AtomicBool::new(false);
/// Whether a signal has arrived.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes over the signals that end a process.
pub(crate) fn watch() {
    // If no handler can be set, a signal ends the process as it always does.
    let _ = ctrlc::set_handler(|| {
        let again = INTERRUPTED.swap(true, Ordering::Relaxed);
        if again || !GRACEFUL.load(Ordering::Relaxed) {
            discard_unfinished();
            exit(CODE.into());
        }
    });
}

/// Lets the command at work end by itself: it must look at the flag, which is set when a signal arrives.
pub(crate) fn gracefully() -> &'static AtomicBool {
    GRACEFUL.store(true, Ordering::Relaxed);
    &INTERRUPTED
}
