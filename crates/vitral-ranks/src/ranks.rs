//! The ranks of a run, as one of them sees them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::RanksError;
use crate::launcher::Launcher;
use crate::link::{Carrier, Link};
#[cfg(unix)]
use crate::mpi;
use crate::threads;

/// How the ranks' sums are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// In pairs, by sending halves back and forth: the same bits for any number of ranks.
    #[default]
    Tree,
    /// By the library's own all-reduce, which knows the network. The bits depend on the library and the number of ranks.
    Library,
}

/// The ranks of a run, as one of them sees them. Clones are the same rank.
#[derive(Clone)]
pub struct Ranks {
    /// Nothing for a process on its own.
    link: Option<Arc<dyn Link>>,
    pub(crate) reduction: Reduction,
    /// Nanoseconds spent in exchanges, waiting included.
    spent: Arc<AtomicU64>,
    /// Whether all ranks know of a failure.
    pub(crate) failed: Arc<AtomicBool>,
    /// For a thread beside one that computes: whether it is waited for.
    pub(crate) hurry: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

impl Default for Ranks {
    fn default() -> Self {
        Ranks::alone()
    }
}

impl Ranks {
    /// A process on its own.
    pub fn alone() -> Self {
        Ranks::of(None)
    }

    /// Ranks that are threads of this process, one handle for each.
    pub fn threads(count: usize) -> Vec<Self> {
        threads::links(count).into_iter().map(|link| Ranks::of(Some(Arc::new(link)))).collect()
    }

    /// The ranks that the process was started with: one alone, if there was no launcher.
    ///
    /// # Errors
    /// If there was one, and no library that belongs to it is found, or the library sees other ranks than the launcher.
    pub fn of_environment() -> Result<Self, RanksError> {
        let Some(launcher) = Launcher::of_environment() else { return Ok(Ranks::alone()) };
        #[cfg(unix)]
        match mpi::open(&launcher) {
            Ok(link) => Ok(Ranks::of(Some(Arc::new(link)))),
            // One process needs no library.
            Err(_) if launcher.size == Some(1) && !mpi::is_named() => Ok(Ranks::alone()),
            Err(error) => Err(error),
        }
        #[cfg(not(unix))]
        match launcher.size {
            Some(1) => Ok(Ranks::alone()),
            _ => Err(RanksError::Unsupported),
        }
    }

    fn of(link: Option<Arc<dyn Link>>) -> Self {
        Ranks { link, reduction: Reduction::Tree, spent: Arc::default(), failed: Arc::default(), hurry: None }
    }

    /// The same ranks, whose sums are added up in this way.
    #[must_use]
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The same rank for a thread beside one that computes, whose sums ([`Ranks::sum`]) leave the processor to it while they
    /// wait for other ranks. Its time is not noted; that of whoever waits for it is ([`Ranks::note_waiting`]). One of them
    /// exchanges at a time.
    #[must_use]
    pub fn beside(&self) -> Self {
        Ranks { spent: Arc::default(), hurry: Some(Arc::default()), ..self.clone() }
    }

    /// Says that the thread beside is waited for: from now on it takes the processor.
    pub fn hurry(&self) {
        if let Some(hurry) = &self.hurry {
            hurry.store(true, Ordering::Relaxed);
        }
    }

    /// Adds to the time spent in exchanges.
    pub fn note_waiting(&self, time: Duration) {
        self.spent.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How sums are added up.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.rank())
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.link.as_ref().map_or(1, |link| link.size())
    }

    /// Whether this is the rank that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are others.
    pub fn is_several(&self) -> bool {
        self.size() > 1
    }

    /// What carries the data, in words: the library with its version, and where it was found.
    pub fn carrier(&self) -> Option<Carrier> {
        self.link.as_ref().map(|link| link.carrier())
    }

    /// Time spent in exchanges so far, waiting for others included; of those by a thread beside, only how long they were waited for.
    pub fn time_spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    /// Ends every rank at once, where one cannot go on and the others cannot be told.
    pub fn abort(&self, code: u8) -> ! {
        if let Some(link) = &self.link {
            link.abort(code);
        }
        std::process::exit(i32::from(code));
    }

    /// Says to the launcher that the rank is done; nothing can be exchanged afterwards. Waits for the others.
    pub fn finish(&self) {
        if let Some(link) = &self.link {
            link.finish();
        }
    }

    /// Exchanges with the others, and notes the time.
    pub(crate) fn timed<R>(
        &self,
        exchange: impl FnOnce(&dyn Link) -> Result<R, String>,
    ) -> Option<Result<R, RanksError>> {
        let link = self.link.as_ref().filter(|link| link.size() > 1)?;
        let begun = Instant::now();
        let result = exchange(&**link);
        self.note_waiting(begun.elapsed());
        Some(result.map_err(|fault| RanksError::Exchange { rank: link.rank(), size: link.size(), fault }))
    }
}
