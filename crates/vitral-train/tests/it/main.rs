//! Integration tests of training, in one binary.

mod parity;
