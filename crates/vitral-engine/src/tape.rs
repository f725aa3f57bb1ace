//! Runs operations, records them where gradients are wanted, and replays them backwards.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::arena::{ParameterId, Parameters};
use crate::device::Device;
use crate::device::backend::{Backend, Blocks, Draw, GradientRange, Source};
use crate::device::storage::{FlatBuffer, ParameterView};
use crate::gradients::{Lane, Report};
use crate::random::mix;
use crate::shape::Shape;
use crate::tensor::{NodeId, Tensor};

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

/// How long the named stages of a pass took.
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

/// What seeds the draws of a training pass. A draw depends on the run's seed, the step, the operation's number in the
/// pass, and the image's place in the whole batch: not on how a batch is cut, and not on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawKey {
    /// The run's seed.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
    /// The place of the pass's first image among all images of the step.
    pub first_image: usize,
}

/// One pass through a model: the parameters it uses, whether it trains, and who watches.
///
/// Operations are methods of this type, one file each under `ops/`.
pub struct Context<'a> {
    device: Device,
    pub(crate) parameters: &'a Parameters,
    nodes: Option<RefCell<Vec<Node>>>,
    /// The number of nodes before each parameter was first asked for, by its place in the list. Kept with the nodes: once
    /// these have run backwards, the parameter's gradient is complete.
    first_uses: RefCell<Vec<usize>>,
    /// Seeds everything that is dropped; none of it happens without.
    draws: Option<DrawKey>,
    /// Random operations so far.
    operations: Cell<u64>,
    observer: Option<&'a dyn Observer>,
    stages: Option<&'a Stages>,
    checkpoints: bool,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = self.nodes.as_ref().map(|nodes| nodes.borrow().len());
        let mut shown = f.debug_struct("Context");
        shown.field("device", &self.device).field("recorded", &recorded).field("draws", &self.draws);
        shown.field("observed", &self.observer.is_some()).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// A pass without gradients: operations are fused, nothing is recorded or dropped.
    pub fn inference(parameters: &'a Parameters) -> Self {
        Context {
            device: parameters.device().clone(),
            parameters,
            nodes: None,
            first_uses: RefCell::default(),
            draws: None,
            operations: Cell::new(0),
            observer: None,
            stages: None,
            checkpoints: false,
        }
    }

    /// A pass that records what backward needs, without dropping anything.
    pub fn recording(parameters: &'a Parameters) -> Self {
        Context { nodes: Some(RefCell::default()), ..Context::inference(parameters) }
    }

    /// A training pass: recorded, with dropout and drop path.
    pub fn training(parameters: &'a Parameters, draws: DrawKey) -> Self {
        Context { draws: Some(draws), ..Context::recording(parameters) }
    }

    /// The same pass as the device wants to have it done: see
    /// [`GradientSum::accumulate`](crate::GradientSum::accumulate).
    #[must_use]
    pub fn on(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// Keeps only the input of every [`Context::checkpointed`] part, and recomputes everything else in backward
    /// (gradient checkpointing, arXiv:1604.06174).
    #[must_use]
    pub fn with_checkpoints(mut self) -> Self {
        self.checkpoints = true;
        self
    }

    /// Sends named intermediates to an observer.
    #[must_use]
    pub fn observed_by(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Adds up how long the named stages of the pass take.
    #[must_use]
    pub fn timed_by(mut self, stages: &'a Stages) -> Self {
        self.stages = Some(stages);
        self
    }

    /// A named stage of the pass.
    pub fn stage<R>(&self, name: &'static str, work: impl FnOnce() -> R) -> R {
        let Some(stages) = self.stages else { return work() };
        let start = Instant::now();
        let result = work();
        // A fault sticks, and comes back where results are read.
        let _ = self.device.wait();
        stages.add([(name, start.elapsed())]);
        result
    }

    /// The device that operations run on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.device.backend()
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
        self.draws.is_some()
    }

    /// Whether an observer wants the intermediate tensor of this name.
    pub fn wants(&self, name: &str) -> bool {
        self.observer.is_some_and(|observer| observer.wants(name))
    }

    /// Whether anybody watches at all.
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Names an intermediate. The name is only built if there is an observer. While recording, a wanted intermediate is
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
    /// Continue with the returned tensor: the observer does not see what is computed from the original.
    pub fn watch(&self, tensor: &Tensor) -> Tensor {
        let node = tensor.node;
        let watched = self
            .record(tensor.clone(), true, || Box::new(move |grad, gradients| gradients.add(node, |_| grad.clone())));
        self.mark(&watched);
        watched
    }

    /// Whether an output depends on what is trained: its input is on the tape, or one of these parameters is trained.
    pub(crate) fn depends(&self, x: &Tensor, parameters: impl IntoIterator<Item = ParameterId>) -> bool {
        x.node.is_some() || parameters.into_iter().any(|id| self.parameters.is_trainable(id))
    }

    /// A parameter as operations of the device get it.
    pub(crate) fn view(&self, id: ParameterId) -> ParameterView<'_> {
        self.note_use(id);
        self.parameters.view(id)
    }

    fn note_use(&self, id: ParameterId) {
        let Some(nodes) = &self.nodes else { return };
        let mut uses = self.first_uses.borrow_mut();
        if uses.is_empty() {
            uses.resize(self.parameters.declarations().specs().len(), NEVER);
        }
        uses[id.place()] = uses[id.place()].min(nodes.borrow().len());
    }

    /// A parameter as a tensor `[…shape]`, with gradient.
    pub fn parameter(&self, id: ParameterId) -> Tensor {
        let tensor = self.backend().parameter(self.view(id));
        let trainable = self.parameters.is_trainable(id);
        self.record(tensor, trainable, move || Box::new(move |grad, gradients| gradients.add_row_sums(id, grad)))
    }

    /// Puts an output on the tape, if the pass is recorded and the output depends on anything that wants gradients.
    pub(crate) fn record(&self, mut output: Tensor, needed: bool, backward: impl FnOnce() -> Backward) -> Tensor {
        output.node = None;
        if let Some(nodes) = self.nodes.as_ref().filter(|_| needed) {
            let backward = Some(backward());
            let mut nodes = nodes.borrow_mut();
            output.node = Some(NodeId(nodes.len()));
            nodes.push(Node { shape: output.shape(), backward, watched: false });
        }
        output
    }

    /// A part of a model, `x` to a tensor. Where the pass has checkpoints, what operations inside remember is dropped
    /// at once and made again when the gradient of the output is there (arXiv:1604.06174): the same operations, with
    /// the same draws, so gradients keep their bits. A pass with an observer recomputes nothing.
    pub fn checkpointed(&self, x: &Tensor, part: impl Fn(&Context<'_>, &Tensor) -> Tensor + 'static) -> Tensor {
        if !self.checkpoints || !self.is_recording() || self.is_observed() {
            return part(self, x);
        }
        let (draws, first) = (self.draws, self.operations.get());
        let node = x.node;
        let inner = Context::resumed(self.parameters, draws, first).on(&self.device);
        let inner = Context { stages: self.stages, ..inner };
        let output = part(&inner, &inner.begun(x));
        self.operations.set(inner.operations.get());
        let used = inner.first_uses.borrow();
        self.parameters
            .declarations()
            .ids()
            .zip(used.iter())
            .filter(|(_, at)| **at != NEVER)
            .for_each(|(id, _)| self.note_use(id));
        drop(used);
        let saved = x.clone();
        self.record(output.clone(), output.node.is_some(), || {
            Box::new(move |grad, gradients| {
                let inner = Context::resumed(gradients.parameters, draws, first).on(gradients.device);
                let x = inner.begun(&saved);
                let output = part(&inner, &x);
                let (open, flat) = (gradients.open, gradients.flat.as_deref_mut());
                let found = inner.replay(&output, grad.clone(), flat, open, None);
                if let Some(gradient) = found.of(&x) {
                    gradients.add(node, |_| gradient.clone());
                }
            })
        })
    }

    /// A part of a model, `x` to a tensor, both `[batch, …]`, in which no image knows of the others; `rows` is how many
    /// rows of tokens an image has in it. Without gradients and observers, a device may take groups of images through
    /// it side by side. The bits are the same either way.
    pub fn data_parallel(
        &self,
        x: &Tensor,
        rows: usize,
        part: impl Fn(&Context<'_>, &Tensor) -> Tensor + Sync + Send,
    ) -> Tensor {
        let batch = x.extent(0);
        let groups = match self.is_recording() || self.is_observed() {
            true => Vec::new(),
            false => self.device.inference_groups(batch, rows),
        };
        let Some(whole) = groups.last().map(|group| group.end) else { return part(self, x) };
        let (parameters, timed) = (self.parameters, self.stages.is_some());
        let done = self.device.each_group(&groups, |device, images| {
            let stages = Stages::default();
            let alone = Context::inference(parameters).on(device);
            let alone = if timed { alone.timed_by(&stages) } else { alone };
            let output = part(&alone, &device.slice(x, images));
            (output, stages.times())
        });
        let mut outputs = Vec::with_capacity(groups.len() + 1);
        let mut spent = BTreeMap::<&'static str, Duration>::new();
        for (output, times) in done {
            outputs.push(output);
            times.into_iter().for_each(|(name, time)| *spent.entry(name).or_default() += time);
        }
        if let Some(stages) = self.stages {
            // Groups ran side by side.
            let side_by_side = self.device.side_by_side(groups.len());
            stages.add(spent.into_iter().map(|(name, time)| (name, time / side_by_side)));
        }
        if whole < batch {
            outputs.push(part(self, &self.device.slice(x, whole..batch)));
        }
        self.device.concatenate(&outputs)
    }

    /// A recording pass that continues with another's draws.
    fn resumed(parameters: &'a Parameters, draws: Option<DrawKey>, operations: u64) -> Self {
        Context { draws, operations: Cell::new(operations), ..Context::recording(parameters) }
    }

    /// What a part begins with: on this tape, if it was on another.
    fn begun(&self, x: &Tensor) -> Tensor {
        if x.node.is_some() { self.watch(&x.detached()) } else { x.clone() }
    }

    /// A number that seeds one random operation, or none outside training.
    pub(crate) fn draw(&self) -> Option<Draw> {
        let DrawKey { seed, step, first_image } = self.draws?;
        let operation = self.operations.get();
        self.operations.set(operation + 1);
        Some(Draw { key: mix(mix(seed ^ mix(step)) ^ mix(operation)), first_image })
    }

    /// Gradients of a scalar (a tensor of one element) with respect to all parameters, added to `parameters`, which is
    /// laid out like [`Parameters::flat`], and with respect to watched tensors.
    ///
    /// # Panics
    /// If the pass was not recorded, or the tensor is not a scalar on its tape.
    pub fn backward(self, loss: &Tensor, parameters: &mut FlatBuffer) -> WatchedGradients {
        assert_eq!(loss.shape().count(), 1, "gradients are of one number, not of {:?}", loss.shape());
        let one = self.backend().full(loss.shape(), 1.0);
        self.backward_from(loss, one, Some(parameters))
    }

    /// As [`Context::backward`], from a tensor of any shape whose gradient is given; without `parameters`, only
    /// gradients of watched tensors are computed.
    ///
    /// # Panics
    /// As [`Context::backward`].
    pub fn backward_from(
        self,
        output: &Tensor,
        gradient: Tensor,
        parameters: Option<&mut FlatBuffer>,
    ) -> WatchedGradients {
        self.replay(output, gradient, parameters, usize::MAX, None)
    }

    /// As [`Context::backward_from`], into a leaf's sum of gradients. Where others wait for it
    /// ([`GradientSum::accumulate_and_report`](crate::GradientSum::accumulate_and_report)), it is reported which
    /// gradients are complete while the rest is still made.
    ///
    /// # Panics
    /// As [`Context::backward`].
    pub fn backward_into(self, output: &Tensor, gradient: Tensor, mut lane: Lane<'_>) -> WatchedGradients {
        let (flat, report) = lane.parts();
        self.replay(output, gradient, Some(flat), usize::MAX, report)
    }

    /// Gradients of parameters from `open` on in the flat buffer are complete: a pass that changes them is at fault.
    fn replay(
        self,
        output: &Tensor,
        gradient: Tensor,
        parameters: Option<&mut FlatBuffer>,
        open: usize,
        mut report: Option<Report<'_>>,
    ) -> WatchedGradients {
        assert_eq!(output.shape(), gradient.shape(), "gradient of another shape");
        let mut nodes = self.nodes.expect("the pass was recorded").into_inner();
        let start = output.node.expect("the output is on the tape");
        if let Some(parameters) = &parameters {
            assert_eq!(parameters.len(), self.parameters.flat().len(), "gradients are laid out like the parameters");
        }
        // From the end of the buffer to its beginning, as the pass meets them if they were declared in the order of use.
        let mut ahead = match &parameters {
            Some(_) => placed(self.parameters, &self.first_uses.borrow()),
            None => Vec::new(),
        };
        let mut gradients = Gradients {
            device: &self.device,
            parameters: self.parameters,
            flat: parameters,
            open,
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
            while let Some((start, _)) = ahead.pop_if(|(_, first)| *first >= index) {
                gradients.open = gradients.open.min(start);
            }
            if let (Some(report), Some(flat)) = (&mut report, gradients.flat.as_deref()) {
                report(flat, gradients.open.min(flat.len()));
            }
        }
        if let (Some(report), Some(flat)) = (report, gradients.flat.as_deref()) {
            report(flat, 0);
        }
        WatchedGradients { slots: gradients.slots }
    }
}

/// A parameter that no recorded operation asked for.
const NEVER: usize = usize::MAX;

/// Where each parameter of the flat buffer begins, in order, and the number of nodes before its first use.
fn placed(parameters: &Parameters, first_uses: &[usize]) -> Vec<(usize, usize)> {
    let ids = parameters.declarations().ids().filter(|&id| parameters.is_flat(id));
    let first = |id: ParameterId| first_uses.get(id.place()).copied().unwrap_or(NEVER);
    let mut placed: Vec<_> = ids.map(|id| (parameters.range(id).start, first(id))).collect();
    placed.sort_unstable();
    placed
}

/// Gradients while a tape runs backwards.
pub(crate) struct Gradients<'a> {
    device: &'a Device,
    pub(crate) parameters: &'a Parameters,
    flat: Option<&'a mut FlatBuffer>,
    /// Gradients before this place of the flat buffer are still made.
    open: usize,
    slots: Vec<Option<Tensor>>,
    shapes: Vec<Shape>,
}

