//! Matches tensors with parameters, strictly: either everything matches, or one error lists all that does not.

mod options;
mod plan;
pub(crate) mod values;
mod wrapper;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use vitral_engine::{DType, ParameterSpec};

use super::dialect::{Dialect, matches_glob};
use super::error::Mismatch;
use super::resample::resample_positions;
use super::{Container, DataType, WeightsError};
use crate::config::Size;
pub use options::{PositionAdaptation, ResolveOptions};
use plan::{Misfit, Piece, Planner, Resampling};
use values::Extents;
pub(super) use values::SCALES;
#[cfg(feature = "text")]
pub(crate) use values::{floats, rows};

/// Parameters with the tensors they are read from.
#[derive(Debug)]
pub struct Assignment<'a> {
    container: &'a Container,
    sources: BTreeMap<String, Resolved>,
    extents: Extents,
}

/// One parameter's source.
#[derive(Debug)]
struct Resolved {
    shape: Vec<usize>,
    pieces: Vec<Piece>,
    /// The file's positions and their grid, if they must be resampled.
    resampled: Option<Resampling>,
}

/// How many rows of a tensor no parameter has used yet; negative if two parameters used the same rows.
struct Claim {
    free: isize,
    parameter: String,
}

impl Claim {
    fn all(spec: &ParameterSpec) -> Self {
        Claim { free: 0, parameter: spec.name.clone() }
    }
}

/// Finds a tensor for every parameter, and a parameter for every tensor.
///
/// # Errors
/// [`WeightsError::Mismatch`], with everything that is missing, unused or of another shape and not named in
/// [`ResolveOptions::ignore`].
pub fn resolve<'a>(
    specs: &[ParameterSpec],
    dialect: &Dialect,
    container: &'a Container,
    options: &ResolveOptions,
) -> Result<Assignment<'a>, WeightsError> {
    if !dialect.takes(options.rotary) {
        return Err(WeightsError::OtherRotary { dialect: dialect.name().to_owned() });
    }
    let plain = match matched(specs, dialect, container, options) {
        Ok(assignment) => return Ok(assignment),
        Err(mismatch) => mismatch,
    };
    let wrapped = wrapper::of(specs, dialect, container).map(|prefix| dialect.clone().wrapped(&prefix));
    let mut mismatch = match wrapped.map(|dialect| matched(specs, &dialect, container, options)) {
        Some(Ok(assignment)) => return Ok(assignment),
        // The names that nearly match say more.
        Some(Err(mismatch)) if mismatch.missing.len() < plain.missing.len() => mismatch,
        _ => plain,
    };
    if !mismatch.missing.is_empty() {
        mismatch.prefix = wrapper::shared(dialect, container);
    }
    Err(WeightsError::Mismatch(mismatch))
}

