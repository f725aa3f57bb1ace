//! Computes a graph with plain loops in double precision, for tests: what the operators mean, by the standard's text.

use std::collections::HashMap;

use super::proto::tensor_proto::DataType;
use super::proto::{ModelProto, NodeProto, TensorProto};

/// Numbers in some extents.
#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl Array {
    pub(super) fn new(dims: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{dims:?}");
        Array { dims: dims.to_vec(), values }
    }

    /// Every value by its place.
    fn from(dims: &[usize], mut value: impl FnMut(&[usize]) -> f64) -> Self {
        let mut at = vec![0; dims.len()];
        let count = dims.iter().product();
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            values.push(value(&at));
            for axis in (0..dims.len()).rev() {
                at[axis] += 1;
                if at[axis] < dims[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        Array::new(dims, values)
    }

    fn at(&self, place: &[usize]) -> f64 {
        self.values[place.iter().zip(&self.dims).fold(0, |sum, (&at, &extent)| sum * extent + at)]
    }

    fn map(&self, function: impl Fn(f64) -> f64) -> Self {
        Array::new(&self.dims, self.values.iter().map(|&value| function(value)).collect())
    }

    /// The value at a place of a larger shape: extents of one are repeated.
    fn broadcast(&self, place: &[usize]) -> f64 {
        let place = &place[place.len() - self.dims.len()..];
        let own: Vec<usize> = place.iter().zip(&self.dims).map(|(&at, &side)| if side == 1 { 0 } else { at }).collect();
        self.at(&own)
    }

    fn with(&self, other: &Self, function: impl Fn(f64, f64) -> f64) -> Self {
        let rank = self.dims.len().max(other.dims.len());
        let side = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
        let dims: Vec<usize> = (0..rank).map(|axis| side(&self.dims, axis).max(side(&other.dims, axis))).collect();
        Array::from(&dims, |at| function(self.broadcast(at), other.broadcast(at)))
    }

    /// Each row of the innermost extent as another.
    fn rows(&self, function: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        let width = *self.dims.last().expect("rows");
        Array::new(&self.dims, self.values.chunks(width).flat_map(function).collect())
    }

    fn transposed(&self, perm: &[usize]) -> Self {
        let dims: Vec<usize> = perm.iter().map(|&axis| self.dims[axis]).collect();
        Array::from(&dims, |at| {
            let mut place = vec![0; at.len()];
            perm.iter().zip(at).for_each(|(&axis, &at)| place[axis] = at);
            self.at(&place)
        })
    }

    /// A product of the last two extents, for all places of the others.
    fn matmul(&self, other: &Self) -> Self {
        let rank = self.dims.len().max(other.dims.len());
        let (rows, depth) = (self.dims[self.dims.len() - 2], self.dims[self.dims.len() - 1]);
        let columns = other.dims[other.dims.len() - 1];
        let side = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
        let outer: Vec<usize> = (0..rank - 2).map(|axis| side(&self.dims, axis).max(side(&other.dims, axis))).collect();
        // Where the matrices of a place begin: extents of one are repeated.
        let start = |array: &Array, at: &[usize]| {
            let own = &array.dims[..array.dims.len() - 2];
            let at = &at[at.len() - own.len()..];
            let place = at.iter().zip(own).fold(0, |sum, (&at, &side)| sum * side + if side == 1 { 0 } else { at });
            place * array.dims[own.len()] * array.dims[own.len() + 1]
        };
        let mut values = Vec::new();
        Array::from(&outer, |at| {
            let (a, b) = (&self.values[start(self, at)..], &other.values[start(other, at)..]);
            for row in a[..rows * depth].chunks_exact(depth) {
                values.extend((0..columns).map(|column| {
                    row.iter().enumerate().map(|(k, value)| value * b[k * columns + column]).sum::<f64>()
                }));
            }
            0.0
        });
        Array::new(&[&outer[..], &[rows, columns]].concat(), values)
    }

    /// Over windows of the last two extents: `value(image, channel, places that are inside)`.
    fn windows(&self, node: &NodeProto, channels: usize, value: impl Fn(usize, usize, &[[usize; 4]]) -> f64) -> Self {
        let [kernel, strides, pads] = ["kernel_shape", "strides", "pads"].map(|name| ints(node, name));
        let (height, width) = (self.dims[2], self.dims[3]);
        let side = |extent: usize, axis: usize| {
            (extent as i64 + pads[axis] + pads[axis + 2] - kernel[axis]) as usize / strides[axis] as usize + 1
        };
        let dims = [self.dims[0], channels, side(height, 0), side(width, 1)];
        Array::from(&dims, |at| {
            let mut inside = Vec::new();
            for row in 0..kernel[0] {
                for column in 0..kernel[1] {
                    let y = at[2] as i64 * strides[0] + row - pads[0];
                    let x = at[3] as i64 * strides[1] + column - pads[1];
                    if (0..height as i64).contains(&y) && (0..width as i64).contains(&x) {
                        inside.push([y, x, row, column].map(|place| place as usize));
                    }
                }
            }
            value(at[0], at[1], &inside)
        })
    }
}

fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.map(|attribute| attribute.ints.clone()).unwrap_or_default()
}

