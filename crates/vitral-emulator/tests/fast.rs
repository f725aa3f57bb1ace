//! The stand-in without checks.
#![allow(missing_docs)]

mod common;
mod memory;
mod products;
mod streams;
mod words;

/// Which build the modules of tests run on.
const CHECKED: bool = false;
