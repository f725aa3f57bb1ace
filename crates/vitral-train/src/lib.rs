//! Training, fine-tuning and evaluating Vision Transformers.
//!
//! Start with [`run`] for a recipe from beginning to end, [`fit`] for its epochs and [`step`] for a single batch.
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use vitral::Device;
//! use vitral_train::fit::Watcher;
//! use vitral_train::journal::Entry;
//! use vitral_train::recipe::Recipe;
//! use vitral_train::run::{Models, RunOn, run};
//! use vitral_train::sets::open_sets;
//! use vitral_train::step::StepReport;
//!
//! struct Printer;
//!
//! impl Watcher for Printer {
//!     fn step(&mut self, _: &StepReport, _: usize, _: usize) {}
//!     fn epoch(&mut self, entry: &Entry, _: bool) {
//!         println!("epoch {}: loss {:.3}", entry.epoch, entry.train_loss);
//!     }
//! }
//!
//! let recipe = Recipe::load("recipes/cifar10.toml".as_ref(), &[])?;
//! let (sets, stop) = (open_sets(&recipe)?, AtomicBool::new(false));
//! let folder = "runs/cifar10".as_ref();
//! let device = Device::cpu(0);
//! run(&recipe, &sets, Models::default(), folder, RunOn::alone(&device, &stop), &mut Printer)?;
//! # Ok::<(), vitral_train::TrainError>(())
//! ```

pub mod augment;
pub mod balance;
mod best;
pub mod checkpoint;
pub mod curate;
pub mod data;
#[doc(hidden)]
pub mod draws;
pub mod epoch;
pub mod error;
pub mod evaluate;
pub mod exchange;
pub mod fit;
mod fits;
pub mod hidden;
pub mod journal;
pub mod labeling;
pub mod lora;
pub mod loss;
pub mod optimize;
pub mod pretrain;
mod ranks;
pub mod recipe;
pub mod report;
pub mod run;
pub mod sets;
mod shares;
pub mod start;
pub mod step;
pub mod study;
pub mod teacher;
#[doc(hidden)]
pub mod timing;

pub use error::TrainError;
