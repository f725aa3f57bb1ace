//! Parameters: the named tensors of a model, in one flat buffer for training or prepared once for inference.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::storage::{FlatBuffer, ParameterView, Weight};
use crate::dtype::DType;

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Dotted path, such as `blocks.3.attention.qkv.weight`.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl ParameterSpec {
    /// How many values it holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a parameter is used, which decides how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A linear map's weight `[out, in]`: prepared for the matrix product when frozen.
    Matrix,
    /// Anything else: biases, norms, tokens, positions, convolutions.
    Plain,
}

/// One parameter of a model, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(usize);

impl ParameterId {
    /// Its place in the list.
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

/// The list of parameters that a model declares while it is built.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    specs: Vec<ParameterSpec>,
    kinds: Vec<ParameterKind>,
    index: HashMap<String, ParameterId>,
}

impl Declarations {
    /// Declares one more parameter.
    ///
    /// # Panics
    /// If the name is taken.
    pub fn declare(&mut self, name: impl Into<String>, shape: &[usize], kind: ParameterKind) -> ParameterId {
        let name = name.into();
        let id = ParameterId(self.specs.len());
        assert!(kind == ParameterKind::Plain || shape.len() == 2, "`{name}` is a matrix of shape {shape:?}");
        assert!(self.index.insert(name.clone(), id).is_none(), "parameter `{name}` is declared twice");
        self.specs.push(ParameterSpec { name, shape: shape.to_vec() });
        self.kinds.push(kind);
        id
    }

    /// Names and shapes, in the order of declaration.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The name and shape of one.
    pub fn spec(&self, id: ParameterId) -> &ParameterSpec {
        &self.specs[id.0]
    }

    /// Finds a parameter by its name.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.index.get(name).copied()
    }

    /// All identifiers, in order.
    pub fn ids(&self) -> impl Iterator<Item = ParameterId> + use<> {
        (0..self.specs.len()).map(ParameterId)
    }

    /// How many values all parameters hold together.
    pub fn count(&self) -> usize {
        self.specs.iter().map(ParameterSpec::count).sum()
    }
}

/// Values of all declared parameters, on a device.
#[derive(Debug)]
pub struct Parameters {
    declarations: Declarations,
    device: Device,
    /// The trained parameters; empty if all are frozen.
    flat: Option<Flat>,
    /// What is prepared for inference. Empty where all is flat.
    prepared: Vec<Option<Weight>>,
    /// Which of the flat parameters are frozen; empty if none is.
    frozen: Vec<bool>,
    /// What matrices are adapted by, by their place; empty where none is.
    adapters: Vec<Option<Adapter>>,
}

/// A low-rank update beside a frozen matrix (LoRA, arXiv:2106.09685): `x Wᵀ + scale · (dropout(x) downᵀ) upᵀ`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// `[rank, in]`.
    pub down: ParameterId,
    /// `[out, rank]`.
    pub up: ParameterId,
    /// Factor on the update.
    pub scale: f32,
    /// Dropout rate of what the update sees, in training.
    pub dropout: f32,
}

/// One flat buffer; parameter `i` starts at `offsets[i]`, aligned to a cache line.
#[derive(Debug)]
struct Flat {
    buffer: FlatBuffer,
    offsets: Vec<usize>,
}

impl Flat {
    /// Room for the parameters that `held` says, all zero.
    fn zeros(declarations: &Declarations, device: &Device, held: impl Fn(usize) -> bool) -> Self {
        let mut offsets = Vec::with_capacity(declarations.specs.len());
        let mut end = 0usize;
        for (index, spec) in declarations.specs.iter().enumerate() {
            offsets.push(end);
            end += if held(index) { spec.count().next_multiple_of(16) } else { 0 };
        }
        Flat { buffer: device.flat_zeros(end), offsets }
    }
}

impl Parameters {
    /// Flat parameters, all zero, to be trained.
    pub fn zeros(declarations: Declarations, device: Device) -> Self {
        let flat = Some(Flat::zeros(&declarations, &device, |_| true));
        Parameters { declarations, device, flat, prepared: Vec::new(), frozen: Vec::new(), adapters: Vec::new() }
    }

