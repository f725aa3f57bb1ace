//! Parameters as the CPU's operations read them.

use std::ops::Deref;

use super::Cpu;
use super::kernels::{MatrixB, PackedB, pack};
use super::weight::PreparedWeight;
use crate::device::storage::{ParameterView, Place, Weight};
use crate::dtype::DType;

/// A matrix parameter as it is kept.
pub(super) enum Matrix<'a> {
    Packed(&'a PackedB),
    Flat(&'a [f32]),
}

/// A packed matrix that an operation derived from a parameter.
pub(super) enum DerivedMatrix<'a> {
    Kept(&'a PackedB),
    Fresh(PackedB),
}

impl Deref for DerivedMatrix<'_> {
    type Target = PackedB;

    fn deref(&self) -> &PackedB {
        match self {
            DerivedMatrix::Kept(packed) => packed,
            DerivedMatrix::Fresh(packed) => packed,
        }
    }
}

enum Kept<'a> {
    Flat(&'a [f32]),
    Prepared(&'a PreparedWeight),
}

fn kept(parameter: ParameterView<'_>) -> Kept<'_> {
    match parameter.place {
        Place::Flat(buffer, start) => Kept::Flat(&buffer.cpu()[start..start + parameter.count()]),
        Place::Prepared(Weight::Cpu(weight)) => Kept::Prepared(weight),
        Place::Prepared(_) => panic!("a weight of another device given to the CPU"),
    }
}

/// Values of a parameter that is not a packed matrix.
pub(super) fn plain(parameter: ParameterView<'_>) -> &[f32] {
    match kept(parameter) {
        Kept::Flat(values) => values,
        Kept::Prepared(PreparedWeight::Plain { values, .. }) => values.as_slice(),
        Kept::Prepared(PreparedWeight::Packed { .. }) => {
            panic!("a parameter of {:?} is packed as a matrix", parameter.shape)
        }
    }
}

pub(super) fn matrix(parameter: ParameterView<'_>) -> Matrix<'_> {
    match kept(parameter) {
        Kept::Flat(values) => Matrix::Flat(values),
        Kept::Prepared(PreparedWeight::Plain { values, .. }) => Matrix::Flat(values.as_slice()),
        Kept::Prepared(PreparedWeight::Packed { packed, .. }) => Matrix::Packed(packed),
    }
}

/// A packed form derived from a plain parameter: made once where it does not change, not kept where it may.
pub(super) fn derived<'a>(parameter: ParameterView<'a>, make: impl FnOnce(&[f32]) -> PackedB) -> DerivedMatrix<'a> {
    match kept(parameter) {
        Kept::Flat(values) => DerivedMatrix::Fresh(make(values)),
        Kept::Prepared(PreparedWeight::Plain { values, derived }) => {
            DerivedMatrix::Kept(derived.get_or_init(|| make(values.as_slice())))
        }
        Kept::Prepared(PreparedWeight::Packed { packed, .. }) => DerivedMatrix::Kept(packed),
    }
}

/// A matrix `[out, in]` as `B` of a product with rows of `out`, which gives gradients of the input: packed once where
/// it does not change, each time where it may.
pub(super) fn transposed<'a>(cpu: &Cpu, parameter: ParameterView<'a>) -> DerivedMatrix<'a> {
    let (rows, columns) = (parameter.shape[0], parameter.shape[1]);
    let pack = |data: &[f32]| pack(&cpu.processor, MatrixB::Rows { data, stride: columns }, rows, columns, DType::F32);
    match kept(parameter) {
        Kept::Flat(values) => DerivedMatrix::Fresh(pack(values)),
        Kept::Prepared(PreparedWeight::Plain { values, .. }) => DerivedMatrix::Fresh(pack(values.as_slice())),
        Kept::Prepared(weight @ PreparedWeight::Packed { transposed, .. }) => {
            DerivedMatrix::Kept(transposed.get_or_init(|| pack(&weight.values())))
        }
    }
}
