//! Where tensors live and operations run.

pub mod cpu;
