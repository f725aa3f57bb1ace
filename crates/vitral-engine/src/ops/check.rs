//! What the tests of operations share: goldens from PyTorch, finite differences, fused against recorded.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::OnceLock;

use super::random::normal;
use crate::arena::{Adapter, Declarations, ParameterId, ParameterKind, Parameters};
use crate::device::cpu::Cpu;
use crate::tape::Context;
use crate::tensor::{Shape, Tensor};

type Stored = (Vec<usize>, Vec<f32>);

fn all_goldens() -> &'static HashMap<String, Stored> {
    static ALL: OnceLock<HashMap<String, Stored>> = OnceLock::new();
    ALL.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../goldens/operations.safetensors");
        let bytes = std::fs::read(path).expect("goldens/operations.safetensors");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let read = |view: &safetensors::tensor::TensorView<'_>| -> Vec<f32> {
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect()
                }
                safetensors::Dtype::I64 => view
                    .data()
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().expect("eight")) as f32)
                    .collect(),
                safetensors::Dtype::U8 => view.data().iter().map(|&b| f32::from(b)).collect(),
                other => panic!("a golden of {other:?}"),
            }
        };
        file.tensors().iter().map(|(name, view)| (name.clone(), (view.shape().to_vec(), read(view)))).collect()
    })
}

/// The tensors of one golden case.
pub(crate) struct Golden {
    case: String,
    tensors: HashMap<String, Stored>,
}

impl Golden {
    pub(crate) fn load(case: &str) -> Self {
        let prefix = format!("{case}.");
        let tensors: HashMap<_, _> = all_goldens()
            .iter()
            .filter_map(|(name, stored)| Some((name.strip_prefix(&prefix)?.to_owned(), stored.clone())))
            .collect();
        assert!(!tensors.is_empty(), "no golden `{case}`");
        Golden { case: case.to_owned(), tensors }
    }

    /// Images and feature maps from channels first to channels last.
    pub(crate) fn channels_last(mut self) -> Self {
        for (name, (shape, values)) in &mut self.tensors {
            if shape.len() == 4 && !name.contains("weight") {
                let &mut [batch, channels, height, width] = shape.as_mut_slice() else { unreachable!() };
                let area = height * width;
                let source = values.clone();
                for (i, value) in values.iter_mut().enumerate() {
                    let (image, pixel, channel) = (i / (area * channels), i / channels % area, i % channels);
                    *value = source[(image * channels + channel) * area + pixel];
                }
                *shape = vec![batch, height, width, channels];
            }
        }
        self
    }

    pub(crate) fn reshaped(mut self, shapes: &[(&str, &[usize])]) -> Self {
        for (name, shape) in shapes {
            self.tensors.get_mut(*name).expect("named in the golden").0 = shape.to_vec();
        }
        self
    }

    fn stored(&self, name: &str) -> &Stored {
        self.tensors.get(name).unwrap_or_else(|| panic!("golden `{}` has no `{name}`", self.case))
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = self.stored(name);
        Tensor::from_slice(&Cpu::with_threads(1), Shape::new(shape), values)
    }

    pub(crate) fn scalar(&self, name: &str) -> f32 {
        self.stored(name).1[0]
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<usize> {
        self.stored(name).1.iter().map(|&x| x as usize).collect()
    }

    /// A mask of 1 and 0 as what is added to scores.
    pub(crate) fn key_mask(&self, name: &str) -> Tensor {
        let (shape, values) = self.stored(name);
        let added: Vec<f32> = values.iter().map(|&m| if m == 0.0 { f32::NEG_INFINITY } else { 0.0 }).collect();
        Tensor::from_slice(&Cpu::with_threads(1), Shape::new(shape), &added)
    }

    pub(crate) fn compare(&self, name: &str, found: &Tensor) {
        self.compare_values(name, found.values());
    }

    fn compare_values(&self, name: &str, found: &[f32]) {
        let expected = &self.stored(name).1;
        assert_eq!(found.len(), expected.len(), "`{}.{name}`", self.case);
        let scale = expected.iter().map(|x| x.abs()).fold(1.0, f32::max);
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let near = (found - expected).abs() <= 1e-5 * scale;
            assert!(near, "`{}.{name}`[{i}] is {found}, expected {expected}", self.case);
        }
    }
}

