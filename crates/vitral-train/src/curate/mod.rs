//! What an index of images says about them as a data set: likely wrong labels, outliers, a map, and pages that show it.

mod labels;
mod map;
mod outliers;
mod page;
mod scatter;

pub use labels::{LabelError, LabelOptions, LabelReport, Suspect, suspects};
pub use map::{Map, Method, PERPLEXITY, map};
pub use outliers::{Outlier, outliers};
pub use page::{Card, Gallery, Section};
pub use scatter::Scatter;
