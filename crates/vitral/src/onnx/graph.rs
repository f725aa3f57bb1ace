//! A graph under construction: nodes, the shapes of what they compute, and constants.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vitral_engine::{DType, ParameterSpec};

use super::attribute;
use super::initializer::{Initializer, Values, Weights, transposed};
use super::options::Opset;
use super::proto::tensor_proto::DataType;
use super::proto::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};
use super::shapes::{Inputs, Shape, infer};
use crate::config::ModelConfig;
use crate::model::Vit;
use crate::weights::WeightsError;

/// What a node computes, an input or a constant, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value(pub(super) String);

/// Types that single parameters are stored in, by their names.
pub(super) type Kept = BTreeMap<String, DType>;

/// A graph under construction. Nodes are named as the model names its parts: `blocks.3.attention.scores`.
pub(super) struct Graph<'a> {
    pub(super) opset: Opset,
    vit: &'a Vit,
    /// The type of stored matrices.
    storage: DataType,
    /// Parameters that are stored in another type.
    kept: &'a Kept,
    nodes: Vec<NodeProto>,
    shapes: HashMap<String, Shape>,
    initializers: Vec<Initializer>,
    /// Where each constant of integers is among them.
    integers: HashMap<String, usize>,
    used: BTreeSet<String>,
}

impl<'a> Graph<'a> {
    /// Matrices, filters and tables are stored in `storage`, those in `kept` in a type of their own.
    pub(super) fn new(vit: &'a Vit, opset: Opset, storage: DType, kept: &'a Kept) -> Self {
        let storage = match storage {
            DType::F32 | DType::I8 => DataType::Float,
            DType::Bf16 => DataType::Bfloat16,
            DType::F16 => DataType::Float16,
        };
        Graph {
            opset,
            vit,
            storage,
            kept,
            nodes: Vec::new(),
            shapes: HashMap::new(),
            initializers: Vec::new(),
            integers: HashMap::new(),
            used: BTreeSet::new(),
        }
    }

