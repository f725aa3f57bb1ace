//! What the tests of operations share: goldens from PyTorch, the CPU against the reference device, finite differences
//! in double precision, fused against recorded.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::arena::{Adapter, Declarations, ParameterId, ParameterKind, Parameters};
use crate::device::Device;
use crate::device::storage::{FlatBuffer, Storage};
use crate::dtype::DType;
use crate::precision::Precision;
use crate::random::normal;
use crate::shape::Shape;
use crate::tape::{Context, DrawKey};
use crate::tensor::Tensor;

/// How far the CPU may be from the reference device, in units of the largest number.
const NEAR: f64 = 2e-5;
/// The same of a GPU that multiplies in bfloat16, whose operands have 8 bits.
const NEAR_BF16: f64 = 4e-2;
/// The same in IEEE half floats, which have 11.
const NEAR_F16: f64 = 5e-3;
/// How far a gradient may be from a difference in double precision, in units of the largest gradient.
const NEAR_DIFFERENCE: f64 = 1e-6;

impl Tensor {
    /// Its values, in tests.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.to_vec().expect("a device without a fault")
    }

    /// Its values as precisely as the device has them.
    fn precise(&self) -> Vec<f64> {
        match self.storage() {
            Storage::Reference(memory) => memory.wait().expect("a device without a fault"),
            Storage::Cpu(..) | Storage::Cuda(_) => self.values().into_iter().map(f64::from).collect(),
        }
    }
}

impl FlatBuffer {
    fn precise(&self, device: &Device) -> Vec<f64> {
        match device {
            Device::Reference(_) => self.reference_memory().wait().expect("a device without a fault"),
            Device::Cpu(_) | Device::Cuda(_) => {
                self.to_vec().expect("a device without a fault").into_iter().map(f64::from).collect()
            }
        }
    }
}

/// The GPU to check: that of `VITRAL_CHECK_CUDA` if it is set (a folder of NVIDIA's libraries, or nothing for those of the
/// system), else one that is emulated, if this machine has a C++ compiler.
pub(crate) fn gpu() -> Option<Device> {
    let folder = match std::env::var_os("VITRAL_CHECK_CUDA") {
        Some(folder) => Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty()),
        None => match vitral_emulator::driver(false) {
            Ok(folder) => Some(folder),
            Err(missing) if missing.skips() => {
                static SAID: std::sync::Once = std::sync::Once::new();
                SAID.call_once(|| eprintln!("GPU kernels are not tested: {missing}"));
                return None;
            }
            Err(missing) => panic!("{missing}"),
        },
    };
    Some(Device::cuda(0, folder.as_deref()).unwrap_or_else(|error| panic!("{error}")))
}

/// The GPU in every precision, with how near it has to be.
fn gpus() -> Vec<(Device, f64)> {
    let Some(device) = gpu() else { return Vec::new() };
    let within = |precision| device.clone().with_precision(precision).expect("a GPU has it");
    let (in_bf16, in_f16) = (within(Precision::Bf16), within(Precision::F16));
    vec![(device, NEAR), (in_bf16, NEAR_BF16), (in_f16, NEAR_F16)]
}

fn described(device: &Device) -> String {
    format!("{device:?} in {}", device.precision())
}

/// Whether all values are close, relative to the largest one. A NaN is close only to a NaN.
fn near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3, |top: f64, x| if x.abs() > top { x.abs() } else { top });
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let alike = found == expected || (found.is_nan() && expected.is_nan());
        let same = alike || (found - expected).abs() <= tolerance * scale;
        assert!(same, "{what}[{i}] is {found}, expected {expected} (largest {scale})");
    }
}

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
        Device::cpu(1).upload(Shape::new(shape), values).expect("as many numbers")
    }

    pub(crate) fn scalar(&self, name: &str) -> f32 {
        self.stored(name).1[0]
    }

    pub(crate) fn integers(&self, name: &str) -> Vec<usize> {
        self.stored(name).1.iter().map(|&x| x as usize).collect()
    }

    /// A mask of 1 and 0 as a bias of scores.
    pub(crate) fn key_mask(&self, name: &str) -> Tensor {
        let (shape, values) = self.stored(name);
        let added: Vec<f32> = values.iter().map(|&m| if m == 0.0 { f32::NEG_INFINITY } else { 0.0 }).collect();
        Device::cpu(1).upload(Shape::new(shape), &added).expect("as many numbers")
    }

    pub(crate) fn compare(&self, name: &str, found: &Tensor) {
        self.compare_values(name, &found.values());
    }

    fn compare_values(&self, name: &str, found: &[f32]) {
        let expected = &self.stored(name).1;
        assert_eq!(found.len(), expected.len(), "`{}.{name}`", self.case);
        let scale = expected.iter().fold(1.0, |top: f32, x| if x.abs() > top { x.abs() } else { top });
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let near = (found - expected).abs() <= 1e-5 * scale;
            assert!(near, "`{}.{name}`[{i}] is {found}, expected {expected}", self.case);
        }
    }
}

