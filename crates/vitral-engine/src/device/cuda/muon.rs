//! Muon (arXiv:2502.16982): the momentum of a matrix, orthogonalized by five products of Newton and Schulz.

use super::Cuda;
use super::launch::{Arg, Source, spread};
use super::matmul::{Product, Rounding};
use super::memory::{Element, Memory};
use super::step::Step;
use crate::device::backend::UpdateGroup;
use crate::device::cpu::updates::muon_scale;

/// The coefficients of the iteration (Jordan et al. 2024).
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

impl Cuda {
    /// `a · x + b · y`.
    fn mixed(&self, x: &Memory, y: &Memory, a: f32, b: f32) -> Memory {
        let out = self.allocate(Element::F32, x.len());
        let arguments = [Arg::Of(x), Arg::Of(y), Arg::Of(&out), Arg::Count(x.len()), Arg::Float(a), Arg::Float(b)];
        self.launch(Source::Updates, "mix", spread(x.len()), &arguments);
        out
    }

    fn product(&self, a: &Memory, b: &Memory, transposed: [bool; 2], extents: [usize; 3]) -> Memory {
        let c = self.allocate(Element::F32, extents[0] * extents[1]);
        self.multiply(&Product { rounding: Rounding::None, ..Product::new(a, b, &c, transposed, extents) });
        c
    }

    fn orthogonalized(&self, matrix: &Memory, shape: [usize; 2]) -> Memory {
        let [rows, columns] = shape;
        let turned = rows > columns;
        let (small, large) = if turned { (columns, rows) } else { (rows, columns) };
        let norm = self.norm_of((matrix, 0), matrix.len());
        let mut x = if turned { self.transposed(matrix, 1, shape) } else { self.copied(matrix) };
        self.launch(Source::Updates, "divide", spread(x.len()), &[Arg::Of(&x), Arg::Of(&norm), Arg::Count(x.len())]);
        let [a, b, c] = COEFFICIENTS;
        for _ in 0..5 {
            let gram = self.product(&x, &x, [false, true], [small, small, large]);
            let square = self.product(&gram, &gram, [false, false], [small, small, small]);
            let inner = self.mixed(&gram, &square, b, c);
            let next = self.product(&inner, &x, [false, false], [small, large, small]);
            x = self.mixed(&x, &next, a, 1.0);
        }
        if turned { self.transposed(&x, 1, [columns, rows]) } else { x }
    }
}

/// Steps one matrix.
pub(super) fn step(of: &Step<'_>, group: &UpdateGroup, momentum: f32, nesterov: bool, match_adamw: bool) {
    let shape = group.matrix.expect("what is not a hidden matrix has a rule of its own");
    // The padding after a matrix is not part of it.
    let (start, count) = (group.range.start, shape[0] * shape[1]);
    let along = of.device.allocate(Element::F32, count);
    let arguments = [
        Arg::Of(of.gate),
        Arg::From(of.first, start),
        Arg::From(of.gradients, start),
        Arg::Of(&along),
        Arg::Count(count),
        Arg::Float(momentum),
        Arg::Int(usize::from(nesterov)),
    ];
    of.device.launch(Source::Updates, "muon_momentum", spread(count), &arguments);
    let update = of.device.orthogonalized(&along, shape);
    let rate = of.call.learning_rate * group.learning_rate_scale;
    let copy = of.copy.as_ref().map_or(Arg::Maybe(None), |copy| Arg::From(copy, start));
    let arguments = [
        Arg::Of(of.gate),
        Arg::From(&of.parameters.memory, start),
        Arg::Of(&update),
        copy,
        Arg::Count(count),
        Arg::Float(1.0 - rate * group.weight_decay),
        Arg::Float(rate * muon_scale(shape, match_adamw)),
    ];
    of.launch("muon_step", spread(count), &arguments);
}
