//! A dialect in reverse: which tensors the library expects, and which parameters each consists of.

use std::collections::BTreeMap;
use std::ops::Range;

use vitral_engine::ParameterSpec;

use super::naming::Naming;
use super::tensor::{Piece, Tensor};
use crate::config::ModelConfig;
use crate::model::Vit;
use crate::weights::dialect::{Dialect, Rows, Source, SourceLayout};
use crate::weights::error::Difference;

/// All tensors of a model in a dialect, by name; or the parameters that have no name in it.
pub(super) fn invert(vit: &Vit, naming: Naming) -> Result<BTreeMap<String, Tensor>, Vec<Difference>> {
    let dialect = &naming.dialect;
    let (mut tensors, mut nameless) = (BTreeMap::new(), Vec::new());
    for spec in vit.declarations().specs() {
        let rows = 0..spec.shape.first().copied().unwrap_or(1);
        let placed = dialect.source(&spec.name).is_some_and(|source| {
            place(
                &source,
                spec,
                rows,
                &Placing { dialect, config: vit.config(), stacked: naming.stacked },
                &mut tensors,
            )
            .is_some()
        });
        if !placed {
            let ours = format!("{:?} values", spec.shape);
            nameless.push(Difference { field: spec.name.clone(), ours, theirs: "no such tensor".into() });
        }
    }
    if !nameless.is_empty() {
        return Err(nameless);
    }
    let mut named: BTreeMap<String, Tensor> =
        tensors.into_iter().map(|(name, tensor)| (naming.full(&name), tensor)).collect();
    named.extend(naming.idle);
    Ok(named)
}

struct Placing<'a> {
    dialect: &'a Dialect,
    config: &'a ModelConfig,
    stacked: bool,
}

fn place(
    source: &Source,
    spec: &ParameterSpec,
    rows: Range<usize>,
    placing: &Placing<'_>,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Option<()> {
    match source {
        Source::Name(name) => {
            insert(tensors, name, placing, Piece { spec: spec.clone(), rows, layout: None, last: false })
        }
        Source::Part { from, at: Some(at), layout: Some(SourceLayout::ByAxis), .. } => {
            stack_by_axis(tensors, from, at, placing, spec)
        }
        Source::Part { from, at: Some(at), layout, .. } => {
            stack(tensors, from, at, placing, Piece { spec: spec.clone(), rows, layout: *layout, last: true })
        }
        Source::Part { from, rows: part, layout, .. } => {
            let last = *part == Some(Rows::Last);
            insert(tensors, from, placing, Piece { spec: spec.clone(), rows, layout: *layout, last })
        }
        Source::Joined(sources) => {
            let each = rows.len() / sources.len().max(1);
            for (i, source) in sources.iter().enumerate() {
                let start = rows.start + i * each;
                place(source, spec, start..start + each, placing, tensors)?;
            }
            Some(())
        }
        Source::Any { any } => {
            let written = |source: &&Source| match source {
                Source::Part { when: Some(condition), .. } => condition.holds(placing.config),
                _ => true,
            };
            // Blocks separate or stacked; a dialect with only one form has no choice.
            let form = |source: &&Source| source.is_stacked() == placing.stacked;
            let chosen = any.iter().filter(written).find(form).or_else(|| any.iter().find(written));
            place(chosen?, spec, rows, placing, tensors)
        }
    }
}

fn insert(tensors: &mut BTreeMap<String, Tensor>, name: &str, placing: &Placing<'_>, piece: Piece) -> Option<()> {
    let shape = shape(&piece, placing)?;
    match tensors.get_mut(name) {
        None => {
            tensors.insert(name.to_owned(), Tensor { shape, pieces: vec![piece], fill: 0.0 });
        }
        Some(tensor) => {
            tensor.shape[0] += shape[0];
            let at = if piece.last { tensor.pieces.len() } else { 0 };
            tensor.pieces.insert(at, piece);
        }
    }
    Some(())
}