fn int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name)?.i
}

fn float(node: &NodeProto, name: &str) -> f64 {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.f).expect(name).into()
}

/// The values of a constant.
fn constant(tensor: &TensorProto) -> Array {
    let bytes = &tensor.raw_data;
    let dims: Vec<usize> = tensor.dims.iter().map(|&extent| extent as usize).collect();
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    let values = match DataType::try_from(tensor.data_type).expect("a type") {
        DataType::Float => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        DataType::Int8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        DataType::Int64 => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        DataType::Bfloat16 => pairs().map(|pair| half::bf16::from_le_bytes(pair).to_f64()).collect(),
        DataType::Float16 => pairs().map(|pair| half::f16::from_le_bytes(pair).to_f64()).collect(),
        DataType::Undefined => panic!("no type"),
    };
    Array::new(&dims, values)
}

/// The outputs of a model, by their names.
pub(super) fn run(model: &ModelProto, pixels: Array) -> HashMap<String, Array> {
    let graph = model.graph.as_ref().expect("a graph");
    let mut known: HashMap<&str, Array> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), constant(tensor))).collect();
    known.insert(&graph.input[0].name, pixels);
    for node in &graph.node {
        let inputs: Vec<&Array> = node.input.iter().map(|name| &known[name.as_str()]).collect();
        let outputs = compute(node, &inputs);
        assert_eq!(outputs.len(), node.output.len());
        known.extend(node.output.iter().map(String::as_str).zip(outputs));
    }
    graph
        .output
        .iter()
        .map(|output| (output.name.clone(), known.remove(output.name.as_str()).expect("computed")))
        .collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::MIN, f64::max);
    let total: f64 = row.iter().map(|x| (x - top).exp()).sum();
    row.iter().map(|x| (x - top).exp() / total).collect()
}

fn normalized(row: &[f64], mean: f64, epsilon: f64) -> Vec<f64> {
    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
    row.iter().map(|x| (x - mean) / (variance + epsilon).sqrt()).collect()
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len() as f64
}

fn gelu(node: &NodeProto) -> fn(f64) -> f64 {
    let approximate = node.attribute.iter().find(|attribute| attribute.name == "approximate");
    match approximate.and_then(|attribute| attribute.s.as_deref()) {
        Some(b"tanh") => |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        },
        _ => |x| 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
    }
}

