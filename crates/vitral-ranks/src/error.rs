//! What can go wrong between ranks.

/// Why ranks cannot work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RanksError {
    /// A launcher started the process, and its library is nowhere.
    #[error(
        "{launcher} started this process as one of several, and no MPI library was found: {looked}; name one with \
         `VITRAL_MPI=/path/of/libmpi.so`"
    )]
    NoLibrary {
        /// The launcher.
        launcher: String,
        /// What was looked for, and where.
        looked: String,
    },
    /// A library was found, and does not work.
    #[error("the MPI library `{path}`: {fault}; name another with `VITRAL_MPI`")]
    Library {
        /// Its file.
        path: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The library and the launcher do not belong together.
    #[error(
        "{launcher} started {expected} processes, and the MPI library `{path}` sees {found}: it belongs to another \
         launcher; name the right one with `VITRAL_MPI`{hint}"
    )]
    Strangers {
        /// The launcher.
        launcher: String,
        /// How many ranks it started.
        expected: usize,
        /// The library's file.
        path: String,
        /// How many ranks the library sees.
        found: usize,
        /// What else may help, with what separates it.
        hint: &'static str,
    },
    /// An exchange failed.
    #[error("rank {rank} of {size}: {fault}")]
    Exchange {
        /// The rank that noticed.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What the carrier says.
        fault: String,
    },
    /// A number of ranks that does not fit the work.
    #[error("expected {expected}, found {found} ranks; {hint}")]
    Count {
        /// The numbers that would do, in words.
        expected: String,
        /// How many there are.
        found: usize,
        /// What to do.
        hint: String,
    },
    /// Another rank failed.
    #[error("rank {rank}: {message}")]
    Elsewhere {
        /// The first that failed.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// Systems without run-time loading as on Unix.
    #[error("several processes are supported on Linux and macOS only; start one")]
    Unsupported,
}
