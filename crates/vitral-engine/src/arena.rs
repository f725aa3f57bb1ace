//! Parameters: the named tensors of a model, in one flat buffer for training or packed once for inference.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::kernels::{PackedRhs, Rhs, Storage, pack_rhs_parallel};

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Dotted path, such as `blocks.3.attention.qkv.weight`.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl ParameterSpec {
    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a parameter is used, which decides how it lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A linear map's weight `[out, in]`: packed for the matrix product when frozen.
    Matrix,
    /// Anything else: biases, norms, tokens, positions, convolutions.
    Plain,
}

/// One parameter of a model, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(usize);

impl ParameterId {
    pub(crate) fn index(self) -> usize {
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

    /// How many numbers all parameters hold together.
    pub fn count(&self) -> usize {
        self.specs.iter().map(ParameterSpec::count).sum()
    }
}

/// Values of all declared parameters.
pub struct Parameters {
    declarations: Declarations,
    device: Cpu,
    /// What can be changed; nothing where all is frozen.
    flat: Option<Flat>,
    /// What is ready for inference: matrices packed, the rest as it is. Empty where all is flat.
    frozen: Vec<Option<FrozenParameter>>,
    /// Which stand still while others learn; none where it is empty.
    still: Vec<bool>,
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
struct Flat {
    buffer: Buffer,
    offsets: Vec<usize>,
}

impl Flat {
    /// Room for the parameters that `held` says, all zero.
    fn zeros(declarations: &Declarations, held: impl Fn(usize) -> bool) -> Self {
        let mut offsets = Vec::with_capacity(declarations.specs.len());
        let mut end = 0usize;
        for (index, spec) in declarations.specs.iter().enumerate() {
            offsets.push(end);
            end += if held(index) { spec.count().next_multiple_of(16) } else { 0 };
        }
        Flat { buffer: Buffer::zeros(end), offsets }
    }
}

/// Where a parameter lies.
enum Place<'a> {
    Flat(&'a [f32]),
    Frozen(&'a FrozenParameter),
}

enum FrozenParameter {
    Packed {
        packed: PackedRhs,
        /// The same matrix packed for gradients towards the input, made when the first is asked for.
        transposed: OnceLock<PackedRhs>,
    },
    Plain {
        values: Buffer,
        /// A packed form that an operation derived, such as a standardised convolution.
        derived: OnceLock<PackedRhs>,
    },
}

impl FrozenParameter {
    fn new(spec: &ParameterSpec, kind: ParameterKind, device: &Cpu, storage: Storage, source: &[f32]) -> Self {
        assert_eq!(source.len(), spec.count(), "`{}` of shape {:?}", spec.name, spec.shape);
        match kind {
            ParameterKind::Matrix => {
                let (columns, depth) = (spec.shape[0], spec.shape[1]);
                let rhs = Rhs::Columns { data: source, stride: depth };
                let packed = pack_rhs_parallel(device, rhs, depth, columns).stored_as(storage);
                FrozenParameter::Packed { packed, transposed: OnceLock::new() }
            }
            ParameterKind::Plain => {
                let mut buffer = Buffer::zeros(source.len());
                buffer.as_mut_slice().copy_from_slice(source);
                FrozenParameter::Plain { values: buffer, derived: OnceLock::new() }
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            FrozenParameter::Packed { packed, transposed } => {
                packed.bytes() + transposed.get().map_or(0, PackedRhs::bytes)
            }
            FrozenParameter::Plain { values, derived } => 4 * values.len() + derived.get().map_or(0, PackedRhs::bytes),
        }
    }
}

/// A matrix parameter as it is kept.
pub(crate) enum Matrix<'a> {
    Packed(&'a PackedRhs),
    Flat(&'a [f32]),
}

impl Parameters {
    /// Flat parameters, all zero, to be trained.
    pub fn zeros(declarations: Declarations, device: Cpu) -> Self {
        let flat = Some(Flat::zeros(&declarations, |_| true));
        Parameters { declarations, device, flat, frozen: Vec::new(), still: Vec::new(), adapters: Vec::new() }
    }

    /// Parameters of which some learn, as `learns` says. Those lie in one flat buffer, zero at first; the rest is as for
    /// inference, stands still, and takes no room in gradients. `read` gives the values of the latter.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn partly_frozen<'a, E>(
        declarations: Declarations,
        device: Cpu,
        learns: impl Fn(ParameterId) -> bool,
        mut read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        let still: Vec<bool> = declarations.ids().map(|id| !learns(id)).collect();
        let freeze = |id: ParameterId| {
            let spec = declarations.spec(id);
            if !still[id.0] {
                return Ok(None);
            }
            let values = read(spec)?;
            Ok(Some(FrozenParameter::new(spec, declarations.kinds[id.0], &device, Storage::F32, &values)))
        };
        let frozen = declarations.ids().map(freeze).collect::<Result<Vec<_>, E>>()?;
        let flat = Some(Flat::zeros(&declarations, |index| !still[index]));
        Ok(Parameters { declarations, device, flat, frozen, still, adapters: Vec::new() })
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

    /// Parameters for inference, with matrices in 32 bits. `read` gives the values of each; nothing is kept twice.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn frozen<'a, E>(
        declarations: Declarations,
        device: Cpu,
        read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        Parameters::frozen_as(declarations, device, Storage::F32, read)
    }

    /// As [`Parameters::frozen`], with matrices kept in another storage.
    ///
    /// # Errors
    /// The first that `read` gives.
    pub fn frozen_as<'a, E>(
        declarations: Declarations,
        device: Cpu,
        storage: Storage,
        mut read: impl FnMut(&ParameterSpec) -> Result<Cow<'a, [f32]>, E>,
    ) -> Result<Self, E> {
        let freeze = |id: ParameterId| {
            let spec = declarations.spec(id);
            let values = read(spec)?;
            Ok(Some(FrozenParameter::new(spec, declarations.kinds[id.0], &device, storage, &values)))
        };
        let frozen = declarations.ids().map(freeze).collect::<Result<Vec<_>, E>>()?;
        Ok(Parameters { declarations, device, flat: None, frozen, still: Vec::new(), adapters: Vec::new() })
    }

    /// Makes parameters stand still: nothing is remembered for their gradients, which stay 0.
    pub fn hold_still(&mut self, ids: impl IntoIterator<Item = ParameterId>) {
        self.still.resize(self.declarations.specs.len(), false);
        ids.into_iter().for_each(|id| self.still[id.0] = true);
    }

    /// Whether a parameter learns, or stands still.
    pub fn learns(&self, id: ParameterId) -> bool {
        !self.still.get(id.0).copied().unwrap_or(false)
    }

    /// What was declared.
    pub fn declarations(&self) -> &Declarations {
        &self.declarations
    }

    /// Where the values lie.
    pub fn device(&self) -> &Cpu {
        &self.device
    }

    /// Bytes that the values take in memory.
    pub fn bytes(&self) -> usize {
        let flat = self.flat.as_ref().map_or(0, |flat| 4 * flat.buffer.len());
        flat + self.frozen.iter().flatten().map(FrozenParameter::bytes).sum::<usize>()
    }

    fn place(&self, id: ParameterId) -> Place<'_> {
        match (self.frozen.get(id.0), &self.flat) {
            (Some(Some(frozen)), _) => Place::Frozen(frozen),
            (_, Some(Flat { buffer, offsets })) => {
                Place::Flat(&buffer.as_slice()[offsets[id.0]..][..self.declarations.spec(id).count()])
            }
            (_, None) => unreachable!("a parameter is flat or frozen"),
        }
    }

    /// A copy of a parameter's values, row by row.
    pub fn read(&self, id: ParameterId) -> Vec<f32> {
        match self.place(id) {
            Place::Flat(values) => values.to_vec(),
            Place::Frozen(FrozenParameter::Plain { values, .. }) => values.as_slice().to_vec(),
            Place::Frozen(FrozenParameter::Packed { packed, .. }) => packed.unpacked(self.device.isa()),
        }
    }

    /// Values of a parameter that is not a matrix (of any, when flat).
    ///
    /// # Panics
    /// If it is a packed matrix.
    pub(crate) fn plain(&self, id: ParameterId) -> &[f32] {
        match self.place(id) {
            Place::Flat(values) => values,
            Place::Frozen(FrozenParameter::Plain { values, .. }) => values.as_slice(),
            Place::Frozen(FrozenParameter::Packed { .. }) => {
                panic!("`{}` is packed as a matrix", self.declarations.spec(id).name)
            }
        }
    }

    pub(crate) fn matrix(&self, id: ParameterId) -> Matrix<'_> {
        match self.place(id) {
            Place::Flat(values) => Matrix::Flat(values),
            Place::Frozen(FrozenParameter::Plain { values, .. }) => Matrix::Flat(values.as_slice()),
            Place::Frozen(FrozenParameter::Packed { packed, .. }) => Matrix::Packed(packed),
        }
    }

