//! Explanations of a Vision Transformer: what it attends to, what its output depends on, what its layers represent, and
//! how faithful a map is.
//!
//! Everything uses named intermediates of the one forward pass, or their gradients; there is no second model. Maps are
//! pure functions over arrays ([`rollout`], [`cam`], [`distance`]…) that `methods` applies to a model; [`paint`] and
//! [`plot`] draw them, and [`report`] makes a single HTML page.

pub mod algebra;
pub mod attention;
pub mod cam;
pub mod distance;
mod error;
pub mod faithfulness;
pub mod figures;
mod gradient;
mod input;
mod layout;
pub mod lens;
mod map;
mod method;
pub mod methods;
pub mod paint;
pub mod perturb;
pub mod pixels;
pub mod plot;
mod progress;
pub mod report;
pub mod representation;
pub mod rollout;
pub mod tiled;

pub use error::ExplainError;
pub use gradient::{GradientPass, Wanted};
pub use input::{Aim, InputImage, Prediction, PreparedImage, Target};
pub use layout::{Layout, PatchArea};
pub use map::Map;
pub use method::{About, Method};
pub use methods::Options;
pub use progress::Progress;
