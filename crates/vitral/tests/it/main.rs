//! Integration tests of the library, in one binary.

mod image;
mod parity;
mod tiny_vits;
mod weights;
