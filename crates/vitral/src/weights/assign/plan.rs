//! From a parameter's source in a dialect to ranges of existing tensors.

use std::ops::Range;

use vitral_engine::ParameterSpec;

use super::options::{PositionAdaptation, ResolveOptions};
use crate::config::Size;
use crate::weights::Container;
use crate::weights::dialect::{Dialect, Rows, Source, SourceLayout};

/// Some rows of a tensor in the file.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The tensor's full name in the file.
    pub(super) name: String,
    /// How much of it.
    pub(super) part: Part,
    /// How many rows the tensor has.
    pub(super) total: usize,
    /// Its layout, if not ours.
    pub(super) layout: Option<SourceLayout>,
}

/// How much of a tensor belongs to a parameter.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Some rows, along the first axis longer than one.
    Rows(Range<usize>),
    /// One of the tensors stacked along the first axis, or the second if the layout says so.
    Stacked(usize),
}

impl Piece {
    /// How many of the tensor's rows are used.
    pub(super) fn taken(&self) -> usize {
        match &self.part {
            Part::Whole => self.total,
            Part::Rows(rows) => rows.len(),
            Part::Stacked(_) => 1,
        }
    }

    /// The shape of the used part, in the file's layout, without leading axes that a parameter of this rank does not
    /// have.
    pub(super) fn shape<'a>(&self, full: &'a [usize], rank: usize) -> &'a [usize] {
        let stacked = matches!(self.part, Part::Stacked(_)) && self.layout != Some(SourceLayout::ByAxis);
        let shape = if stacked { full.get(1..).unwrap_or_default() } else { full };
        squeezed(shape, self.layout.and_then(SourceLayout::rank).unwrap_or(rank))
    }
}

/// The file's position grid, and what it is resampled to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resampling {
    pub(super) trained: Size,
    pub(super) to: PositionAdaptation,
}

/// Tensors whose shape differs from a parameter's.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) theirs: String,
    pub(super) found: Vec<usize>,
}

/// Number of rows of a tensor: the size of its first axis, not counting leading axes of size one.
pub(super) fn rows_of(shape: &[usize]) -> usize {
    squeezed(shape, 1).first().copied().unwrap_or(1)
}

/// A shape without the leading axes of size one that our parameters do not have.
fn squeezed(shape: &[usize], rank: usize) -> &[usize] {
    let mut shape = shape;
    while shape.len() > rank && shape[0] == 1 {
        shape = &shape[1..];
    }
    shape
}

pub(super) struct Planner<'a> {
    pub(super) dialect: &'a Dialect,
    pub(super) container: &'a Container,
}

