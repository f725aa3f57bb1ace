//! Files that results are written to.
