//! Training Vision Transformers: batch to better weights.
//!
//! Read `fit` for a whole run and [`step`] for one batch.

pub mod augment;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod loss;
pub mod optimise;
pub mod step;

pub use error::TrainError;
