//! The shapes of what nodes compute: used while a graph is built, and again on what was written.

use std::fmt;

use super::proto::type_proto::{self, Tensor};
use super::proto::{AttributeProto, NodeProto, TensorShapeProto, TypeProto, tensor_shape_proto};

/// One extent of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The number of images, which is open.
    Batch,
    /// A fixed number.
    Of(usize),
}

use Extent::{Batch, Of};

/// The name of the open extent.
pub(super) const BATCH: &str = "batch";

/// The extents of a value, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape(pub(super) Vec<Extent>);

impl Shape {
    /// Fixed extents.
    pub(super) fn fixed(extents: &[usize]) -> Self {
        Shape(extents.iter().map(|&extent| Of(extent)).collect())
    }

    /// An open batch of these.
    pub(super) fn batch_of(extents: &[usize]) -> Self {
        Shape(std::iter::once(Batch).chain(extents.iter().map(|&extent| Of(extent))).collect())
    }

    pub(super) fn rank(&self) -> usize {
        self.0.len()
    }

    /// A fixed extent.
    ///
    /// # Panics
    /// If it is open, or not there.
    pub(super) fn at(&self, axis: usize) -> usize {
        match self.0.get(axis) {
            Some(Of(extent)) => *extent,
            _ => panic!("extent {axis} of {self} is not a number"),
        }
    }

    /// The type of such a value: 32-bit floats, or what `element` says.
    pub(super) fn to_type(&self, element: i32) -> TypeProto {
        use tensor_shape_proto::dimension::Value;
        let dimension = |extent: &Extent| tensor_shape_proto::Dimension {
            value: Some(match extent {
                Batch => Value::DimParam(BATCH.into()),
                Of(extent) => Value::DimValue(*extent as i64),
            }),
        };
        let shape = TensorShapeProto { dim: self.0.iter().map(dimension).collect() };
        TypeProto { value: Some(type_proto::Value::TensorType(Tensor { elem_type: element, shape: Some(shape) })) }
    }

    /// The reverse of [`Shape::to_type`].
    pub(super) fn of_type(found: Option<&TypeProto>) -> Option<Self> {
        use tensor_shape_proto::dimension::Value;
        let type_proto::Value::TensorType(tensor) = found?.value.as_ref()?;
        let extent = |dimension: &tensor_shape_proto::Dimension| match dimension.value.as_ref()? {
            Value::DimParam(name) => (name == BATCH).then_some(Batch),
            Value::DimValue(value) => usize::try_from(*value).ok().map(Of),
        };
        tensor.shape.as_ref()?.dim.iter().map(extent).collect::<Option<Vec<_>>>().map(Shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extents = self.0.iter().map(|extent| match extent {
            Batch => BATCH.to_owned(),
            Of(extent) => extent.to_string(),
        });
        write!(f, "[{}]", extents.collect::<Vec<_>>().join(", "))
    }
}

/// What is known of a node's inputs: their shapes, and the values of those that are constant integers.
pub(super) struct Inputs<'a> {
    pub(super) shapes: Vec<&'a Shape>,
    pub(super) integers: Vec<Option<&'a [i64]>>,
}

/// The shapes of a node's outputs.
///
/// # Errors
/// What does not fit, in words, or which operator is not known here.
pub(super) fn infer(node: &NodeProto, inputs: &Inputs<'_>) -> Result<Vec<Shape>, String> {
    let all = &inputs.shapes;
    let listed = || all.iter().map(|shape| shape.to_string()).collect::<Vec<_>>().join(" and ");
    let wrong = || format!("`{}` ({}) cannot take {}", node.name, node.op_type, listed());
    let integers = |index: usize| inputs.integers.get(index).copied().flatten().ok_or_else(wrong);
    let first = *all.first().ok_or_else(wrong)?;
    let one = |shape: Option<Shape>| shape.map(|shape| vec![shape]).ok_or_else(wrong);
    match node.op_type.as_str() {
        "Erf" | "Tanh" | "Sigmoid" | "Relu" | "Sqrt" | "Gelu" | "Neg" | "Softmax" | "Cast" => one(Some(first.clone())),
        "DequantizeLinear" => {
            let places = axis(int(node, "axis"), first.rank()).map(|axis| first.0[axis]);
            let fits = all.len() == 2 && all[1].0[..] == [places.unwrap_or(Batch)];
            one((fits && places.is_some()).then(|| first.clone()))
        }
        "LayerNormalization" | "RMSNormalization" => {
            let last = first.0.last().copied();
            let fits = all[1..].iter().all(|shape| shape.rank() == 1 && shape.0.first().copied() == last);
            one((all.len() > 1 && fits).then(|| first.clone()))
        }
        "InstanceNormalization" => {
            let channels = first.0.get(1).copied();
            let fits = all.len() == 3 && all[1..].iter().all(|shape| shape.0[..] == [channels.unwrap_or(Batch)]);
            one((fits && first.rank() > 2).then(|| first.clone()))
        }
        "Add" | "Mul" | "Div" | "Pow" => one(all.get(1).and_then(|second| broadcast(&first.0, &second.0)).map(Shape)),
        "MatMul" => one(all.get(1).and_then(|second| matmul(first, second))),
        "Attention" => one(attention(node, all)),
        "Gemm" => one(gemm(node, all)),
        "Conv" => one(all.get(1).and_then(|weight| convolution(node, first, weight))),
        "MaxPool" | "AveragePool" => one(pooled(node, first, None)),
        "Transpose" => one(transposed(ints(node, "perm"), first)),
        "Reshape" => one(reshaped(first, integers(1)?)),
        "Concat" => one(concatenated(int(node, "axis"), all)),
        "Split" => split(int(node, "axis"), first, integers(1)?).ok_or_else(wrong),
        "Slice" => one(sliced(first, integers(1)?, integers(2)?, integers(3)?)),
        "Gather" => one(all.get(1).and_then(|indices| gathered(int(node, "axis"), first, indices))),
        "Pad" => one(padded(first, integers(1)?)),
        "ReduceMean" | "ReduceMax" => {
            // The axes are an attribute in earlier operator sets, an input in later ones.
            let axes = if all.len() > 1 { integers(1)?.to_vec() } else { ints(node, "axes") };
            one(reduced(first, &axes, int(node, "keepdims") != Some(0)))
        }
        other => Err(format!("`{}` is a `{other}`, which no exported model has", node.name)),
    }
}

