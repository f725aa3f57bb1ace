//! From a parameter's source in a dialect to ranges of tensors that are there.

use std::ops::Range;

use vitral_engine::arena::ParameterSpec;

use super::{PositionAdaptation, ResolveOptions};
use crate::config::Size;
use crate::weights::Container;
use crate::weights::dialect::{Dialect, Rows, Source, SourceLayout};

/// Some rows of a tensor in the file.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The tensor's full name in the file.
    pub(super) name: String,
    /// Which rows of it, along the first axis longer than one.
    pub(super) rows: Range<usize>,
    /// How many rows the tensor has.
    pub(super) total: usize,
    /// Whether the tensor is this parameter's alone.
    pub(super) whole: bool,
    /// Its layout, if not ours.
    pub(super) layout: Option<SourceLayout>,
}

/// The file's position grid, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resampling {
    pub(super) trained: Size,
    pub(super) to: PositionAdaptation,
}

/// Tensors that do not have a parameter's shape.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) theirs: String,
    pub(super) found: Vec<usize>,
}

/// Rows of a tensor: the extent of the first axis, those of one place before it not counted.
pub(super) fn rows_of(shape: &[usize]) -> usize {
    squeezed(shape, 1).first().copied().unwrap_or(1)
}

/// A shape without the leading axes of extent one that our parameters do not have.
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
    /// The names in the file that a parameter could be read from and that are there.
    pub(super) fn names(&self, parameter: &str) -> Vec<String> {
        let source = self.dialect.source(parameter);
        source.iter().flat_map(Source::names).filter_map(|name| self.present(&name)).collect()
    }

    /// The pieces of a parameter, or the names that were looked for in vain.
    pub(super) fn pieces(&self, spec: &ParameterSpec) -> Result<Vec<Piece>, Vec<String>> {
        let Some(source) = self.dialect.source(&spec.name) else {
            return Err(Vec::new());
        };
        self.of_source(&source, spec).ok_or_else(|| source.names())
    }

    fn of_source(&self, source: &Source, spec: &ParameterSpec) -> Option<Vec<Piece>> {
        match source {
            Source::Name(name) => Some(vec![self.piece(name, None, None, spec)?]),
            Source::Part { from, rows, layout } => Some(vec![self.piece(from, *rows, *layout, spec)?]),
            Source::Joined(sources) => {
                let pieces: Option<Vec<Vec<Piece>>> =
                    sources.iter().map(|source| self.of_source(source, spec)).collect();
                Some(pieces?.into_iter().flatten().collect())
            }
            Source::Any { any } => any.iter().find_map(|source| self.of_source(source, spec)),
        }
    }

    fn piece(
        &self,
        name: &str,
        rows: Option<Rows>,
        layout: Option<SourceLayout>,
        spec: &ParameterSpec,
    ) -> Option<Piece> {
        let name = self.present(name)?;
        let shape = squeezed(self.container.shape(&name)?, spec.shape.len());
        let all = shape.first().copied().unwrap_or(1);
        let wanted = spec.shape.first().copied().unwrap_or(1).min(all);
        let range = match rows {
            None => 0..all,
            Some(Rows::First) => 0..wanted,
            Some(Rows::Last) => all - wanted..all,
        };
        Some(Piece { name, total: all, whole: rows.is_none(), rows: range, layout })
    }

    /// The spelling of a foreign name that is in the file.
    fn present(&self, name: &str) -> Option<String> {
        self.dialect.spellings(name).find(|name| self.container.contains(name))
    }

    /// Whether the pieces have the parameter's shape, perhaps after resampling positions.
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
            let shape = squeezed(full, rank);
            let mut given = flattened(shape, spec, options.patch_size)
                .ok_or_else(|| Misfit { theirs: piece.name.clone(), found: full.to_vec() })?;
            if piece.layout == Some(SourceLayout::Transposed) {
                given.reverse();
            }
            rows += if piece.whole { given.first().copied().unwrap_or(1) } else { piece.rows.len() };
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

/// A tensor's shape in as many axes as the parameter has. A convolution's kernel `[out, channels, height, width]` is a
/// matrix of the same numbers in the same order.
fn flattened(shape: &[usize], spec: &ParameterSpec, patch: Size) -> Option<Vec<usize>> {
    let rank = spec.shape.len();
    if shape.len() == rank {
        return Some(shape.to_vec());
    }
    let kernel = [patch.height, patch.width];
    let convolution = shape.len() == 4 && rank == 2 && spec.name == "patches.weight" && shape[2..] == kernel;
    convolution.then(|| vec![shape[0], shape[1..].iter().product()])
}

/// The grid that a file's positions cover.
fn trained_grid(count: usize, to: &PositionAdaptation) -> Option<Size> {
    let patches = count.checked_sub(to.prefix)?;
    let grid = to.trained.unwrap_or_else(|| Size::square(patches.isqrt()));
    (grid.area() == patches && patches > 0).then_some(grid)
}

fn names(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.name.as_str()).collect::<Vec<_>>().join("` + `")
}
