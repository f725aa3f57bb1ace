//! Looking inside a Vision Transformer: what it attends to, what its answer rests on, what its layers hold, and how far a
//! map can be believed.
//!
//! Everything reads named intermediates of the one forward pass, or gradients of it; there is no second model. Maps are
//! pure functions over arrays ([`rollout`], [`cam`], [`distance`]…) that `methods` joins with a model; [`paint`] and
//! [`plot`] make images of them, and [`report`] one page.

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
pub mod methods;
pub mod paint;
pub mod perturb;
pub mod pixels;
pub mod plot;

pub mod report;
pub mod representation;
pub mod rollout;

pub use error::ExplainError;
pub use gradient::{GradientPass, Wanted};
pub use input::{Aim, InputImage, Prediction, Target};
pub use layout::Layout;
pub use map::Map;
pub use methods::{Method, Options};