fn find<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    find(node, name)?.i
}

fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    find(node, name).map(|attribute| attribute.ints.clone()).unwrap_or_default()
}

/// An axis, counted from the end if it is negative.
fn axis(axis: Option<i64>, rank: usize) -> Option<usize> {
    let axis = axis?;
    let place = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(place).ok().filter(|&place| place < rank)
}

fn broadcast(a: &[Extent], b: &[Extent]) -> Option<Vec<Extent>> {
    let rank = a.len().max(b.len());
    let of = |shape: &[Extent], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(Of(1), |axis| shape[axis]);
    let extent = |axis| match (of(a, axis), of(b, axis)) {
        (a, b) if a == b => Some(a),
        (a, Of(1)) => Some(a),
        (Of(1), b) => Some(b),
        _ => None,
    };
    (0..rank).map(extent).collect()
}

fn matmul(a: &Shape, b: &Shape) -> Option<Shape> {
    let ([a_batch @ .., rows, depth], [b_batch @ .., inner, columns]) = (&a.0[..], &b.0[..]) else { return None };
    let mut shape = broadcast(a_batch, b_batch)?;
    shape.extend([*rows, *columns]);
    (depth == inner).then_some(Shape(shape))
}

/// Queries, keys and values split into heads, or packed, with a bias of every head, query and key.
fn attention(node: &NodeProto, all: &[&Shape]) -> Option<Shape> {
    let (query, key) = (*all.first()?, *all.get(1)?);
    let (heads, queries, keys) = match (&query.0[..], &key.0[..]) {
        ([_, heads, queries, width], [_, key_heads, keys, key_width]) => {
            (heads == key_heads && width == key_width).then_some((*heads, *queries, *keys))?
        }
        ([_, queries, packed], [_, keys, key_packed]) => {
            let heads = int(node, "q_num_heads").and_then(|heads| usize::try_from(heads).ok())?;
            let Of(width) = packed else { return None };
            let whole = heads > 0 && width.is_multiple_of(heads) && int(node, "kv_num_heads") == Some(heads as i64);
            (packed == key_packed && whole).then_some((Of(heads), *queries, *keys))?
        }
        _ => return None,
    };
    let bias = all.get(3).is_none_or(|bias| bias.0 == [heads, queries, keys]);
    (all.get(2) == Some(&key) && bias && query.0.first() == key.0.first()).then(|| query.clone())
}

/// `a bᵀ + c`, the only form that is written.
fn gemm(node: &NodeProto, all: &[&Shape]) -> Option<Shape> {
    let ([rows, depth], [columns, inner]) = (&all.first()?.0[..], &all.get(1)?.0[..]) else { return None };
    let bias = all.get(2).is_none_or(|bias| bias.0[..] == [*columns]);
    (int(node, "transB") == Some(1) && depth == inner && bias).then(|| Shape(vec![*rows, *columns]))
}

fn convolution(node: &NodeProto, x: &Shape, weight: &Shape) -> Option<Shape> {
    let [outputs, channels, kernel @ ..] = &weight.0[..] else { return None };
    let stated: Vec<Extent> = ints(node, "kernel_shape").iter().map(|&side| Of(side as usize)).collect();
    (x.0.get(1) == Some(channels) && stated == kernel).then(|| pooled(node, x, Some(*outputs)))?
}

