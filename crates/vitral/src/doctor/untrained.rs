//! Signs that weights still have their initial values.

use crate::weights::Assignment;
use crate::weights::inspect::Statistics;

/// What all blocks' parameters have in common.
#[derive(Default)]
pub(super) struct Initial {
    norms: usize,
    trained_norms: usize,
    /// The standard deviation of each matrix, and its greatest value in standard deviations.
    matrices: Vec<[f64; 2]>,
}

impl Initial {
    /// Takes a parameter into account.
    pub(super) fn see(&mut self, name: &str, assignment: &Assignment<'_>, of: &Statistics) {
        let in_block = name.starts_with("blocks.");
        if in_block && name.contains("norm") {
            let initial = if name.ends_with("weight") { 1.0 } else { 0.0 };
            self.norms += 1;
            self.trained_norms += usize::from(of.min != initial || of.max != initial);
        } else if in_block && assignment.shape(name).is_some_and(|shape| shape.len() == 2) && of.std > 0.0 {
            self.matrices.push([of.std, f64::from(of.max.max(-of.min)) / of.std]);
        }
    }

    /// Why the weights look untrained, if they do.
    pub(super) fn verdict(&self) -> Option<String> {
        /// What most libraries draw matrices with.
        const USUAL: f64 = 0.02;
        if self.norms > 0 && self.trained_norms == 0 {
            return Some("the norms of all blocks have their initial values, one and zero".into());
        }
        if self.matrices.len() < 4 {
            return None;
        }
        let all = |test: &dyn Fn(&[f64; 2]) -> bool| self.matrices.iter().all(test);
        if all(&|[std, _]| (std / USUAL - 1.0).abs() < 0.03) {
            return Some(format!("every matrix has a standard deviation of {USUAL}, with which libraries draw them"));
        }
        // A uniform distribution ends at the square root of three.
        if all(&|[_, greatest]| *greatest < 1.78) {
            return Some("the values of every matrix are spread uniformly, as libraries draw them".into());
        }
        None
    }
}
