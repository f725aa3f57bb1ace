//! Integration tests of training, in one binary.

mod parity;
mod resume;
mod still;
