//! Reads a graph back and checks that it is whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use prost::Message;
use prost::bytes::Bytes;

use super::error::OnnxError;
use super::initializer::width;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use super::shapes::{Inputs, Shape, infer};
use super::write::{alignment, digest};

/// What is in an ONNX file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Contents {
    /// The version of the set of operators.
    pub opset: i64,
    /// Names and shapes of inputs; an open extent is `None`.
    pub inputs: Vec<(String, Vec<Option<usize>>)>,
    /// Names and shapes of outputs.
    pub outputs: Vec<(String, Vec<Option<usize>>)>,
    /// How many nodes there are of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Names, extents and types of the constants.
    pub constants: BTreeMap<String, (Vec<usize>, &'static str)>,
    /// Keys and values beside the graph.
    pub metadata: BTreeMap<String, String>,
    /// Digests of the constants' bytes.
    pub(super) digests: HashMap<String, u64>,
}

/// Reads an ONNX file that Vitral has written, and checks that it is whole: every constant has as many bytes as its extents
/// say and is used, every input of a node is computed before it, no name is taken twice, nothing is computed in vain, and
/// every node's shape follows from those of its inputs. Values are not computed.
///
/// # Errors
/// If the file cannot be read, or [`OnnxError::NotWhole`] with the first thing that is wrong.
pub fn inspect(path: &Path) -> Result<Contents, OnnxError> {
    let bytes = std::fs::read(path).map_err(|fault| OnnxError::reading(path, fault))?;
    let broken = |fault: String| OnnxError::NotWhole { path: path.to_owned(), fault };
    let model = ModelProto::decode(Bytes::from(bytes)).map_err(|fault| broken(fault.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| broken("it has no graph".into()))?;
    let mut contents = Contents {
        opset: model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(0, |set| set.version),
        inputs: described(&graph.input),
        outputs: described(&graph.output),
        operators: BTreeMap::new(),
        constants: BTreeMap::new(),
        metadata: model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect(),
        digests: HashMap::new(),
    };
    for node in &graph.node {
        *contents.operators.entry(node.op_type.clone()).or_default() += 1;
    }
    for tensor in &graph.initializer {
        let (extents, kind, bytes) = values(tensor, path).map_err(broken)?;
        contents.digests.insert(tensor.name.clone(), digest(&bytes));
        if contents.constants.insert(tensor.name.clone(), (extents, name(kind))).is_some() {
            return Err(broken(format!("the constant `{}` is there twice", tensor.name)));
        }
    }
    shapes(graph).map_err(broken)?;
    Ok(contents)
}

fn name(kind: DataType) -> &'static str {
    match kind {
        DataType::Float => "f32",
        DataType::Float16 => "f16",
        DataType::Bfloat16 => "bf16",
        DataType::Int64 => "int64",
        DataType::Int8 => "int8",
        DataType::Undefined => "undefined",
    }
}