    /// A packed form derived from a plain parameter: made once when frozen, not kept when the values may change.
    pub(crate) fn derived(&self, id: ParameterId, make: impl FnOnce(&[f32]) -> PackedRhs) -> DerivedMatrix<'_> {
        match self.place(id) {
            Place::Flat(values) => DerivedMatrix::Fresh(make(values)),
            Place::Frozen(FrozenParameter::Plain { values, derived }) => {
                DerivedMatrix::Kept(derived.get_or_init(|| make(values.as_slice())))
            }
            Place::Frozen(FrozenParameter::Packed { packed, .. }) => DerivedMatrix::Kept(packed),
        }
    }

    /// A matrix `[out, in]` as the right operand of a product with rows of `out`, which gives gradients towards the
    /// input: packed once when frozen, each time when the values may change.
    pub(crate) fn transposed(&self, id: ParameterId) -> DerivedMatrix<'_> {
        let spec = self.declarations.spec(id);
        let (rows, columns) = (spec.shape[0], spec.shape[1]);
        let pack = |data: &[f32]| pack_rhs_parallel(&self.device, Rhs::Rows { data, stride: columns }, rows, columns);
        match self.place(id) {
            Place::Flat(values) => DerivedMatrix::Fresh(pack(values)),
            Place::Frozen(FrozenParameter::Plain { values, .. }) => DerivedMatrix::Fresh(pack(values.as_slice())),
            Place::Frozen(FrozenParameter::Packed { packed, transposed }) => {
                DerivedMatrix::Kept(transposed.get_or_init(|| pack(&packed.unpacked(self.device.isa()))))
            }
        }
    }

    /// The flat buffer, to be trained or initialised: see [`Parameters::range`].
    ///
    /// # Panics
    /// If the parameters are frozen.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        self.flat.as_mut().expect("frozen parameters cannot be changed").buffer.as_mut_slice()
    }

    /// The flat buffer.
    ///
    /// # Panics
    /// If the parameters are frozen.
    pub fn flat(&self) -> &[f32] {
        self.flat.as_ref().expect("frozen parameters are not flat").buffer.as_slice()
    }

    /// Whether a parameter lies in the flat buffer.
    pub fn is_flat(&self, id: ParameterId) -> bool {
        self.frozen.get(id.0).is_none_or(Option::is_none)
    }

    /// Where a parameter lies in the flat buffer, and in gradients made for it.
    ///
    /// # Panics
    /// If the parameter is frozen.
    pub fn range(&self, id: ParameterId) -> std::ops::Range<usize> {
        let flat = self.flat.as_ref().filter(|_| self.is_flat(id)).expect("frozen parameters are not flat");
        flat.offsets[id.0]..flat.offsets[id.0] + self.declarations.spec(id).count()
    }
}

/// A packed matrix that an operation derived from a parameter.
pub(crate) enum DerivedMatrix<'a> {
    Kept(&'a PackedRhs),
    Fresh(PackedRhs),
}

impl std::ops::Deref for DerivedMatrix<'_> {
    type Target = PackedRhs;

    fn deref(&self) -> &PackedRhs {
        match self {
            DerivedMatrix::Kept(packed) => packed,
            DerivedMatrix::Fresh(packed) => packed,
        }
    }
}
