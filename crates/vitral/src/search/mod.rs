//! Search among images by their features: an index over a folder, exact nearest neighbors, near-duplicates.
//!
//! [`Builder`] makes an [`Index`] of a folder, [`Index::write`] and [`Index::read`] keep it in one file, [`Flat`] compares
//! every query with every image, and [`duplicates`] finds images that are there more than once.

mod build;
mod duplicates;
mod error;
mod file;
mod flat;
mod index;
mod origin;
mod pixels;

pub use build::{BuildOptions, Builder, Done, Ended, Listed};
pub use duplicates::{Alike, Group, Member, Relation, duplicates, rounds};
pub use error::SearchError;
pub use file::Stored;
pub use flat::{Flat, Hit};
pub use index::{Entry, FileState, Index};
pub use origin::Origin;