/// Parameters made on the fly, and the ways to check an operation with them.
pub(crate) struct Check {
    device: Cpu,
    declarations: Declarations,
    values: Vec<Vec<f32>>,
    named: Vec<(String, ParameterId)>,
    adapters: Vec<(ParameterId, Adapter)>,
    seed: Cell<u64>,
}

impl Check {
    pub(crate) fn new() -> Self {
        Check::with_threads(2)
    }

    pub(crate) fn with_threads(threads: usize) -> Self {
        let device = Cpu::with_threads(threads);
        Check {
            device,
            declarations: Declarations::default(),
            values: vec![],
            named: vec![],
            adapters: vec![],
            seed: Cell::new(1),
        }
    }

    /// Adapts a matrix.
    pub(crate) fn adapt(&mut self, weight: ParameterId, adapter: Adapter) {
        self.adapters.push((weight, adapter));
    }

    fn with_adapters(&self, mut parameters: Parameters) -> Parameters {
        self.adapters.iter().for_each(|&(weight, adapter)| parameters.adapt(weight, adapter));
        parameters
    }

    fn noise(&self, count: usize) -> Vec<f32> {
        self.seed.set(self.seed.get() + 1);
        (0..count).map(|i| normal(self.seed.get(), i as u64)).collect()
    }

    fn add(&mut self, shape: &[usize], kind: ParameterKind, values: Vec<f32>) -> ParameterId {
        self.values.push(values);
        self.declarations.declare(format!("p{}", self.values.len()), shape, kind)
    }

    /// A random parameter of any shape.
    pub(crate) fn plain(&mut self, shape: &[usize]) -> ParameterId {
        let values = self.noise(shape.iter().product());
        self.add(shape, ParameterKind::Plain, values)
    }

    pub(crate) fn vector(&mut self, width: usize) -> ParameterId {
        self.plain(&[width])
    }

    pub(crate) fn matrix(&mut self, rows: usize, columns: usize) -> ParameterId {
        let values = self.noise(rows * columns);
        self.add(&[rows, columns], ParameterKind::Matrix, values)
    }

    /// A parameter of a golden, whose gradient is compared too.
    pub(crate) fn golden(&mut self, golden: &Golden, name: &str) -> ParameterId {
        let (shape, values) = golden.stored(name).clone();
        let id = self.add(&shape, ParameterKind::Plain, values);
        self.named.push((name.to_owned(), id));
        id
    }

    /// A golden weight as a matrix `[out, everything else]`.
    pub(crate) fn golden_matrix(&mut self, golden: &Golden, name: &str) -> ParameterId {
        let (shape, values) = golden.stored(name).clone();
        let id = self.add(&[shape[0], values.len() / shape[0]], ParameterKind::Matrix, values);
        self.named.push((name.to_owned(), id));
        id
    }

    pub(crate) fn values(&self, id: ParameterId) -> Vec<f32> {
        self.frozen().read(id)
    }

    /// A random input.
    pub(crate) fn input(&self, shape: &[usize]) -> Tensor {
        self.tensor(shape, &self.noise(shape.iter().product()))
    }

    pub(crate) fn tensor(&self, shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice(&self.device, Shape::new(shape), values)
    }

    fn frozen(&self) -> Parameters {
        let mut values = self.values.iter();
        let read = |_: &_| Ok::<_, Infallible>(values.next().expect("one for each").into());
        match Parameters::frozen(self.declarations.clone(), self.device.clone(), read) {
            Ok(parameters) => self.with_adapters(parameters),
        }
    }

    fn flat(&self) -> Parameters {
        let mut parameters = Parameters::zeros(self.declarations.clone(), self.device.clone());
        for (id, values) in self.declarations.ids().zip(&self.values) {
            let range = parameters.range(id);
            parameters.flat_mut()[range].copy_from_slice(values);
        }
        self.with_adapters(parameters)
    }

    /// The result in inference.
    pub(crate) fn run(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) -> Tensor {
        f(&Context::inference(&self.frozen()), inputs)
    }