/// Like [`resolve`], with the names as they are.
fn matched<'a>(
    specs: &[ParameterSpec],
    dialect: &Dialect,
    container: &'a Container,
    options: &ResolveOptions,
) -> Result<Assignment<'a>, Box<Mismatch>> {
    let planner = Planner { dialect, container };
    let ignored = |name: &str| options.ignore.iter().any(|pattern| matches_glob(pattern, name));
    let mut mismatch = Mismatch { dialect: dialect.name().to_owned(), ..Mismatch::default() };
    let mut sources = BTreeMap::new();
    let mut claimed: HashMap<String, Claim> = HashMap::new();
    for spec in specs {
        if ignored(&spec.name) {
            // The tensor it would be read from may stay unused.
            for name in planner.names(&spec.name) {
                claimed.insert(name, Claim::all(spec));
            }
            continue;
        }
        let pieces = match planner.pieces(spec) {
            Ok(pieces) => pieces,
            Err(tried) => {
                mismatch.missing.push((spec.name.clone(), spec.shape.clone(), tried));
                continue;
            }
        };
        match planner.fit(spec, &pieces, options) {
            Ok(resampled) => {
                for piece in &pieces {
                    let free = Claim { free: piece.total as isize, parameter: spec.name.clone() };
                    let claim = claimed.entry(piece.name.clone()).or_insert(free);
                    claim.free -= piece.taken() as isize;
                }
                let shape = spec.shape.clone();
                sources.insert(spec.name.clone(), Resolved { shape, pieces, resampled });
            }
            Err(Misfit { theirs, found }) => {
                for piece in &pieces {
                    claimed.insert(piece.name.clone(), Claim::all(spec));
                }
                mismatch.misshapen.push((spec.name.clone(), theirs, spec.shape.clone(), found));
            }
        }
    }
    for name in container.names() {
        let shape = container.shape(name).unwrap_or_default();
        match claimed.get(name) {
            None if shape.contains(&0) || dialect.is_leftover(name) || ignored(name) => {}
            None if wrapper::is_beside(dialect, container, name) => {}
            // The scales of a matrix in 8 bits are read with it.
            None if name
                .strip_suffix(values::SCALES)
                .is_some_and(|matrix| container.data_type(matrix) == Some(DataType::Int8)) => {}
            None => mismatch.unused.push((name.to_owned(), shape.to_owned())),
            // Parameters must use up a tensor that they share; otherwise one of them has a wrong width.
            Some(claim) if claim.free != 0 => {
                let used = plan::rows_of(shape).saturating_add_signed(-claim.free);
                let expected = std::iter::once(used).chain(shape.iter().skip(1).copied()).collect();
                mismatch.misshapen.push((claim.parameter.clone(), name.to_owned(), expected, shape.to_owned()));
            }
            Some(_) => {}
        }
    }
    if mismatch.is_empty() {
        let extents = Extents { patch: options.patch_size, head_width: options.head_width };
        Ok(Assignment { container, sources, extents })
    } else {
        Err(Box::new(mismatch))
    }
}

/// Recognizes the dialect of the names in the container.
///
/// # Errors
/// [`WeightsError::UnknownDialect`] if none has a name for every parameter, with the closest one.
pub fn recognize(
    specs: &[ParameterSpec],
    container: &Container,
    options: &ResolveOptions,
) -> Result<Dialect, WeightsError> {
    let vitral = Dialect::vitral();
    let candidates = std::iter::once(&vitral).chain(Dialect::built_in());
    let wanted = || specs.iter().filter(|spec| !options.ignore.iter().any(|pattern| matches_glob(pattern, &spec.name)));
    let mut nearest: Option<(Vec<String>, Dialect)> = None;
    let missing_in = |dialect: &Dialect| -> Vec<String> {
        let planner = Planner { dialect, container };
        let missing = |spec: &&ParameterSpec| match planner.pieces(spec) {
            Err(tried) => Some(first_of(tried, spec)),
            // The same names, of a patch embedding that is another map.
            Ok(pieces) if pieces.iter().any(|piece| planner.is_convolution(piece)) => Some(spec.name.clone()),
            Ok(_) => None,
        };
        wanted().filter_map(|spec| missing(&spec)).collect()
    };
    for dialect in candidates.filter(|dialect| dialect.takes(options.rotary)) {
        let mut named = dialect.clone();
        let mut missing = missing_in(dialect);
        if !missing.is_empty()
            && let Some(prefix) = wrapper::of(specs, dialect, container)
        {
            let wrapped = named.clone().wrapped(&prefix);
            let inside = missing_in(&wrapped);
            if inside.len() < missing.len() {
                (missing, named) = (inside, wrapped);
            }
        }
        if nearest.as_ref().is_none_or(|(fewest, _)| missing.len() < fewest.len()) {
            nearest = Some((missing, named));
        }
    }
    match nearest {
        Some((missing, dialect)) if missing.is_empty() => Ok(dialect),
        Some((missing, dialect)) => Err(WeightsError::UnknownDialect {
            nearest: dialect.name().to_owned(),
            expected: wanted().count(),
            missing,
            prefix: wrapper::shared(&dialect, container),
        }),
        None => Ok(vitral),
    }
}

