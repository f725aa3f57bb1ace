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
    values: Values,
    /// Which stand still while others learn; none where it is empty.
    still: Vec<bool>,
}

enum Values {
    /// One flat buffer; parameter `i` starts at `offsets[i]`, aligned to a cache line.
    Flat { buffer: Buffer, offsets: Vec<usize> },
    /// Ready for inference: matrices packed, the rest as it is.
    Frozen(Vec<FrozenParameter>),
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

/// A matrix parameter as it is kept.
pub(crate) enum Matrix<'a> {
    Packed(&'a PackedRhs),
    Flat(&'a [f32]),
}

impl Parameters {
    /// Flat parameters, all zero, to be trained.
    pub fn zeros(declarations: Declarations, device: Cpu) -> Self {
        let mut offsets = Vec::with_capacity(declarations.specs.len());
        let mut end = 0usize;
        for spec in &declarations.specs {
            offsets.push(end);
            end += spec.count().next_multiple_of(16);
        }
        Parameters {
            declarations,
            device,
            values: Values::Flat { buffer: Buffer::zeros(end), offsets },
            still: Vec::new(),
        }
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
        let mut values = Vec::with_capacity(declarations.specs.len());
        for (spec, kind) in declarations.specs.iter().zip(&declarations.kinds) {
            let source = read(spec)?;
            assert_eq!(source.len(), spec.count(), "`{}` of shape {:?}", spec.name, spec.shape);
            values.push(match kind {
                ParameterKind::Matrix => {
                    let (columns, depth) = (spec.shape[0], spec.shape[1]);
                    let rhs = Rhs::Columns { data: &source, stride: depth };
                    let packed = pack_rhs_parallel(&device, rhs, depth, columns).stored_as(storage);
                    FrozenParameter::Packed { packed, transposed: OnceLock::new() }
                }
                ParameterKind::Plain => {
                    let mut buffer = Buffer::zeros(source.len());
                    buffer.as_mut_slice().copy_from_slice(&source);
                    FrozenParameter::Plain { values: buffer, derived: OnceLock::new() }
                }
            });
        }
        Ok(Parameters { declarations, device, values: Values::Frozen(values), still: Vec::new() })
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
        match &self.values {
            Values::Flat { buffer, .. } => 4 * buffer.len(),
            Values::Frozen(values) => values
                .iter()
                .map(|value| match value {
                    FrozenParameter::Packed { packed, transposed } => {
                        packed.bytes() + transposed.get().map_or(0, PackedRhs::bytes)
                    }
                    FrozenParameter::Plain { values, derived } => {
                        4 * values.len() + derived.get().map_or(0, PackedRhs::bytes)
                    }
                })
                .sum(),
        }
    }

    /// A copy of a parameter's values, row by row.
    pub fn read(&self, id: ParameterId) -> Vec<f32> {
        let spec = self.declarations.spec(id);
        match &self.values {
            Values::Flat { buffer, offsets } => buffer.as_slice()[offsets[id.0]..][..spec.count()].to_vec(),
            Values::Frozen(values) => match &values[id.0] {
                FrozenParameter::Plain { values, .. } => values.as_slice().to_vec(),
                FrozenParameter::Packed { packed, .. } => packed.unpacked(self.device.isa()),
            },
        }
    }

    /// Values of a parameter that is not a matrix (of any, when flat).
    ///
    /// # Panics
    /// If it is a packed matrix.
    pub(crate) fn plain(&self, id: ParameterId) -> &[f32] {
        match &self.values {
            Values::Flat { buffer, offsets } => {
                &buffer.as_slice()[offsets[id.0]..][..self.declarations.spec(id).count()]
            }
            Values::Frozen(values) => match &values[id.0] {
                FrozenParameter::Plain { values, .. } => values.as_slice(),
                FrozenParameter::Packed { .. } => panic!("`{}` is packed as a matrix", self.declarations.spec(id).name),
            },
        }
    }

    pub(crate) fn matrix(&self, id: ParameterId) -> Matrix<'_> {
        match &self.values {
            Values::Frozen(values) => match &values[id.0] {
                FrozenParameter::Packed { packed, .. } => Matrix::Packed(packed),
                FrozenParameter::Plain { values, .. } => Matrix::Flat(values.as_slice()),
            },
            Values::Flat { .. } => Matrix::Flat(self.plain(id)),
        }
    }

    /// A packed form derived from a plain parameter: made once when frozen, not kept when the values may change.
    pub(crate) fn derived(&self, id: ParameterId, make: impl FnOnce(&[f32]) -> PackedRhs) -> DerivedMatrix<'_> {
        match &self.values {
            Values::Frozen(values) => match &values[id.0] {
                FrozenParameter::Plain { values, derived } => {
                    DerivedMatrix::Kept(derived.get_or_init(|| make(values.as_slice())))
                }
                FrozenParameter::Packed { packed, .. } => DerivedMatrix::Kept(packed),
            },
            Values::Flat { .. } => DerivedMatrix::Fresh(make(self.plain(id))),
        }
    }

    /// A matrix `[out, in]` as the right operand of a product with rows of `out`, which gives gradients towards the
    /// input: packed once when frozen, each time when the values may change.
    pub(crate) fn transposed(&self, id: ParameterId) -> DerivedMatrix<'_> {
        let spec = self.declarations.spec(id);
        let (rows, columns) = (spec.shape[0], spec.shape[1]);
        let pack = |data: &[f32]| pack_rhs_parallel(&self.device, Rhs::Rows { data, stride: columns }, rows, columns);
        match &self.values {
            Values::Frozen(values) => match &values[id.0] {
                FrozenParameter::Packed { packed, transposed } => {
                    DerivedMatrix::Kept(transposed.get_or_init(|| pack(&packed.unpacked(self.device.isa()))))
                }
                FrozenParameter::Plain { values, .. } => DerivedMatrix::Fresh(pack(values.as_slice())),
            },
            Values::Flat { .. } => DerivedMatrix::Fresh(pack(self.plain(id))),
        }
    }

    /// The flat buffer and where a parameter lies in it, to be trained or initialised.
    ///
    /// # Panics
    /// If the parameters are frozen.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        match &mut self.values {
            Values::Flat { buffer, .. } => buffer.as_mut_slice(),
            Values::Frozen(_) => panic!("frozen parameters cannot be changed"),
        }
    }

    /// The flat buffer.
    ///
    /// # Panics
    /// If the parameters are frozen.
    pub fn flat(&self) -> &[f32] {
        match &self.values {
            Values::Flat { buffer, .. } => buffer.as_slice(),
            Values::Frozen(_) => panic!("frozen parameters are not flat"),
        }
    }

    /// Where a parameter lies in the flat buffer, and in gradients made for it.
    ///
    /// # Panics
    /// If the parameters are frozen.
    pub fn range(&self, id: ParameterId) -> std::ops::Range<usize> {
        match &self.values {
            Values::Flat { offsets, .. } => offsets[id.0]..offsets[id.0] + self.declarations.spec(id).count(),
            Values::Frozen(_) => panic!("frozen parameters are not flat"),
        }
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
