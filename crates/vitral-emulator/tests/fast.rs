//! The stand-in without checks.
#![allow(missing_docs)]

mod common;
mod words;

/// Which build the modules of tests run on.
const CHECKED: bool = false;
