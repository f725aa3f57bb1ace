//! Tensors to be written.

use std::ops::Range;

use vitral_engine::ParameterSpec;

use crate::weights::dialect::SourceLayout;

/// A tensor to be written.
#[derive(Debug)]
pub(super) struct Tensor {
    /// Extents in the library's form.
    pub(super) shape: Vec<usize>,
    /// What it is made of, one after the other.
    pub(super) pieces: Vec<Piece>,
    /// What it is filled with where it is made of nothing.
    pub(super) fill: f32,
}

impl Tensor {
    /// A tensor of one number.
    pub(super) fn filled(shape: &[usize], fill: f32) -> Self {
        Tensor { shape: shape.to_vec(), pieces: Vec::new(), fill }
    }
}

/// Rows of a parameter, in the library's layout.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) spec: ParameterSpec,
    pub(super) rows: Range<usize>,
    pub(super) layout: Option<SourceLayout>,
    /// Where the tensor holds several parameters: whether this one comes last.
    pub(super) last: bool,
}
