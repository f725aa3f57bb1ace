//! Several processes, called ranks, that work on one thing: who they are, and what they tell each other.
//!
//! [`Ranks::of_environment`] asks the launcher that started the process (`mpirun`, `mpiexec`, `srun`) for the ranks, and
//! opens the MPI library that belongs to it; the program is built without any. [`Ranks::threads`] makes ranks of the
//! threads of one process, for tests. A process that was started by itself is [`Ranks::alone`], for which everything here
//! costs nothing.
//!
//! Floats are added in pairs, and the sums of pairs in pairs ([`Ranks::sum`]): with the subtrees of a fixed tree on each
//! rank, the total has the same bits for any power of two of ranks.
//!
//! **Who fails says so.** An exchange between ranks is preceded by an agreement ([`Ranks::agree`]) that all of them are
//! well. A rank that fails on its own goes to the next agreement with its error, and all of them end with it. Sums that began by
//! a thread beside ([`Ranks::beside`]) are the exception: a rank that fails takes its part in them to the end first.

mod agree;
mod collect;
mod error;
mod launcher;
mod link;
#[cfg(unix)]
mod mpi;
mod ranks;
mod threads;

pub use agree::Failed;
pub use error::RanksError;
pub use launcher::Launcher;
pub use link::Carrier;
pub use ranks::{Ranks, Reduction};

#[cfg(test)]
mod tests;