/// Parameters made on the fly, and the ways to check an operation with them.
pub(crate) struct Check {
    cpu: Device,
    reference: Device,
    /// Other devices, and how near they have to be.
    others: Vec<(Device, f64)>,
    declarations: Declarations,
    values: Vec<Vec<f32>>,
    named: Vec<(String, ParameterId)>,
    adapters: Vec<(ParameterId, Adapter)>,
    seed: Cell<u64>,
}

/// What an operation gives, and gradients of `Σ upstream · result`: of every input, and of the parameters.
struct Gradients {
    result: Tensor,
    inputs: Vec<Option<Tensor>>,
    parameters: FlatBuffer,
}

/// An operation over inputs.
type Operation<'a> = &'a dyn Fn(&Context<'_>, &[Tensor]) -> Tensor;
/// How a pass begins.
type Begin<'a> = &'a dyn for<'p> Fn(&'p Parameters) -> Context<'p>;

const DRAWS: DrawKey = DrawKey { seed: 5, step: 3, first_image: 0 };
/// Draws of images that are not the first of their batch.
const LATER_DRAWS: DrawKey = DrawKey { seed: 6, step: 3, first_image: 3 };

impl Check {
    pub(crate) fn new() -> Self {
        Check::with_threads(2)
    }

    pub(crate) fn with_threads(threads: usize) -> Self {
        Check {
            cpu: Device::cpu(threads),
            reference: Device::reference(),
            others: gpus(),
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
        self.prepared(&self.cpu).read(id).expect("a device without a fault")
    }

    /// A random input.
    pub(crate) fn input(&self, shape: &[usize]) -> Tensor {
        self.tensor(shape, &self.noise(shape.iter().product()))
    }

    pub(crate) fn tensor(&self, shape: &[usize], values: &[f32]) -> Tensor {
        self.cpu.upload(Shape::new(shape), values).expect("as many numbers")
    }

    fn prepared(&self, device: &Device) -> Parameters {
        let mut values = self.values.iter();
        let read = |_: &_| Ok::<_, Infallible>(values.next().expect("one for each").into());
        let Ok(parameters) = Parameters::prepared(self.declarations.clone(), device.clone(), DType::F32, read);
        self.with_adapters(parameters)
    }

    fn flat(&self, device: &Device) -> Parameters {
        let mut parameters = Parameters::zeros(self.declarations.clone(), device.clone());
        for (id, values) in self.declarations.ids().zip(&self.values) {
            parameters.write(id, values);
        }
        self.with_adapters(parameters)
    }

    /// Inputs on a device.
    fn moved(&self, device: &Device, inputs: &[Tensor]) -> Vec<Tensor> {
        let moved = inputs.iter().map(|x| device.upload(x.shape(), &x.values()).expect("as many numbers"));
        match device {
            // Tokens are in the type that they have between operations.
            Device::Cuda(cuda) => moved.map(|x| cuda.as_tokens(&x)).collect(),
            _ => moved.collect(),
        }
    }

    /// Result and gradients of every other device against the reference device's, without differences: for shapes that
    /// differences would take too long for.
    pub(crate) fn against_reference(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        self.compare_with_reference(inputs, &|parameters| Context::recording(parameters), &f);
    }

    /// As [`Check::against_reference`], with everything that training drops.
    pub(crate) fn against_reference_in_training(
        &self,
        inputs: &[Tensor],
        f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor,
    ) {
        self.compare_with_reference(inputs, &|parameters| Context::training(parameters, LATER_DRAWS), &f);
    }

    fn compare_with_reference(&self, inputs: &[Tensor], begin: Begin<'_>, f: Operation<'_>) {
        let parameters = self.flat(&self.reference);
        let result = f(&begin(&parameters), &self.moved(&self.reference, inputs));
        let upstream: Vec<f32> = (0..result.shape().count()).map(|i| normal(98, i as u64)).collect();
        let ones = |device: &Device| {
            let mut flat = device.flat_zeros(parameters.flat().len());
            flat.write(0, &vec![1.0; parameters.flat().len()]);
            flat
        };
        let expected = self.gradients_onto(ones(&self.reference), begin(&parameters), inputs, &upstream, f);
        let inference = f(&Context::inference(&parameters), &self.moved(&self.reference, inputs)).precise();
        let cpu = (self.cpu.clone(), NEAR);
        for (device, tolerance) in std::iter::once(&cpu).chain(&self.others) {
            let name = described(device);
            let prepared = self.prepared(device);
            let fused = f(&Context::inference(&prepared), &self.moved(device, inputs));
            near(&fused.precise(), &inference, *tolerance, &format!("result on {name}"));
            let flat = self.flat(device);
            let found = self.gradients_onto(ones(device), begin(&flat), inputs, &upstream, f);
            near(
                &found.result.precise(),
                &expected.result.precise(),
                *tolerance,
                &format!("recorded result on {name}"),
            );
            for (i, (found, expected)) in found.inputs.iter().zip(&expected.inputs).enumerate() {
                let (Some(found), Some(expected)) = (found, expected) else { continue };
                let what = format!("gradient of input {i} on {name}");
                near(&found.precise(), &expected.precise(), *tolerance, &what);
            }
            let sums = found.parameters.precise(device);
            near(&sums, &expected.parameters.precise(&self.reference), *tolerance, &format!("gradients on {name}"));
        }
    }

    /// The result in inference on the CPU, which has to be near the reference device's.
    pub(crate) fn run(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) -> Tensor {
        let [found, expected] = [&self.cpu, &self.reference].map(|device| {
            let parameters = self.prepared(device);
            f(&Context::inference(&parameters), &self.moved(device, inputs))
        });
        assert_eq!(found.shape(), expected.shape(), "another shape on the reference device");
        near(&found.precise(), &expected.precise(), NEAR, "result");
        for (device, tolerance) in &self.others {
            let parameters = self.prepared(device);
            let found = f(&Context::inference(&parameters), &self.moved(device, inputs));
            assert_eq!(found.shape(), expected.shape(), "another shape on {}", described(device));
            near(&found.precise(), &expected.precise(), *tolerance, &format!("result on {}", described(device)));
        }
        found
    }

    /// The result on the CPU alone, if the reference device may give other values in unused places.
    pub(crate) fn run_on_cpu(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) -> Tensor {
        f(&Context::inference(&self.prepared(&self.cpu)), &self.moved(&self.cpu, inputs))
    }

    fn gradients(&self, context: Context<'_>, inputs: &[Tensor], upstream: &[f32], f: Operation<'_>) -> Gradients {
        let zeros = context.device().flat_zeros(context.parameters().flat().len());
        self.gradients_onto(zeros, context, inputs, upstream, f)
    }

    /// Gradients of parameters are added to what is there.
    fn gradients_onto(
        &self,
        mut parameters: FlatBuffer,
        context: Context<'_>,
        inputs: &[Tensor],
        upstream: &[f32],
        f: Operation<'_>,
    ) -> Gradients {
        let device = context.device().clone();
        let watched: Vec<Tensor> = self.moved(&device, inputs).iter().map(|x| context.watch(x)).collect();
        let result = f(&context, &watched);
        let upstream = device.upload(result.shape(), upstream).expect("as many numbers");
        let found = context.backward_from(&result, upstream, Some(&mut parameters));
        Gradients { result, inputs: watched.iter().map(|x| found.of(x).cloned()).collect(), parameters }
    }

    /// Result and gradients against a golden, on both devices. `names` are the inputs' names in it; inputs without one
    /// have no gradient there.
    pub(crate) fn against(
        &self,
        golden: &Golden,
        inputs: &[Tensor],
        names: &[&str],
        f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor,
    ) {
        golden.compare("y", &self.run(inputs, &f));
        let upstream = &golden.stored("grad_y").1;
        for device in [&self.cpu, &self.reference] {
            let parameters = self.flat(device);
            let found = self.gradients(Context::recording(&parameters), inputs, upstream, &f);
            golden.compare("y", &found.result);
            for (name, gradient) in names.iter().zip(&found.inputs) {
                golden.compare(&format!("grad_{name}"), gradient.as_ref().expect("a gradient"));
            }
            let flat = found.parameters.to_vec().expect("a device without a fault");
            for (name, id) in &self.named {
                let name = format!("grad_{name}");
                if golden.tensors.contains_key(&name) {
                    golden.compare_values(&name, &flat[parameters.range(*id)]);
                }
            }
        }
    }

    /// Gradients of the reference device against central differences in double precision, and the CPU's against those;
    /// without dropping anything.
    pub(crate) fn differences(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        self.compare_differences(inputs, &|parameters| Context::recording(parameters), &f);
    }

    /// As [`Check::differences`], with everything that training drops.
    pub(crate) fn differences_in_training(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        self.compare_differences(inputs, &|parameters| Context::training(parameters, DRAWS), &f);
    }

    fn compare_differences(&self, inputs: &[Tensor], begin: Begin<'_>, f: Operation<'_>) {
        // A power of two, so that moved values are exact in single precision, which is how they travel.
        const STEP: f32 = 1.0 / 4096.0;
        let mut parameters = self.flat(&self.reference);
        let count = f(&begin(&parameters), &self.moved(&self.reference, inputs)).shape().count();
        let upstream: Vec<f32> = (0..count).map(|i| normal(99, i as u64)).collect();
        let found = self.gradients(begin(&parameters), inputs, &upstream, f);
        let value = |parameters: &Parameters, inputs: &[Tensor]| -> f64 {
            let y = f(&begin(parameters), &self.moved(&self.reference, inputs)).precise();
            y.iter().zip(&upstream).map(|(y, u)| y * f64::from(*u)).sum()
        };
        // Richardson's extrapolation: the error falls with the fourth power of the step.
        let slope = |at: f32, value: &mut dyn FnMut(f32) -> f64| {
            let mut along = |step: f32| {
                let (high, low) = (at + step, at - step);
                (value(high) - value(low)) / (f64::from(high) - f64::from(low))
            };
            (4.0 * along(STEP) - along(2.0 * STEP)) / 3.0
        };
        let (mut gradients, mut slopes) = (Vec::new(), Vec::new());
        for (which, (input, gradient)) in inputs.iter().zip(&found.inputs).enumerate() {
            let Some(gradient) = gradient else { continue };
            gradients.extend(gradient.precise());
            let values = input.values();
            for (i, &at) in values.iter().enumerate() {
                slopes.push(slope(at, &mut |moved| {
                    let mut values = values.clone();
                    values[i] = moved;
                    let mut inputs = inputs.to_vec();
                    inputs[which] = self.tensor(&input.shape(), &values);
                    value(&parameters, &inputs)
                }));
            }
        }
        let flat = found.parameters.precise(&self.reference);
        let kept = parameters.flat().to_vec().expect("a device without a fault");
        for (i, &at) in kept.iter().enumerate() {
            gradients.push(flat[i]);
            slopes.push(slope(at, &mut |moved| {
                parameters.flat_mut().write(i, &[moved]);
                value(&parameters, inputs)
            }));
            parameters.flat_mut().write(i, &[at]);
        }
        near(&gradients, &slopes, NEAR_DIFFERENCE, "gradient by differences");

        let parameters = self.flat(&self.cpu);
        let on_cpu = self.gradients(begin(&parameters), inputs, &upstream, f);
        near(&on_cpu.result.precise(), &found.result.precise(), NEAR, "recorded result");
        let mut gradients_on_cpu = Vec::new();
        for gradient in on_cpu.inputs.iter().flatten() {
            gradients_on_cpu.extend(gradient.precise());
        }
        gradients_on_cpu.extend(on_cpu.parameters.precise(&self.cpu));
        near(&gradients_on_cpu, &gradients, NEAR, "gradient on the CPU");

        for (device, tolerance) in &self.others {
            let (parameters, name) = (self.flat(device), described(device));
            let found_there = self.gradients(begin(&parameters), inputs, &upstream, f);
            let expected = found.result.precise();
            near(&found_there.result.precise(), &expected, *tolerance, &format!("recorded result on {name}"));
            let mut all: Vec<f64> = found_there.inputs.iter().flatten().flat_map(Tensor::precise).collect();
            all.extend(found_there.parameters.precise(device));
            near(&all, &gradients, *tolerance, &format!("gradient on {name}"));
        }
    }

    /// Inference and recording give the same bits.
    pub(crate) fn fused_equals_recorded(&self, inputs: &[Tensor], f: impl Fn(&Context<'_>, &[Tensor]) -> Tensor) {
        let parameters = self.flat(&self.cpu);
        let recorded = f(&Context::recording(&parameters), inputs);
        assert_eq!(self.run_on_cpu(inputs, f).values(), recorded.values());
    }
}