/// Checks that a parameter's values are finite.
pub(crate) fn finite(name: &str, values: &[f32]) -> Result<(), WeightsError> {
    // A check for an all-ones exponent without branches: this runs over every weight of every model.
    const EXPONENT: u32 = 0x7f80_0000;
    let clean = |part: &[f32]| !part.iter().fold(false, |bad, value| bad | (value.to_bits() & EXPONENT == EXPONENT));
    if values.chunks(4096).all(clean) {
        return Ok(());
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(WeightsError::NotFinite { name: name.to_owned(), index, value: values[index] }),
        None => Ok(()),
    }
}

fn first_of(tried: Vec<String>, spec: &ParameterSpec) -> String {
    tried.into_iter().next().unwrap_or_else(|| spec.name.clone())
}

impl Assignment<'_> {
    /// Names of all assigned parameters, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The grid of the file's positions and the model's, if they are resampled.
    pub fn resampled(&self) -> Option<[Size; 2]> {
        let resampling = self.sources.values().find_map(|resolved| resolved.resampled)?;
        Some([resampling.trained, resampling.to.grid])
    }

    /// Whether the parameter has a tensor: false if the caller asked to leave it out.
    pub fn is_assigned(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// A parameter's shape.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.sources.get(name).map(|resolved| resolved.shape.as_slice())
    }

    /// The type that a parameter is stored in, if it is the same for all its pieces and one of ours.
    pub(crate) fn storage(&self, name: &str) -> Option<DType> {
        let pieces = &self.sources.get(name)?.pieces;
        let kind = self.container.data_type(&pieces.first()?.name)?;
        let same = pieces.iter().all(|piece| self.container.data_type(&piece.name) == Some(kind));
        match kind {
            _ if !same => None,
            DataType::Int8 => Some(DType::I8),
            DataType::BFloat16 => Some(DType::Bf16),
            DataType::Float16 => Some(DType::F16),
            DataType::Float32 => Some(DType::F32),
            _ => None,
        }
    }

    /// The name of the tensor that a parameter is, if it is the whole of one, in our layout.
    #[cfg(feature = "text")]
    pub(crate) fn tensor(&self, name: &str) -> Option<&str> {
        match self.sources.get(name)?.pieces.as_slice() {
            [piece] if piece.layout.is_none() && piece.taken() == piece.total => Some(&piece.name),
            _ => None,
        }
    }

    /// Whether a parameter is stored in 8 bits.
    pub(crate) fn is_int8(&self, name: &str) -> bool {
        let pieces = self.sources.get(name).map_or(&[][..], |resolved| &resolved.pieces);
        pieces.iter().any(|piece| self.container.data_type(&piece.name) == Some(DataType::Int8))
    }

    /// A parameter's values in our layout: borrowed from the file if they are stored that way, converted otherwise.
    ///
    /// # Errors
    /// [`WeightsError::NotAssigned`], or [`WeightsError::DataType`] for tensors that are not floating point.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [f32]>, WeightsError> {
        let resolved = self.sources.get(name).ok_or_else(|| WeightsError::NotAssigned(name.to_owned()))?;
        let values = match resolved.pieces.as_slice() {
            [piece] => values::read(self.container, piece, self.extents)?,
            pieces => {
                let mut joined = Vec::with_capacity(resolved.shape.iter().product());
                for piece in pieces {
                    joined.extend_from_slice(&values::read(self.container, piece, self.extents)?);
                }
                Cow::Owned(joined)
            }
        };
        Ok(match resolved.resampled {
            None => values,
            Some(Resampling { trained, to }) => {
                let width = resolved.shape[1];
                resample_positions(&values, to.prefix, trained, to.grid, width, to.kernel).into()
            }
        })
    }

    /// Lets the operating system reclaim the memory of a parameter's file pages once its values have been used.
    pub fn release(&self, name: &str) {
        for piece in self.sources.get(name).into_iter().flat_map(|resolved| &resolved.pieces) {
            self.container.release(&piece.name);
        }
    }

    /// Checks that every value of every parameter is finite.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`] with the first value that is not finite.
    pub fn check_finite(&self) -> Result<(), WeightsError> {
        self.sources.keys().try_for_each(|name| finite(name, &self.read(name)?))
    }
}
