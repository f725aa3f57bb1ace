//! Integration tests of training, in one binary.

mod frozen;
mod lora;
mod parity;
mod parquet;
mod read;
mod recompute;
mod resume;
mod step;
mod validation;