fn described(values: &[ValueInfoProto]) -> Vec<(String, Vec<Option<usize>>)> {
    use super::shapes::Extent;
    let extent = |extent: Extent| match extent {
        Extent::Batch => None,
        Extent::Of(extent) => Some(extent),
    };
    let shape = |value: &ValueInfoProto| Shape::of_type(value.r#type.as_ref()).unwrap_or_default();
    values.iter().map(|value| (value.name.clone(), shape(value).0.into_iter().map(extent).collect())).collect()
}

/// The extents, type and bytes of a constant.
fn values(tensor: &TensorProto, path: &Path) -> Result<(Vec<usize>, DataType, Bytes), String> {
    let name = &tensor.name;
    let kind = DataType::try_from(tensor.data_type).unwrap_or_default();
    if kind == DataType::Undefined {
        return Err(format!("the constant `{name}` is of type {}, which is none of ours", tensor.data_type));
    }
    let extents: Option<Vec<usize>> = tensor.dims.iter().map(|&extent| usize::try_from(extent).ok()).collect();
    let size = extents
        .as_ref()
        .and_then(|extents| extents.iter().try_fold(width(kind), |size, &extent| size.checked_mul(extent)));
    let (Some(extents), Some(size)) = (extents, size) else {
        return Err(format!("the constant `{name}` has the extents {:?}", tensor.dims));
    };
    let bytes = match tensor.data_location == i32::from(DataLocation::External) {
        true => external(tensor, size, path)?,
        false => tensor.raw_data.clone(),
    };
    match bytes.len() == size {
        true => Ok((extents, kind, bytes)),
        false => Err(format!("the constant `{name}` has {} bytes, its extents say {size}", bytes.len())),
    }
}

/// The bytes of a constant in a file beside the graph.
fn external(tensor: &TensorProto, size: usize, path: &Path) -> Result<Bytes, String> {
    let name = &tensor.name;
    let entry = |key: &str| {
        let found = tensor.external_data.iter().find(|entry| entry.key == key);
        found.map(|entry| entry.value.as_str()).ok_or_else(|| format!("the constant `{name}` has no `{key}`"))
    };
    let number = |key: &str| {
        entry(key)?.parse::<usize>().map_err(|_| format!("the constant `{name}` has a `{key}` that is not a number"))
    };
    let location = Path::new(entry("location")?);
    let mut parts = location.components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
        return Err(format!("the constant `{name}` is not in a file beside the graph"));
    }
    let (offset, length) = (number("offset")?, number("length")?);
    let end = offset.checked_add(length).filter(|_| length == size && offset % alignment(size) == 0);
    let Some(end) = end else {
        return Err(format!("the constant `{name}` of {size} bytes is {length} bytes at {offset} of its file"));
    };
    let file = path.with_file_name(location);
    let read = || {
        let mut file = File::open(&file)?;
        // Before memory is asked for: the file may be shorter than the graph says.
        if file.metadata()?.len() < end as u64 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        file.seek(SeekFrom::Start(offset as u64))?;
        let mut bytes = vec![0; length];
        file.read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    };
    read().map_err(|fault: std::io::Error| format!("the constant `{name}` cannot be read: {fault}"))
}

/// Checks names and shapes.
fn shapes(graph: &GraphProto) -> Result<(), String> {
    let mut known: HashMap<&str, Shape> = HashMap::new();
    let mut integers: HashMap<&str, Vec<i64>> = HashMap::new();
    let mut used: HashSet<&str> = HashSet::new();
    let stated: HashMap<&str, Shape> = graph
        .value_info
        .iter()
        .chain(&graph.output)
        .filter_map(|value| Some((value.name.as_str(), Shape::of_type(value.r#type.as_ref())?)))
        .collect();
    for input in &graph.input {
        let shape = Shape::of_type(input.r#type.as_ref());
        known.insert(&input.name, shape.ok_or_else(|| format!("the input `{}` has no shape", input.name))?);
    }
    for tensor in &graph.initializer {
        let extents: Vec<usize> = tensor.dims.iter().map(|&extent| extent as usize).collect();
        known.insert(&tensor.name, Shape::fixed(&extents));
        if tensor.data_type == i32::from(DataType::Int64) && tensor.data_location == 0 {
            let each = tensor.raw_data.chunks_exact(8);
            let values = each.map(|bytes| i64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect();
            integers.insert(&tensor.name, values);
        }
    }
    for node in &graph.node {
        let shape = |name: &String| {
            known.get(name.as_str()).ok_or_else(|| format!("`{}` takes `{name}`, which nothing computes", node.name))
        };
        let inputs = Inputs {
            shapes: node.input.iter().map(shape).collect::<Result<_, _>>()?,
            integers: node.input.iter().map(|name| integers.get(name.as_str()).map(Vec::as_slice)).collect(),
        };
        let shapes = infer(node, &inputs)?;
        if shapes.len() != node.output.len() {
            return Err(format!("`{}` has {} outputs, expected {}", node.name, node.output.len(), shapes.len()));
        }
        used.extend(node.input.iter().map(String::as_str));
        for (output, shape) in node.output.iter().zip(shapes) {
            if stated.get(output.as_str()) != Some(&shape) {
                return Err(format!("`{output}` has the shape {shape}, and is described otherwise"));
            }
            if known.insert(output, shape).is_some() {
                return Err(format!("`{output}` is computed twice"));
            }
        }
    }
    used.extend(graph.output.iter().map(|output| output.name.as_str()));
    for output in &graph.output {
        if !stated.contains_key(output.name.as_str()) || !known.contains_key(output.name.as_str()) {
            return Err(format!("the output `{}` is not computed", output.name));
        }
    }
    match known.keys().find(|name| !used.contains(*name)) {
        Some(name) => Err(format!("`{name}` is not used")),
        None => Ok(()),
    }
}
