//! Runs operations, records them where gradients are wanted, and replays them backwards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::arena::{ParameterId, Parameters};
use crate::device::cpu::Cpu;
use crate::packs::Packs;
use crate::tensor::{Shape, Tensor};

/// A tensor's place on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// What an operation does with the gradient of its output.
type Backward = Box<dyn FnOnce(&Tensor, &mut Gradients<'_>)>;

struct Node {
    shape: Shape,
    backward: Option<Backward>,
    watched: bool,
}

/// Receives named intermediates of a forward pass.
pub trait Observer: Sync {
    /// Whether an intermediate of this name is wanted. Operations make what they would not make otherwise (attention
    /// weights) only when it is.
    fn wants(&self, name: &str) -> bool;
    /// Takes an intermediate.
    fn observe(&self, name: &str, tensor: &Tensor);
}

/// How long the parts of a pass took, by name.
#[derive(Debug, Default)]
pub struct Stages(RefCell<BTreeMap<&'static str, Duration>>);

impl Stages {
    /// Names with the time spent in each, in the order of names.
    pub fn times(&self) -> Vec<(&'static str, Duration)> {
        self.0.borrow().iter().map(|(name, time)| (*name, *time)).collect()
    }

    fn add(&self, times: impl IntoIterator<Item = (&'static str, Duration)>) {
        let mut sums = self.0.borrow_mut();
        for (name, time) in times {
            *sums.entry(name).or_default() += time;
        }
    }
}

/// One pass through a model: the parameters it uses, whether it trains, and who watches.
///
/// Operations are methods of this type, one file each under `ops/`.
pub struct Context<'a> {
    pub(crate) device: &'a Cpu,
    pub(crate) parameters: &'a Parameters,
    nodes: Option<RefCell<Vec<Node>>>,
    /// Seeds everything that is dropped; none of it happens without.
    seed: Option<u64>,
    draws: Cell<u64>,
    observer: Option<&'a dyn Observer>,
    stages: Option<&'a Stages>,
    recomputes: bool,
    pub(crate) packs: Option<&'a Packs>,
}

impl<'a> Context<'a> {
    /// A pass without gradients: operations are fused, nothing is recorded or dropped.
    pub fn inference(parameters: &'a Parameters) -> Self {
        Context {
            device: parameters.device(),
            parameters,
            nodes: None,
            seed: None,
            draws: Cell::new(0),
            observer: None,
            stages: None,
            recomputes: false,
            packs: None,
        }
    }

    /// A pass that records what backward needs, without dropping anything.
    pub fn recording(parameters: &'a Parameters) -> Self {
        Context { nodes: Some(RefCell::default()), ..Context::inference(parameters) }
    }

    /// A training pass: recorded, with dropout and drop path drawn from this seed.
    pub fn training(parameters: &'a Parameters, seed: u64) -> Self {
        Context { seed: Some(seed), ..Context::recording(parameters) }
    }

    /// The same pass on another device, as on one half of the processor that the parameters lie on.
    #[must_use]
    pub fn on(mut self, device: &'a Cpu) -> Self {
        self.device = device;
        self
    }

    /// Remembers of every [`Context::part`] only what it was given, and computes the rest again on the way back.
    #[must_use]
    pub fn recomputing(mut self) -> Self {
        self.recomputes = true;
        self
    }

    /// Packs matrices together with the other passes of a step.
    #[must_use]
    pub fn sharing(mut self, packs: &'a Packs) -> Self {
        self.packs = Some(packs);
        self
    }

    /// Sends named intermediates to an observer.
    #[must_use]
    pub fn observed_by(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Adds up how long the named parts of the pass take.
    #[must_use]
    pub fn timed_by(mut self, stages: &'a Stages) -> Self {
        self.stages = Some(stages);
        self
    }

    /// A named part of the pass.
    pub fn stage<R>(&self, name: &'static str, work: impl FnOnce() -> R) -> R {
        let Some(stages) = self.stages else { return work() };
        let start = Instant::now();
        let result = work();
        stages.add([(name, start.elapsed())]);
        result
    }

    /// The device that operations run on.
    pub fn device(&self) -> &Cpu {
        self.device
    }

    /// The parameters in use.
    pub fn parameters(&self) -> &Parameters {
        self.parameters
    }

    /// Whether operations are recorded for backward.
    pub fn is_recording(&self) -> bool {
        self.nodes.is_some()
    }

    /// Whether this is a training pass, in which things are dropped.
    pub fn is_training(&self) -> bool {
        self.seed.is_some()
    }

    /// Whether somebody wants the intermediate of this name.
    pub fn wants(&self, name: &str) -> bool {
        self.observer.is_some_and(|observer| observer.wants(name))
    }

    /// Whether anybody watches at all.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Names an intermediate. The name is only made when somebody watches. While recording, a wanted intermediate is
    /// watched: [`WatchedGradients::of`] has the gradient of the tensor that the observer got.
    pub fn name(&self, tensor: &Tensor, name: impl FnOnce() -> String) {
        if let Some(observer) = self.observer {
            let name = name();
            if observer.wants(&name) {
                self.mark(tensor);
                observer.observe(&name, tensor);
            }
        }
    }

    /// Keeps the gradient of a tensor that is on the tape.
    fn mark(&self, tensor: &Tensor) {
        if let (Some(nodes), Some(NodeId(index))) = (&self.nodes, tensor.node) {
            nodes.borrow_mut()[index].watched = true;
        }
    }

    /// Marks a tensor so that [`Context::backward`] gives its gradient.
    ///
    /// Go on with the tensor that comes back: what is computed from the original is not watched.
    pub fn watch(&self, tensor: &Tensor) -> Tensor {
        let node = tensor.node;
        let watched = self
            .record(tensor.clone(), true, || Box::new(move |grad, gradients| gradients.add(node, |_| grad.clone())));
        self.mark(&watched);
        watched
    }

    /// Whether an output depends on what learns: its input is on the tape, or one of these parameters learns.
    pub(crate) fn depends(&self, x: &Tensor, parameters: impl IntoIterator<Item = ParameterId>) -> bool {
        x.node.is_some() || parameters.into_iter().any(|id| self.parameters.learns(id))
    }

    /// A parameter as a tensor `[…shape]`, with gradient.
    pub fn parameter(&self, id: ParameterId) -> Tensor {
        let spec = self.parameters.declarations().spec(id);
        let tensor = Tensor::from_slice(self.device, Shape::new(&spec.shape), self.parameters.plain(id));
        let learns = self.parameters.learns(id);
        self.record(tensor, learns, move || Box::new(move |grad, gradients| gradients.add_parameter(id, grad.values())))
    }

    /// Puts an output on the tape, if the pass is recorded and the output depends on anything that wants gradients.
    pub(crate) fn record(&self, mut output: Tensor, needed: bool, backward: impl FnOnce() -> Backward) -> Tensor {
        output.node = None;
        if let Some(nodes) = self.nodes.as_ref().filter(|_| needed) {
            let mut nodes = nodes.borrow_mut();
            output.node = Some(NodeId(nodes.len()));
            nodes.push(Node { shape: output.shape(), backward: Some(backward()), watched: false });
        }
        output
    }

    /// A part of a model, `x` to a tensor. Where the pass recomputes, what operations inside remember is dropped at once
    /// and made again when the gradient of the output is there (arXiv:1604.06174): the same operations, with the same
    /// draws, so gradients keep their bits. Nothing is recomputed of a pass that somebody watches.
    pub fn part(&self, x: &Tensor, part: impl Fn(&Context<'_>, &Tensor) -> Tensor + 'static) -> Tensor {
        if !self.recomputes || !self.is_recording() || self.is_observed() {
            return part(self, x);
        }
        let (seed, first) = (self.seed, self.draws.get());
        let node = x.node;
        let inner = Context::resumed(self.parameters, seed, first).on(self.device);
        let inner = Context { stages: self.stages, packs: self.packs, ..inner };
        let output = part(&inner, &inner.begun(x));
        self.draws.set(inner.draws.get());
        let saved = x.clone();
        self.record(output.clone(), output.node.is_some(), || {
            Box::new(move |grad, gradients| {
                let inner = Context::resumed(gradients.parameters, seed, first).on(gradients.device);
                let inner = Context { packs: gradients.packs, ..inner };
                let x = inner.begun(&saved);
                let output = part(&inner, &x);
                let found = inner.backward_from(&output, grad.clone(), gradients.flat.as_deref_mut());
                if let Some(gradient) = found.of(&x) {
                    gradients.add(node, |_| gradient.clone());
                }
            })
        })
    }

    /// A part of a model, `x` to a tensor, both `[batch, …]`, in which no image knows of the others. Without gradients and
    /// observers, threads take `at_once` images through it by themselves: what they compute stays in their own caches, and
    /// none waits for another at every operation. What is left of a batch that does not divide among the threads, they
    /// compute together. The bits are the same either way.
    pub fn by_images(
        &self,
        x: &Tensor,
        at_once: usize,
        part: impl Fn(&Context<'_>, &Tensor) -> Tensor + Sync,
    ) -> Tensor {
        let (batch, threads) = (x.extent(0), self.device.threads());
        let each = batch / threads;
        if threads == 1 || each == 0 || self.is_recording() || self.is_observed() {
            return part(self, x);
        }
        // Every thread gets as many images as any other.
        let (groups, whole) = (threads * each.div_ceil(at_once.max(1)), threads * each);
        let (device, parameters, timed) = (self.device.alone(), self.parameters, self.stages.is_some());
        let done: Vec<OnceLock<_>> = (0..groups).map(|_| OnceLock::new()).collect();
        self.device.parallel(groups, |group| {
            let stages = Stages::default();
            let alone = Context::inference(parameters).on(&device);
            let alone = if timed { alone.timed_by(&stages) } else { alone };
            let output = part(&alone, &x.slice(&device, whole * group / groups..whole * (group + 1) / groups));
            done[group].get_or_init(|| (output, stages.times()));
        });
        let mut outputs = Vec::with_capacity(groups + 1);
        for (output, times) in done.into_iter().filter_map(OnceLock::into_inner) {
            outputs.push(output);
            if let Some(stages) = self.stages {
                stages.add(times.into_iter().map(|(name, time)| (name, time / threads as u32)));
            }
        }
        if whole < batch {
            outputs.push(part(self, &x.slice(self.device, whole..batch)));
        }
        Tensor::filled(self.device, outputs[0].shape().with_first(batch), |all| {
            let mut rest = all;
            for output in &outputs {
                let (out, others) = rest.split_at_mut(output.values().len());
                out.copy_from_slice(output.values());
                rest = others;
            }
        })
    }

    /// A recording pass that goes on with another's draws.
    fn resumed(parameters: &'a Parameters, seed: Option<u64>, draws: u64) -> Self {
        Context { seed, draws: Cell::new(draws), ..Context::recording(parameters) }
    }

    /// What a part begins with: on this tape, if it was on another.
    fn begun(&self, x: &Tensor) -> Tensor {
        let mut begun = x.clone();
        if begun.node.take().is_some() { self.watch(&begun) } else { begun }
    }

    /// A number that seeds one random operation, or none outside training.
    pub(crate) fn draw(&self) -> Option<u64> {
        let seed = self.seed?;
        let draw = self.draws.get();
        self.draws.set(draw + 1);
        Some(crate::ops::random::mix(seed ^ crate::ops::random::mix(draw)))
    }

    /// Gradients of a scalar (a tensor of one element) with respect to all parameters, added to `parameters`, which is
    /// laid out like [`Parameters::flat`], and with respect to watched tensors.
    ///
    /// # Panics
    /// If the pass was not recorded, or the tensor is not a scalar on its tape.
    pub fn backward(self, loss: &Tensor, parameters: &mut [f32]) -> WatchedGradients {
        assert_eq!(loss.shape().count(), 1, "gradients are of one number, not of {:?}", loss.shape());
        let one = Tensor::filled(self.device, loss.shape(), |out| out.fill(1.0));
        self.backward_from(loss, one, Some(parameters))
    }

    /// As [`Context::backward`], from a tensor of any shape whose gradient is given; without `parameters`, only
    /// gradients of watched tensors are computed.
    pub fn backward_from(self, output: &Tensor, gradient: Tensor, parameters: Option<&mut [f32]>) -> WatchedGradients {
        assert_eq!(output.shape(), gradient.shape(), "gradient of another shape");
        let mut nodes = self.nodes.expect("the pass was recorded").into_inner();
        let start = output.node.expect("the output is on the tape");
        if let Some(parameters) = &parameters {
            assert_eq!(parameters.len(), self.parameters.flat().len(), "gradients are laid out like the parameters");
        }
        let mut gradients = Gradients {
            device: self.device,
            parameters: self.parameters,
            packs: self.packs,
            flat: parameters,
            slots: nodes.iter().map(|_| None).collect(),
            shapes: nodes.iter().map(|node| node.shape).collect(),
        };
        gradients.add(Some(start), |_| gradient);
        for index in (0..=start.0).rev() {
            let Some(gradient) = gradients.slots[index].take() else { continue };
            if let Some(backward) = nodes[index].backward.take() {
                backward(&gradient, &mut gradients);
            }
            if nodes[index].watched {
                gradients.slots[index] = Some(gradient);
            }
        }
        WatchedGradients { slots: gradients.slots }
    }
}

/// Gradients while a tape runs backwards.
pub(crate) struct Gradients<'a> {
    pub(crate) device: &'a Cpu,
    pub(crate) parameters: &'a Parameters,
    pub(crate) packs: Option<&'a Packs>,
    flat: Option<&'a mut [f32]>,
    slots: Vec<Option<Tensor>>,
    shapes: Vec<Shape>,
}

impl Gradients<'_> {
    /// Whether the gradient of this parameter is wanted.
    pub(crate) fn wants(&self, id: ParameterId) -> bool {
        self.flat.is_some() && self.parameters.learns(id)
    }

    /// The gradient of a parameter, to be added to; nothing where it is not wanted.
    pub(crate) fn parameter(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        let range = self.flat.as_ref().filter(|_| self.parameters.learns(id)).map(|_| self.parameters.range(id))?;
        self.flat.as_mut().map(|flat| &mut flat[range])
    }

    /// Adds to a parameter's gradient.
    pub(crate) fn add_parameter(&mut self, id: ParameterId, gradient: &[f32]) {
        if let Some(sum) = self.parameter(id) {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
    }

    /// Adds to a tensor's gradient, if it is on the tape. The gradient is only made when it is.
    pub(crate) fn add(&mut self, node: Option<NodeId>, gradient: impl FnOnce(&Self) -> Tensor) {
        let Some(NodeId(node)) = node else { return };
        // A tensor may have been used in another shape than it was made in.
        let gradient = gradient(self).reshape(self.shapes[node]);
        let sum = match self.slots[node].take() {
            None => gradient,
            Some(sum) => crate::ops::elementwise::sum_of(self.device, &sum, &gradient),
        };
        self.slots[node] = Some(sum);
    }
}

/// Gradients of tensors, after a tape ran backwards.
pub struct WatchedGradients {
    slots: Vec<Option<Tensor>>,
}

impl WatchedGradients {
    /// The gradient of a watched tensor; nothing if the output does not depend on it.
    pub fn of(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.slots[tensor.node?.0].as_ref()
    }
}