impl<'a> Gradients<'a> {
    pub(crate) fn backend(&self) -> &'a dyn Backend {
        self.device.backend()
    }

    /// A parameter as operations of the device get it.
    pub(crate) fn view(&self, id: ParameterId) -> ParameterView<'a> {
        self.parameters.view(id)
    }

    /// Where the gradient of a parameter is added; `None` if it is not wanted.
    pub(crate) fn range(&self, id: ParameterId) -> GradientRange {
        (self.flat.is_some() && self.parameters.is_trainable(id)).then(|| {
            let range = self.parameters.range(id);
            let name = || &self.parameters.declarations().spec(id).name;
            assert!(range.end <= self.open, "`{}` gets a gradient after it was said to be complete", name());
            range
        })
    }

    /// The gradients of parameters, to be added to.
    pub(crate) fn flat(&mut self) -> Option<&mut FlatBuffer> {
        self.flat.as_deref_mut()
    }

    /// Adds the rows of a tensor, each as long as the parameter, to its gradient.
    pub(crate) fn add_row_sums(&mut self, id: ParameterId, rows: &Tensor) {
        let range = self.range(id);
        if let Some((flat, range)) = self.flat.as_deref_mut().zip(range) {
            self.device.backend().add_row_sums(rows, flat, range);
        }
    }

    /// Whether a tensor's gradient is wanted.
    pub(crate) fn wants(&self, node: Option<NodeId>) -> bool {
        node.is_some()
    }

    /// Adds to a tensor's gradient, if it is on the tape. The gradient is only made when it is.
    pub(crate) fn add(&mut self, node: Option<NodeId>, gradient: impl FnOnce(&Self) -> Tensor) {
        let Some(NodeId(node)) = node else { return };
        // A tensor may have been used in another shape than it was made in.
        let gradient = gradient(self).reshape(self.shapes[node]);
        let sum = match self.slots[node].take() {
            None => gradient,
            Some(sum) => self.device.backend().add(&sum, &gradient),
        };
        self.slots[node] = Some(sum);
    }

    /// What there is of a tensor's gradient, for an operation that adds to it by itself and gives the sum back by
    /// [`Gradients::add_made`].
    pub(crate) fn take(&mut self, node: Option<NodeId>) -> Option<Tensor> {
        self.slots[node?.0].take()
    }

    /// As [`Gradients::add`], of a gradient that was made with others.
    pub(crate) fn add_made(&mut self, node: Option<NodeId>, gradient: Option<Tensor>) {
        if let Some(gradient) = gradient {
            self.add(node, |_| gradient);
        }
    }
}