/// Windows over the last two extents.
fn pooled(node: &NodeProto, x: &Shape, channels: Option<Extent>) -> Option<Shape> {
    let [batch, own, Of(height), Of(width)] = x.0[..] else { return None };
    let (kernel, strides, pads) = (ints(node, "kernel_shape"), ints(node, "strides"), ints(node, "pads"));
    let side = |extent: usize, axis: usize| {
        let padded = (extent as i64).checked_add(*pads.get(axis)?)?.checked_add(*pads.get(axis + 2)?)?;
        let room = padded.checked_sub(*kernel.get(axis)?)?;
        let stride = *strides.get(axis)?;
        (room >= 0 && stride > 0).then(|| Of((room / stride) as usize + 1))
    };
    Some(Shape(vec![batch, channels.unwrap_or(own), side(height, 0)?, side(width, 1)?]))
}

fn transposed(perm: Vec<i64>, x: &Shape) -> Option<Shape> {
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    let whole = sorted.iter().enumerate().all(|(place, &axis)| place as i64 == axis) && perm.len() == x.rank();
    whole.then(|| Shape(perm.iter().map(|&axis| x.0[axis as usize]).collect()))
}

/// 0 keeps an extent. Numbers of values are compared without the batch, which must be kept.
fn reshaped(x: &Shape, to: &[i64]) -> Option<Shape> {
    let extent = |(place, &side): (usize, &i64)| match side {
        0 => x.0.get(place).copied(),
        side => usize::try_from(side).ok().map(Of),
    };
    let shape: Vec<Extent> = to.iter().enumerate().map(extent).collect::<Option<_>>()?;
    let count = |shape: &[Extent]| {
        let fixed = |extent: &Extent| if let Of(extent) = extent { *extent } else { 1 };
        let values = shape.iter().map(fixed).try_fold(1usize, usize::checked_mul)?;
        Some((shape.iter().filter(|extent| **extent == Batch).count(), values))
    };
    (count(&shape)? == count(&x.0)?).then_some(Shape(shape))
}

fn concatenated(at: Option<i64>, all: &[&Shape]) -> Option<Shape> {
    let mut shape = (*all.first()?).clone();
    let at = axis(at, shape.rank())?;
    let mut total = 0usize;
    for other in all {
        let Some(Of(extent)) = other.0.get(at) else { return None };
        total = extent.checked_add(total)?;
        shape.0[at] = Of(*extent);
        if shape != **other {
            return None;
        }
    }
    shape.0[at] = Of(total);
    Some(shape)
}

fn split(at: Option<i64>, x: &Shape, sizes: &[i64]) -> Option<Vec<Shape>> {
    let at = axis(at, x.rank())?;
    let Of(extent) = x.0[at] else { return None };
    let part = |&size: &i64| {
        let mut shape = x.clone();
        shape.0[at] = Of(usize::try_from(size).ok()?);
        Some(shape)
    };
    let total = sizes.iter().try_fold(0i64, |total, &size| total.checked_add(size))?;
    sizes.iter().map(part).collect::<Option<Vec<_>>>().filter(|_| total == extent as i64)
}

fn sliced(x: &Shape, starts: &[i64], ends: &[i64], axes: &[i64]) -> Option<Shape> {
    let mut shape = x.clone();
    for ((&start, &end), &at) in starts.iter().zip(ends).zip(axes) {
        let at = axis(Some(at), x.rank())?;
        let Of(extent) = x.0[at] else { return None };
        if !(0 <= start && start < end && end <= extent as i64) {
            return None;
        }
        shape.0[at] = Of((end - start) as usize);
    }
    Some(shape)
}

fn gathered(at: Option<i64>, x: &Shape, indices: &Shape) -> Option<Shape> {
    let at = axis(at, x.rank())?;
    let mut shape = x.0.clone();
    shape.splice(at..=at, indices.0.iter().copied());
    Some(Shape(shape))
}

fn padded(x: &Shape, pads: &[i64]) -> Option<Shape> {
    let rank = x.rank();
    let extent = |(at, extent): (usize, &Extent)| match (extent, pads.get(at)?.checked_add(*pads.get(at + rank)?)?) {
        (extent, 0) => Some(*extent),
        (Of(extent), more) => usize::try_from((*extent as i64).checked_add(more)?).ok().map(Of),
        (Batch, _) => None,
    };
    x.0.iter().enumerate().map(extent).collect::<Option<Vec<_>>>().filter(|_| pads.len() == 2 * rank).map(Shape)
}

fn reduced(x: &Shape, axes: &[i64], keep: bool) -> Option<Shape> {
    let axes: Vec<usize> = axes.iter().map(|&at| axis(Some(at), x.rank())).collect::<Option<_>>()?;
    let kept = x.0.iter().enumerate().filter_map(|(at, extent)| match axes.contains(&at) {
        true => keep.then_some(Of(1)),
        false => Some(*extent),
    });
    (!axes.is_empty()).then(|| Shape(kept.collect()))
}