    /// Parameters of which some are trained, as `trained` says. Those are in one flat buffer, zero at first; the rest
    /// is as for inference, frozen, and takes no room in gradients. `read` gives the values of the latter.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn partly_frozen<'a, E>(
        declarations: Declarations,
        device: Device,
        trained: impl Fn(ParameterId) -> bool,
        mut read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        let frozen: Vec<bool> = declarations.ids().map(|id| !trained(id)).collect();
        let prepare = |id: ParameterId| {
            if !frozen[id.0] {
                return Ok(None);
            }
            let values = read(declarations.spec(id))?;
            Ok(Some(declarations.prepare(id, &device, DType::F32, &values)))
        };
        let prepared = declarations.ids().map(prepare).collect::<Result<Vec<_>, E>>()?;
        let flat = Some(Flat::zeros(&declarations, &device, |index| !frozen[index]));
        Ok(Parameters { declarations, device, flat, prepared, frozen, adapters: Vec::new() })
    }

    /// Adapts a matrix. Operations add the update to whatever the matrix gives.
    ///
    /// # Panics
    /// If the adapter's matrices do not fit it.
    pub fn adapt(&mut self, weight: ParameterId, adapter: Adapter) {
        let shape = |id| &self.declarations.spec(id).shape[..];
        let (whole, down, up) = (shape(weight), shape(adapter.down), shape(adapter.up));
        assert!(
            [up[0], down[1]] == *whole && up[1] == down[0],
            "`{}` of {whole:?} adapted by {up:?} and {down:?}",
            self.declarations.spec(weight).name
        );
        self.adapters.resize(self.declarations.specs.len(), None);
        self.adapters[weight.0] = Some(adapter);
    }

    /// What a matrix is adapted by.
    pub fn adapter(&self, weight: ParameterId) -> Option<Adapter> {
        self.adapters.get(weight.0).copied().flatten()
    }

    /// Parameters for inference, with matrices stored in a type. `read` gives the values of each; nothing is kept
    /// twice.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn prepared<'a, E>(
        declarations: Declarations,
        device: Device,
        dtype: DType,
        read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        Parameters::prepared_as(declarations, device, |_| dtype, read)
    }

    /// As [`Parameters::prepared`], with each matrix stored in a type of its own.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn prepared_as<'a, E>(
        declarations: Declarations,
        device: Device,
        dtype: impl Fn(&ParameterSpec) -> DType,
        mut read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        let prepare = |id: ParameterId| {
            let spec = declarations.spec(id);
            let values = read(spec)?;
            Ok(Some(declarations.prepare(id, &device, dtype(spec), &values)))
        };
        let prepared = declarations.ids().map(prepare).collect::<Result<Vec<_>, E>>()?;
        Ok(Parameters { declarations, device, flat: None, prepared, frozen: Vec::new(), adapters: Vec::new() })
    }

    /// Freezes parameters: nothing is remembered for their gradients, which stay 0.
    pub fn freeze(&mut self, ids: impl IntoIterator<Item = ParameterId>) {
        self.frozen.resize(self.declarations.specs.len(), false);
        ids.into_iter().for_each(|id| self.frozen[id.0] = true);
    }

    /// Whether a parameter is trained, not frozen.
    pub fn is_trainable(&self, id: ParameterId) -> bool {
        !self.frozen.get(id.0).copied().unwrap_or(false)
    }

    /// Whether a parameter is a matrix that products read.
    pub fn is_matrix(&self, id: ParameterId) -> bool {
        self.declarations.kinds[id.0] == ParameterKind::Matrix
    }

    /// What was declared.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Where the values are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes that the values take in memory.
    pub fn bytes(&self) -> usize {
        let flat = self.flat.as_ref().map_or(0, |flat| 4 * flat.buffer.len());
        flat + self.prepared.iter().flatten().map(Weight::bytes).sum::<usize>()
    }

    /// A copy of a parameter's values, row by row. Waits for the device.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn read(&self, id: ParameterId) -> Result<Vec<f32>, DeviceError> {
        match (self.prepared.get(id.0), &self.flat) {
            (Some(Some(weight)), _) => weight.download(),
            (_, Some(flat)) => flat.buffer.read(self.range(id)),
            (_, None) => unreachable!("a parameter is flat or prepared"),
        }
    }

    /// Writes a parameter of the flat buffer.
    ///
    /// # Panics
    /// If the parameter is not in the flat buffer, or the number of values is not its size.
    pub fn write(&mut self, id: ParameterId, values: &[f32]) {
        let range = self.range(id);
        assert_eq!(values.len(), range.len(), "values of `{}`", self.declarations.spec(id).name);
        self.flat_mut().write(range.start, values);
    }

    /// A parameter as operations get it.
    pub(crate) fn view(&self, id: ParameterId) -> ParameterView<'_> {
        let shape = &self.declarations.specs[id.0].shape;
        match (self.prepared.get(id.0), &self.flat) {
            (Some(Some(weight)), _) => ParameterView::prepared(shape, id.0, weight),
            (_, Some(flat)) => ParameterView::flat(shape, id.0, &flat.buffer, flat.offsets[id.0]),
            (_, None) => unreachable!("a parameter is flat or prepared"),
        }
    }

    /// The flat buffer, to be trained or initialized: see [`Parameters::range`].
    ///
    /// # Panics
    /// If no parameter is in it.
    pub fn flat_mut(&mut self) -> &mut FlatBuffer {
        &mut self.flat.as_mut().expect("frozen parameters cannot be changed").buffer
    }

    /// The flat buffer.
    ///
    /// # Panics
    /// If no parameter is in it.
    pub fn flat(&self) -> &FlatBuffer {
        &self.flat.as_ref().expect("frozen parameters are not flat").buffer
    }

    /// Whether a parameter is in the flat buffer.
    pub fn is_flat(&self, id: ParameterId) -> bool {
        self.prepared.get(id.0).is_none_or(Option::is_none)
    }

    /// Where a parameter is in the flat buffer, and in gradients made for it.
    ///
    /// # Panics
    /// If the parameter is not in the flat buffer.
    pub fn range(&self, id: ParameterId) -> std::ops::Range<usize> {
        let flat = self.flat.as_ref().filter(|_| self.is_flat(id)).expect("frozen parameters are not flat");
        flat.offsets[id.0]..flat.offsets[id.0] + self.declarations.spec(id).count()
    }
}

impl Declarations {
    fn prepare(&self, id: ParameterId, device: &Device, dtype: DType, values: &[f32]) -> Weight {
        let spec = self.spec(id);
        assert_eq!(values.len(), spec.count(), "`{}` of shape {:?}", spec.name, spec.shape);
        let matrix = (self.kinds[id.0] == ParameterKind::Matrix).then(|| [spec.shape[0], spec.shape[1]]);
        device.prepare(values, matrix, dtype)
    }
}