/// Gradients of tensors, after a tape ran backwards.
#[derive(Debug)]
pub struct WatchedGradients {
    slots: Vec<Option<Tensor>>,
}

impl WatchedGradients {
    /// The gradient of a watched tensor; nothing if the output does not depend on it.
    pub fn of(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.slots[tensor.node?.0].as_ref()
    }
}

impl Device {
    /// A copy of some of the outermost extent.
    ///
    /// # Panics
    /// If their number differs.
    pub fn slice(&self, x: &Tensor, range: Range<usize>) -> Tensor {
        assert!(range.start <= range.end && range.end <= x.extent(0), "{range:?} of {:?}", x.shape());
        let each = x.shape().item();
        let blocks = Blocks::runs(1, range.len() * each, [range.start * each, 0], [0, 0]);
        self.backend().assemble(x.shape().with_first(range.len()), &[(Source::Tensor(x), blocks)])
    }

    /// Tensors that differ in the outermost extent at most, one after the other.
    ///
    /// # Panics
    /// If there is none.
    pub fn concatenate(&self, tensors: &[Tensor]) -> Tensor {
        let first: usize = tensors.iter().map(|tensor| tensor.extent(0)).sum();
        let mut at = 0;
        let pieces: Vec<_> = tensors
            .iter()
            .map(|tensor| {
                let count = tensor.shape().count();
                at += count;
                (Source::Tensor(tensor), Blocks::runs(1, count, [0, 0], [at - count, 0]))
            })
            .collect();
        self.backend().assemble(tensors[0].shape().with_first(first), &pieces)
    }
}
