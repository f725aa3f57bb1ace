//! Integration tests of training, in one binary.

mod lora;
mod parity;
mod parquet;
mod read;
mod recompute;
mod resume;
mod still;
mod validation;