impl Planner<'_> {
    /// The existing names in the file that a parameter could be read from.
    pub(super) fn names(&self, parameter: &str) -> Vec<String> {
        let source = self.dialect.source(parameter);
        source.iter().flat_map(Source::names).filter_map(|name| self.present(&name)).collect()
    }

    /// The pieces of a parameter, or the names that were not found.
    pub(super) fn pieces(&self, spec: &ParameterSpec) -> Result<Vec<Piece>, Vec<String>> {
        let Some(source) = self.dialect.source(&spec.name) else {
            return Err(Vec::new());
        };
        let replaced = || self.replaced_head(&source, spec);
        self.of_source(&source, spec).or_else(replaced).ok_or_else(|| source.names())
    }

    /// A classifier that was replaced by a sequence with one linear map, such as `Sequential(Dropout(…), Linear(…))`: its
    /// names have the place in the sequence inside, as in `heads.1.weight`.
    fn replaced_head(&self, source: &Source, spec: &ParameterSpec) -> Option<Vec<Piece>> {
        const LONGEST: usize = 8;
        let part = spec.name.strip_prefix("head.").filter(|part| matches!(*part, "weight" | "bias"))?;
        let stems = source.names().into_iter().filter_map(|name| Some(name.strip_suffix(part)?.to_owned()));
        stems.into_iter().find_map(|stem| {
            let mut places = (0..LONGEST).filter(|place| self.present(&format!("{stem}{place}.weight")).is_some());
            let place = places.next().filter(|_| places.next().is_none())?;
            Some(vec![self.whole(&format!("{stem}{place}.{part}"), None)?])
        })
    }

    fn of_source(&self, source: &Source, spec: &ParameterSpec) -> Option<Vec<Piece>> {
        match source {
            Source::Name(name) => Some(vec![self.whole(name, None)?]),
            Source::Part { from, rows: Some(rows), layout, .. } => Some(vec![self.rows(from, *rows, *layout, spec)?]),
            Source::Part { from, at: Some(at), layout, .. } => Some(vec![self.stacked(from, at, *layout)?]),
            Source::Part { from, layout, .. } => Some(vec![self.whole(from, *layout)?]),
            Source::Joined(sources) => {
                let pieces: Option<Vec<Vec<Piece>>> =
                    sources.iter().map(|source| self.of_source(source, spec)).collect();
                Some(pieces?.into_iter().flatten().collect())
            }
            Source::Any { any } => any.iter().find_map(|source| self.of_source(source, spec)),
        }
    }

    fn whole(&self, name: &str, layout: Option<SourceLayout>) -> Option<Piece> {
        let name = self.present(name)?;
        let total = rows_of(self.container.shape(&name)?);
        Some(Piece { name, total, part: Part::Whole, layout })
    }

    fn rows(&self, name: &str, rows: Rows, layout: Option<SourceLayout>, spec: &ParameterSpec) -> Option<Piece> {
        let name = self.present(name)?;
        let shape = squeezed(self.container.shape(&name)?, spec.shape.len());
        let total = shape.first().copied().unwrap_or(1);
        let wanted = spec.shape.first().copied().unwrap_or(1).min(total);
        let range = match rows {
            Rows::First => 0..wanted,
            Rows::Last => total - wanted..total,
        };
        Some(Piece { name, total, part: Part::Rows(range), layout })
    }

    fn stacked(&self, name: &str, at: &str, layout: Option<SourceLayout>) -> Option<Piece> {
        let name = self.present(name)?;
        let axis = usize::from(layout == Some(SourceLayout::ByAxis));
        let total = self.container.shape(&name)?.get(axis).copied()?;
        let index = at.parse().ok().filter(|&index| index < total)?;
        Some(Piece { name, total, part: Part::Stacked(index), layout })
    }

    /// Whether a tensor is a convolution where the dialect has a linear map over a patch's pixels.
    pub(super) fn is_convolution(&self, piece: &Piece) -> bool {
        let axes = self.container.shape(&piece.name).map_or(0, <[usize]>::len);
        piece.layout == Some(SourceLayout::PatchChannelsLast) && axes == 4
    }

    /// The spelling of a foreign name that the file uses.
    fn present(&self, name: &str) -> Option<String> {
        self.dialect.spellings(name).find(|name| self.container.contains(name))
    }

    /// Whether the pieces have the parameter's shape, possibly after resampling positions.
    pub(super) fn fit(
        &self,
        spec: &ParameterSpec,
        pieces: &[Piece],
        options: &ResolveOptions,
    ) -> Result<Option<Resampling>, Misfit> {
        let rank = spec.shape.len();
        let mut rows = 0;
        let mut joined = Vec::new();
        for piece in pieces {
            let full = self.container.shape(&piece.name).unwrap_or_default();
            let misfit = || Misfit { theirs: piece.name.clone(), found: full.to_vec() };
            let shape = piece.shape(full, rank);
            let shape = piece.layout.map_or_else(|| Some(shape.to_vec()), |layout| layout.ours(shape));
            let given = flattened(&shape.ok_or_else(misfit)?, spec, options.patch_size).ok_or_else(misfit)?;
            rows += match &piece.part {
                Part::Rows(rows) => rows.len(),
                Part::Whole | Part::Stacked(_) => given.first().copied().unwrap_or(1),
            };
            if !joined.is_empty() && joined[1..] != given[1..] {
                return Err(Misfit { theirs: piece.name.clone(), found: full.to_vec() });
            }
            joined = given;
        }
        if let Some(first) = joined.first_mut() {
            *first = rows;
        }
        let fault = |found: Vec<usize>| Misfit { theirs: names(pieces), found };
        if joined == spec.shape {
            return Ok(None);
        }
        match options.positions {
            Some(to) if spec.name == "positions" && joined.len() == 2 && joined[1..] == spec.shape[1..] => {
                let trained = trained_grid(joined[0], &to).ok_or_else(|| fault(joined.clone()))?;
                if spec.shape[0] != to.prefix + to.grid.area() {
                    return Err(fault(joined));
                }
                Ok(Some(Resampling { trained, to }))
            }
            _ => Err(fault(joined)),
        }
    }
}

/// A tensor's shape with as many axes as the parameter has. A convolution's kernel `[out, channels, height, width]` is
/// a matrix of the same values in the same order.
fn flattened(shape: &[usize], spec: &ParameterSpec, patch: Size) -> Option<Vec<usize>> {
    let rank = spec.shape.len();
    if shape.len() == rank {
        return Some(shape.to_vec());
    }
    let kernel = [patch.height, patch.width];
    // A linear map stored as a 1×1 convolution.
    if shape.len() == 4 && rank == 2 && shape[2..] == [1, 1] {
        return Some(shape[..2].to_vec());
    }
    let convolution = shape.len() == 4 && rank == 2 && spec.name == "patches.weight" && shape[2..] == kernel;
    convolution.then(|| vec![shape[0], shape[1..].iter().product()])
}

/// The grid covered by a file's positions.
fn trained_grid(count: usize, to: &PositionAdaptation) -> Option<Size> {
    let patches = count.checked_sub(to.prefix)?;
    let grid = to.trained.unwrap_or_else(|| Size::square(patches.isqrt()));
    (grid.area() == patches && patches > 0).then_some(grid)
}

fn names(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.name.as_str()).collect::<Vec<_>>().join("` + `")
}