    /// The result while recording, and gradients of `Σ upstream · result`: of every input, and of the parameters.
    fn gradients(
        &self,
        context: Context<'_>,
        inputs: &[Tensor],
        upstream: &dyn Fn(&Tensor) -> Tensor,
        f: &dyn Fn(&Context<'_>, &[Tensor]) -> Tensor,
    ) -> (Tensor, Vec<Tensor>, Vec<f32>) {
        let mut flat = vec![0.0; context.parameters().flat().len()];
        let watched: Vec<Tensor> = inputs.iter().map(|x| context.watch(x)).collect();
        let y = f(&context, &watched);
        let upstream = upstream(&y);
        let found = context.backward_from(&y, upstream, Some(&mut flat));
        let of = |x: &Tensor| found.of(x).cloned().unwrap_or_else(|| panic!("no gradient for {:?}", x.shape()));
        (y, watched.iter().map(of).collect(), flat)
    }

    /// Result and gradients against a golden. `names` are the inputs' names in it.
    pub(crate) fn against(
        &self,
        golden: &Golden,
        inputs: &[Tensor],
        names: &[&str],
        f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor,
    ) {
        golden.compare("y", &self.run(inputs, &f));
        let parameters = self.flat();
        let upstream = |y: &Tensor| golden.tensor("grad_y").reshape(y.shape());
        let (y, found, flat) = self.gradients(Context::recording(&parameters), inputs, &upstream, &f);
        golden.compare("y", &y);
        for (name, gradient) in names.iter().zip(&found) {
            golden.compare(&format!("grad_{name}"), gradient);
        }
        for (name, id) in self.named.iter().filter(|(name, _)| golden.tensors.contains_key(&format!("grad_{name}"))) {
            golden.compare_values(&format!("grad_{name}"), &flat[parameters.range(*id)]);
        }
    }

    /// Gradients against central differences, without dropping anything.
    pub(crate) fn differences(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        self.compare_differences(inputs, &|parameters| Context::recording(parameters), &f);
    }

    /// Gradients against central differences with everything that training drops.
    pub(crate) fn differences_in_training(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        self.compare_differences(inputs, &|parameters| Context::training(parameters, 5), &f);
    }

    fn compare_differences(
        &self,
        inputs: &[Tensor],
        context: &dyn for<'a> Fn(&'a Parameters) -> Context<'a>,
        f: &dyn Fn(&Context<'_>, &[Tensor]) -> Tensor,
    ) {
        const STEP: f32 = 1e-2;
        let mut parameters = self.flat();
        let upstream = |y: &Tensor| {
            Tensor::filled(&self.device, y.shape(), |out| {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = normal(99, i as u64);
                }
            })
        };
        let (_, of_inputs, of_parameters) = self.gradients(context(&parameters), inputs, &upstream, f);
        let value = |parameters: &Parameters, inputs: &[Tensor]| -> f64 {
            let y = f(&context(parameters), inputs);
            y.values().iter().zip(upstream(&y).values()).map(|(y, u)| f64::from(*y) * f64::from(*u)).sum()
        };
        let close = |found: f32, difference: f64, what: &str| {
            let near = (f64::from(found) - difference).abs() <= 2e-2 * difference.abs().max(1.0);
            assert!(near, "{what}: gradient {found}, difference {difference}");
        };
        for (which, (input, gradient)) in inputs.iter().zip(&of_inputs).enumerate() {
            for i in 0..input.values().len() {
                let moved = |step: f32| {
                    let mut values = input.values().to_vec();
                    values[i] += step;
                    let mut inputs = inputs.to_vec();
                    inputs[which] = self.tensor(&input.shape(), &values);
                    value(&parameters, &inputs)
                };
                let difference = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
                close(gradient.values()[i], difference, &format!("input {which}[{i}]"));
            }
        }
        for (i, &found) in of_parameters.iter().enumerate() {
            let kept = parameters.flat()[i];
            let mut moved = |step: f32| {
                parameters.flat_mut()[i] = kept + step;
                value(&parameters, inputs)
            };
            let difference = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            parameters.flat_mut()[i] = kept;
            close(found, difference, &format!("parameter element {i}"));
        }
    }

    /// Inference and recording give the same bits.
    pub(crate) fn fused_equals_recorded(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        let recorded = f(&Context::recording(&self.flat()), inputs);
        assert_eq!(self.run(inputs, f).values(), recorded.values());
    }
}