fn compute(node: &NodeProto, inputs: &[&Array]) -> Vec<Array> {
    let x = inputs[0];
    let integers = |index: usize| inputs[index].values.iter().map(|&value| value as i64).collect::<Vec<_>>();
    let axis = |name: &str| {
        let axis = int(node, name).expect("an axis");
        if axis < 0 { (axis + x.dims.len() as i64) as usize } else { axis as usize }
    };
    let one = match node.op_type.as_str() {
        "Erf" => x.map(libm::erf),
        "Tanh" => x.map(f64::tanh),
        "Sigmoid" => x.map(|x| 1.0 / (1.0 + (-x).exp())),
        "Relu" => x.map(|x| x.max(0.0)),
        "Sqrt" => x.map(f64::sqrt),
        "Neg" => x.map(|x| -x),
        "Cast" => x.clone(),
        "Gelu" => x.map(gelu(node)),
        "Softmax" => x.rows(softmax),
        "Add" => x.with(inputs[1], |a, b| a + b),
        "Mul" => x.with(inputs[1], |a, b| a * b),
        "Div" => x.with(inputs[1], |a, b| a / b),
        "Pow" => x.with(inputs[1], f64::powf),
        "MatMul" => x.matmul(inputs[1]),
        "Gemm" => {
            let product = x.matmul(&inputs[1].transposed(&[1, 0]));
            inputs.get(2).map_or_else(|| product.clone(), |bias| product.with(bias, |a, b| a + b))
        }
        "DequantizeLinear" => {
            let (axis, scales) = (axis("axis"), inputs[1]);
            Array::from(&x.dims, |at| x.at(at) * scales.values[at[axis]])
        }
        "LayerNormalization" => {
            let normed = x.rows(|row| normalized(row, mean(row), float(node, "epsilon")));
            normed.with(inputs[1], |a, b| a * b).with(inputs[2], |a, b| a + b)
        }
        "RMSNormalization" => x.rows(|row| normalized(row, 0.0, float(node, "epsilon"))).with(inputs[1], |a, b| a * b),
        "InstanceNormalization" => {
            let normed = x.rows(|row| normalized(row, mean(row), float(node, "epsilon")));
            let of = |array: &Array| Array::new(&[array.dims[0], 1], array.values.clone());
            normed.with(&of(inputs[1]), |a, b| a * b).with(&of(inputs[2]), |a, b| a + b)
        }
        "Conv" => {
            let weight = inputs[1];
            x.windows(node, weight.dims[0], |image, output, inside| {
                let channels = 0..weight.dims[1];
                let sum = channels
                    .flat_map(|c| inside.iter().map(move |at| (c, at)))
                    .map(|(c, &[y, column, ky, kx])| x.at(&[image, c, y, column]) * weight.at(&[output, c, ky, kx]));
                sum.sum::<f64>() + inputs.get(2).map_or(0.0, |bias| bias.values[output])
            })
        }
        "MaxPool" => x.windows(node, x.dims[1], |image, channel, inside| {
            inside.iter().map(|&[y, column, ..]| x.at(&[image, channel, y, column])).fold(f64::MIN, f64::max)
        }),
        "AveragePool" => x.windows(node, x.dims[1], |image, channel, inside| {
            let sum: f64 = inside.iter().map(|&[y, column, ..]| x.at(&[image, channel, y, column])).sum();
            sum / inside.len() as f64
        }),
        "Transpose" => {
            let perm: Vec<usize> = ints(node, "perm").iter().map(|&axis| axis as usize).collect();
            x.transposed(&perm)
        }
        "Reshape" => {
            let side = |(axis, side): (usize, i64)| if side == 0 { x.dims[axis] } else { side as usize };
            let dims: Vec<usize> = integers(1).into_iter().enumerate().map(side).collect();
            Array::new(&dims, x.values.clone())
        }
        "Concat" => {
            let axis = axis("axis");
            let mut dims = x.dims.clone();
            dims[axis] = inputs.iter().map(|part| part.dims[axis]).sum();
            Array::from(&dims, |at| {
                let mut at = at.to_vec();
                for part in inputs {
                    if at[axis] < part.dims[axis] {
                        return part.at(&at);
                    }
                    at[axis] -= part.dims[axis];
                }
                unreachable!("within one of the parts")
            })
        }
        "Split" => {
            let axis = axis("axis");
            let mut first = 0;
            let part = |size: i64| {
                let (start, mut dims) = (first, x.dims.clone());
                dims[axis] = size as usize;
                first += size as usize;
                Array::from(&dims, |at| {
                    let mut at = at.to_vec();
                    at[axis] += start;
                    x.at(&at)
                })
            };
            return integers(1).into_iter().map(part).collect();
        }
        "Slice" => {
            let (starts, ends, axes) = (integers(1), integers(2), integers(3));
            let mut dims = x.dims.clone();
            axes.iter()
                .zip(starts.iter().zip(&ends))
                .for_each(|(&axis, (s, e))| dims[axis as usize] = (e - s) as usize);
            Array::from(&dims, |at| {
                let mut at = at.to_vec();
                axes.iter().zip(&starts).for_each(|(&axis, &start)| at[axis as usize] += start as usize);
                x.at(&at)
            })
        }
        "Gather" => {
            let (axis, indices) = (axis("axis"), inputs[1]);
            let inner = indices.dims.len();
            let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
            Array::from(&dims, |at| {
                let index = indices.at(&at[axis..axis + inner]) as usize;
                x.at(&[&at[..axis], &[index], &at[axis + inner..]].concat())
            })
        }
        "Pad" => {
            let (pads, rank) = (integers(1), x.dims.len());
            let dims: Vec<usize> =
                (0..rank).map(|axis| x.dims[axis] + (pads[axis] + pads[axis + rank]) as usize).collect();
            Array::from(&dims, |at| {
                let place: Vec<usize> = at.iter().zip(&pads).map(|(&at, &pad)| at.wrapping_sub(pad as usize)).collect();
                if place.iter().zip(&x.dims).all(|(at, side)| at < side) { x.at(&place) } else { 0.0 }
            })
        }
        "ReduceMean" | "ReduceMax" => {
            let axes = if inputs.len() > 1 { integers(1) } else { ints(node, "axes") };
            let axis = if axes[0] < 0 { (axes[0] + x.dims.len() as i64) as usize } else { axes[0] as usize };
            let (mut dims, side) = (x.dims.clone(), x.dims[axis]);
            dims[axis] = 1;
            let maximum = node.op_type == "ReduceMax";
            let mut reduced = Array::from(&dims, |at| {
                let mut at = at.to_vec();
                let all: Vec<f64> = (0..side)
                    .map(|place| {
                        at[axis] = place;
                        x.at(&at)
                    })
                    .collect();
                if maximum { all.into_iter().fold(f64::MIN, f64::max) } else { mean(&all) }
            });
            if int(node, "keepdims") == Some(0) {
                reduced.dims.remove(axis);
            }
            reduced
        }
        "Attention" => attention(node, inputs),
        other => panic!("`{other}` is not interpreted"),
    };
    vec![one]
}

fn attention(node: &NodeProto, inputs: &[&Array]) -> Array {
    let heads = int(node, "q_num_heads").map(|heads| heads as usize);
    let split = |x: &Array| match heads {
        None => x.clone(),
        Some(heads) => {
            let cut = Array::new(&[x.dims[0], x.dims[1], heads, x.dims[2] / heads], x.values.clone());
            cut.transposed(&[0, 2, 1, 3])
        }
    };
    let [query, key, value] = [0, 1, 2].map(|input| split(inputs[input]));
    let scores = query.matmul(&key.transposed(&[0, 1, 3, 2])).map(|score| score * float(node, "scale"));
    let scores = inputs.get(3).map_or_else(|| scores.clone(), |bias| scores.with(bias, |a, b| a + b));
    let mixed = scores.rows(softmax).matmul(&value);
    match heads {
        None => mixed,
        Some(_) => Array::new(&inputs[0].dims, mixed.transposed(&[0, 2, 1, 3]).values),
    }
}