/// Appends a piece to those of the preceding blocks, along a new leading axis.
fn stack(
    tensors: &mut BTreeMap<String, Tensor>,
    name: &str,
    at: &str,
    placing: &Placing<'_>,
    piece: Piece,
) -> Option<()> {
    let shape = shape(&piece, placing)?;
    let tensor = tensors.entry(name.to_owned()).or_insert_with(|| Tensor {
        shape: std::iter::once(0).chain(shape).collect(),
        pieces: Vec::new(),
        fill: 0.0,
    });
    // Blocks are declared in order.
    (at.parse() == Ok(tensor.shape[0])).then_some(())?;
    tensor.shape[0] += 1;
    tensor.pieces.push(piece);
    Some(())
}

/// Appends the parts of each axis to those of the preceding blocks, along the second axis.
fn stack_by_axis(
    tensors: &mut BTreeMap<String, Tensor>,
    name: &str,
    at: &str,
    placing: &Placing<'_>,
    spec: &ParameterSpec,
) -> Option<()> {
    let &[axes, width] = spec.shape.as_slice() else { return None };
    let heads = placing.config.heads;
    let tensor = tensors.entry(name.to_owned()).or_insert_with(|| Tensor {
        shape: vec![axes, 0, heads, width / heads],
        pieces: Vec::new(),
        fill: 0.0,
    });
    // Blocks are declared in order.
    let blocks = tensor.shape[1];
    (at.parse() == Ok(blocks)).then_some(())?;
    for axis in 0..axes {
        let piece = Piece { spec: spec.clone(), rows: axis..axis + 1, layout: Some(SourceLayout::ByAxis), last: true };
        tensor.pieces.insert(axis * (blocks + 1) + blocks, piece);
    }
    tensor.shape[1] += 1;
    Some(())
}

/// The shape of a piece in the library.
fn shape(piece: &Piece, placing: &Placing<'_>) -> Option<Vec<usize>> {
    let (spec, config) = (&piece.spec, placing.config);
    let mut ours = spec.shape.clone();
    if let Some(first) = ours.first_mut() {
        *first = piece.rows.len();
    }
    // An attention pool splits the model's width among its heads, however wide those of the blocks are.
    let head_width =
        if spec.name.starts_with("pool.") { config.width / config.heads_of_pool() } else { config.head_width };
    let kernel = || {
        let patch = config.patch_size;
        let channels = spec.shape.get(1)? / patch.area();
        Some([channels, patch.height, patch.width])
    };
    let shape = match (piece.layout, ours.as_slice()) {
        (
            None
            | Some(
                SourceLayout::PatchChannelsLast
                | SourceLayout::NeighborPairs
                | SourceLayout::PackedNeighborPairs
                | SourceLayout::ByAxis,
            ),
            _,
        ) => ours,
        (Some(SourceLayout::Transposed), _) => ours.into_iter().rev().collect(),
        (Some(SourceLayout::Hwio), &[outputs, inputs, height, width]) => vec![height, width, inputs, outputs],
        (Some(SourceLayout::Hwio), &[outputs, _]) => {
            let [channels, height, width] = kernel()?;
            vec![height, width, channels, outputs]
        }
        (Some(SourceLayout::Grid), &[_, width]) => vec![config.grid().height, config.grid().width, width],
        (Some(SourceLayout::InHeads), &[rows, inputs]) => vec![inputs, rows / head_width, head_width],
        (Some(SourceLayout::HeadsOut), &[outputs, columns]) => vec![columns / head_width, head_width, outputs],
        (Some(SourceLayout::Heads), &[rows]) => vec![rows / head_width, head_width],
        _ => return None,
    };
    Some(match placing.dialect.axes(&spec.name) {
        // A patch kernel as a convolution.
        Some(4) if shape.len() == 2 && spec.name == "patches.weight" => {
            std::iter::once(shape[0]).chain(kernel()?).collect()
        }
        // A classifier as a 1×1 convolution.
        Some(4) if shape.len() == 2 => shape.into_iter().chain([1, 1]).collect(),
        Some(axes) => std::iter::repeat_n(1, axes.saturating_sub(shape.len())).chain(shape).collect(),
        None => shape,
    })
}
