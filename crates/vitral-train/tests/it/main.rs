//! Integration tests of training, in one binary.

mod as_found;
mod curate;
mod frozen;
mod hostile;
mod lora;
mod masked;
mod masked_patches;
mod parity;
mod parquet;
mod ranks;
mod read;
mod recompute;
mod resume;
mod step;
mod uneven;
mod validation;