    pub(super) fn config(&self) -> &'a ModelConfig {
        self.vit.config()
    }

    /// The shape of a value.
    pub(super) fn shape(&self, value: &Value) -> &Shape {
        &self.shapes[&value.0]
    }

    /// The graph's input.
    pub(super) fn input(&mut self, name: &str, shape: Shape) -> Value {
        self.shapes.insert(name.into(), shape);
        Value(name.into())
    }

    /// A node with one output, both of one name.
    ///
    /// # Panics
    /// If the operator cannot take such inputs, or the name is taken.
    pub(super) fn node(&mut self, op: &str, name: &str, inputs: &[&Value], attributes: Vec<AttributeProto>) -> Value {
        let mut outputs = self.nodes(op, name, inputs, attributes, vec![name.to_owned()]);
        outputs.pop().expect("as many as there are names")
    }

    /// A node with several outputs.
    ///
    /// # Panics
    /// As [`Graph::node`].
    pub(super) fn nodes(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&Value],
        attribute: Vec<AttributeProto>,
        output: Vec<String>,
    ) -> Vec<Value> {
        let input = inputs.iter().map(|value| value.0.clone()).collect();
        let node = NodeProto { input, output, name: name.into(), op_type: op.into(), attribute, domain: String::new() };
        let known = Inputs {
            shapes: inputs.iter().map(|value| self.shape(value)).collect(),
            integers: inputs.iter().map(|value| self.integers_of(value)).collect(),
        };
        let shapes = infer(&node, &known).unwrap_or_else(|fault| panic!("{fault}"));
        let values: Vec<Value> = node.output.iter().cloned().map(Value).collect();
        for (value, shape) in values.iter().zip(shapes) {
            let before = self.shapes.insert(value.0.clone(), shape);
            assert!(before.is_none(), "`{}` is computed twice", value.0);
        }
        self.nodes.push(node);
        values
    }

    fn integers_of(&self, value: &Value) -> Option<&[i64]> {
        match &self.initializers[*self.integers.get(&value.0)?].values {
            Values::Integers(values) => Some(values),
            Values::Floats(_) | Values::Rows(_) => None,
        }
    }

    /// A constant that is there already, as it is used.
    pub(super) fn there(&self, name: &str) -> Option<Value> {
        let names = [format!("{name}.f32"), name.to_owned()];
        names.into_iter().find(|name| self.shapes.contains_key(name)).map(Value)
    }

    /// Whether the model has a parameter of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.vit.declarations().find(name).is_some()
    }

    /// A parameter that the graph uses.
    ///
    /// # Panics
    /// If the model has none of that name.
    pub(super) fn spec(&mut self, name: &str) -> &'a ParameterSpec {
        let declarations = self.vit.declarations();
        let id = declarations.find(name).unwrap_or_else(|| panic!("the model has no parameter `{name}`"));
        self.used.insert(name.to_owned());
        declarations.spec(id)
    }

    /// The parameters that the graph does not use.
    pub(super) fn unused(&self) -> Vec<&str> {
        let names = self.vit.declarations().specs().iter().map(|spec| spec.name.as_str());
        names.filter(|name| !self.used.contains(*name)).collect()
    }

    /// Constant integers: `[]` holds one, otherwise as many as there are.
    fn integer_constant(&mut self, name: String, dims: Vec<usize>, values: Vec<i64>) -> Value {
        if !self.integers.contains_key(&name) {
            self.integers.insert(name.clone(), self.initializers.len());
            self.push(&name, &dims, DataType::Int64, Values::Integers(values));
        }
        Value(name)
    }

    /// A list of integers; the same list is there once.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let listed: Vec<String> = values.iter().map(i64::to_string).collect();
        self.integer_constant(format!("constant.{}", listed.join("_")), vec![values.len()], values.to_vec())
    }

    /// One integer.
    pub(super) fn index(&mut self, value: i64) -> Value {
        self.integer_constant(format!("constant.index_{value}"), Vec::new(), vec![value])
    }

    /// A table of integers with a name of its own; the same name is the same table.
    pub(super) fn integer_table(&mut self, name: &str, dims: &[usize], values: impl FnOnce() -> Vec<i64>) -> Value {
        if self.integers.contains_key(name) {
            return Value(name.into());
        }
        self.integer_constant(name.into(), dims.to_vec(), values())
    }

    /// One number, by a name; the same name is the same number.
    pub(super) fn number(&mut self, name: &str, value: f32) -> Value {
        let name = format!("constant.{name}");
        self.there(&name).unwrap_or_else(|| self.calculated(&name, &[], move |_| Ok(vec![value])))
    }

    /// A number that many times; there once.
    pub(super) fn filled(&mut self, name: &str, count: usize, value: f32) -> Value {
        let name = format!("constant.{name}_{count}");
        self.there(&name).unwrap_or_else(|| self.calculated(&name, &[count], move |_| Ok(vec![value; count])))
    }

    /// A constant in 32 bits that is calculated when it is written.
    pub(super) fn calculated(
        &mut self,
        name: &str,
        dims: &[usize],
        values: impl Fn(&Weights<'_, '_>) -> Result<Vec<f32>, WeightsError> + 'static,
    ) -> Value {
        self.push(name, dims, DataType::Float, Values::Floats(Box::new(values)))
    }

    /// A parameter's values as they are, in other extents, in 32 bits: vectors, which take little room.
    pub(super) fn vector(&mut self, name: &str, dims: &[usize]) -> Value {
        if let Some(vector) = self.there(name) {
            return vector;
        }
        let count = self.spec(name).count();
        assert_eq!(count, dims.iter().product::<usize>(), "`{name}` as {dims:?}");
        let own = name.to_owned();
        self.calculated(name, dims, move |weights| Ok(weights.values(&own)?.into_owned()))
    }

    /// A matrix, filter or table, in the type that weights are stored in. `values` may only reorder those of parameters.
    pub(super) fn stored(
        &mut self,
        name: &str,
        dims: &[usize],
        values: impl Fn(&Weights<'_, '_>) -> Result<Vec<f32>, WeightsError> + 'static,
    ) -> Value {
        let kind = match self.kept.get(name) {
            Some(DType::Bf16) => DataType::Bfloat16,
            Some(DType::F16) => DataType::Float16,
            _ => self.storage,
        };
        let stored = self.push(name, dims, kind, Values::Floats(Box::new(values)));
        if kind == DataType::Float {
            return stored;
        }
        // Runtimes without kernels for 16 bits compute this once, when they load the graph.
        let to = attribute::int("to", i64::from(i32::from(DataType::Float)));
        self.node("Cast", &format!("{name}.f32"), &[&stored], vec![to])
    }

    /// A matrix as the linear maps take it: `[in, out]`, or `[out, in]` if `rows` are outputs.
    pub(super) fn matrix(&mut self, name: &str, rows: bool) -> Value {
        let &[outputs, inputs] = &self.spec(name).shape[..] else { panic!("`{name}` is not a matrix") };
        let dims = if rows { [outputs, inputs] } else { [inputs, outputs] };
        let own = name.to_owned();
        if self.kept.get(name) != Some(&DType::I8) {
            return self.stored(name, &dims, move |weights| {
                let values = weights.values(&own)?;
                Ok(if rows { values.into_owned() } else { transposed(&values, outputs, inputs) })
            });
        }
        let integers = move |weights: &Weights<'_, '_>| {
            let integers = weights.integers(&own, outputs)?;
            Ok(if rows { integers } else { transposed(&integers, outputs, inputs) })
        };
        let stored = self.push(name, &dims, DataType::Int8, Values::Rows(Box::new(integers)));
        let own = name.to_owned();
        let scales =
            self.calculated(&format!("{name}.scale"), &[outputs], move |weights| weights.scales(&own, outputs));
        // The zero point is left out: it is zero.
        let axis = attribute::int("axis", if rows { 0 } else { 1 });
        self.node("DequantizeLinear", &format!("{name}.f32"), &[&stored, &scales], vec![axis])
    }

    /// # Panics
    /// If the name is taken.
    fn push(&mut self, name: &str, dims: &[usize], kind: DataType, values: Values) -> Value {
        let before = self.shapes.insert(name.to_owned(), Shape::fixed(dims));
        assert!(before.is_none(), "constant `{name}` is there already");
        self.initializers.push(Initializer { name: name.to_owned(), dims: dims.to_vec(), kind, values });
        Value(name.to_owned())
    }

    /// Gives a value the name that the outside knows it by.
    fn renamed(&mut self, value: &Value, name: &str) {
        let shape = self.shapes.remove(&value.0).expect("a value of this graph");
        assert!(self.shapes.insert(name.to_owned(), shape).is_none(), "the name `{name}` is taken");
        for node in &mut self.nodes {
            let names = node.input.iter_mut().chain(&mut node.output);
            names.filter(|other| **other == value.0).for_each(|other| name.clone_into(other));
        }
    }

    /// The finished graph, without its constants, and those.
    pub(super) fn finish(
        mut self,
        name: &str,
        input: &Value,
        outputs: &[(&str, Value)],
    ) -> (GraphProto, Vec<Initializer>) {
        for (name, value) in outputs {
            self.renamed(value, name);
        }
        let described = |name: &str| ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(self.shapes[name].to_type(DataType::Float.into())),
        };
        let outer = |name: &str| outputs.iter().any(|(output, _)| *output == name);
        let inner = self.nodes.iter().flat_map(|node| &node.output).filter(|name| !outer(name));
        let value_info = inner.map(|name| described(name)).collect();
        let input = vec![described(&input.0)];
        let output = outputs.iter().map(|(name, _)| described(name)).collect();
        let graph =
            GraphProto { node: self.nodes, name: name.to_owned(), initializer: Vec::new(), input, output, value_info };
        (graph, self.initializers)
    }
}
