//! Training of Vision Transformers.
//!
//! Start with [`fit`] for a whole run and [`step`] for a single batch.

pub mod augment;
mod best;
pub mod checkpoint;
pub mod data;
pub mod draws;
pub mod epoch;
pub mod error;
pub mod evaluate;
pub mod fit;
pub mod journal;
pub mod labeling;
pub mod lora;
pub mod loss;
pub mod optimize;
pub mod recipe;
pub mod report;
pub mod run;
pub mod sets;
pub mod start;
pub mod step;
pub mod study;
pub mod teacher;
pub mod timing;

pub use error::TrainError;
