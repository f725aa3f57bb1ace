//! Long work, without the interpreter's lock, that Ctrl-C ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// How long Python waits before it looks for signals.
const POLL: Duration = Duration::from_millis(50);

/// Set when the work is no longer wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for an end.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the end was asked for.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// Something that happens while the work goes on, to be told in Python's own thread.
pub(crate) trait Event: Send + 'static {
    /// Tells it; an error ends the work and becomes that of the call.
    fn tell(self: Box<Self>, py: Python<'_>) -> PyResult<()>;
}

/// What the work sends to the thread that waits for it.
enum Sent<R> {
    Event(Box<dyn Event>),
    Done(R),
}

/// Tells what happens, and waits until it has been told.
pub(crate) struct Teller<R> {
    send: SyncSender<Sent<R>>,
    told: Mutex<Receiver<()>>,
}

impl<R> Teller<R> {
    pub(crate) fn tell(&self, event: impl Event) {
        // Nobody listens any more after an interruption.
        if self.send.send(Sent::Event(Box::new(event))).is_ok() {
            let _ = self.told.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
    }
}

/// What happens to work in progress when the call is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is left alone to end by itself: it changes nothing that anybody sees.
    Abandoned,
    /// It is waited for: it ends soon, and leaves something behind.
    Awaited,
}

/// Runs work in a thread of its own while Python's other threads go on. Signals are looked for all the time; one that raises an
/// exception, as Ctrl-C does, sets the flag that the work gets.
pub(crate) fn run_telling<R: Send + 'static>(
    py: Python<'_>,
    ending: Ending,
    work: impl FnOnce(&Stop, &Teller<R>) -> R + Send + 'static,
) -> PyResult<R> {
    let stop = Stop::default();
    let (send, receive) = sync_channel(0);
    let (has_told, told) = sync_channel(1);
    let receive = Mutex::new(receive);
    let own = stop.clone();
    let thread = std::thread::spawn(move || {
        let teller = Teller { send: send.clone(), told: Mutex::new(told) };
        let result = work(&own, &teller);
        let _ = send.send(Sent::Done(result));
    });
    let mut fault: Option<PyErr> = None;
    loop {
        let next = py.detach(|| receive.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(POLL));
        let happened = match next {
            Ok(Sent::Done(result)) => return fault.map_or(Ok(result), Err),
            Ok(Sent::Event(event)) => {
                let told = if fault.is_none() { event.tell(py) } else { Ok(()) };
                let _ = has_told.send(());
                told
            }
            // Whoever asks twice does not want to wait.
            Err(RecvTimeoutError::Timeout) => match (py.check_signals(), &mut fault) {
                (Err(_), fault @ Some(_)) => return Err(fault.take().expect("just seen")),
                (signals, _) => signals,
            },
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a thread without a panic sends its result"),
            },
        };
        if let Err(error) = happened {
            stop.set();
            if ending == Ending::Abandoned {
                return Err(error);
            }
            fault.get_or_insert(error);
        }
    }
}

/// Runs work that tells nothing, and is left alone when the call is interrupted.
pub(crate) fn run<R: Send + 'static>(py: Python<'_>, work: impl FnOnce(&Stop) -> R + Send + 'static) -> PyResult<R> {
    run_telling(py, Ending::Abandoned, move |stop, _| work(stop))
}
