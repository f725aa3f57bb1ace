//! Rotary positions: by how much the queries and keys of each patch turn.

use vitral_engine::ops::{Places, Rotation};
use vitral_engine::{Context, ParameterId, Tensor};

use crate::config::{Axis, ModelConfig, Rotary, Size};

/// How the queries and keys of an image's patches turn in every block.
#[derive(Clone, Debug)]
pub(super) enum Turns {
    /// By angles that all heads share.
    Fixed(Rotation),
    /// By frequencies that each block learns for each head.
    Learned(Places),
}

impl Turns {
    /// The rotations of a model for this grid, if it has rotary positions.
    pub(super) fn new(config: &ModelConfig, grid: Size) -> Option<Self> {
        let (prefix, pairs) = (config.prefix_tokens(), config.head_width / 2);
        Some(match config.rotary? {
            Rotary::Mixed { first, .. } => {
                Turns::Learned(Places::new(prefix, pairs, [grid.height, grid.width], first == Axis::Rows))
            }
            _ => Turns::Fixed(Rotation::new(prefix, pairs, &rotation_angles(config, grid)?)),
        })
    }

    /// Turns packed queries and keys; `frequencies` are the block's, if it has any.
    pub(super) fn apply(&self, cx: &Context<'_>, qkv: &Tensor, frequencies: Option<ParameterId>) -> Tensor {
        match self {
            Turns::Fixed(rotation) => cx.rotate_queries_and_keys(qkv, rotation),
            Turns::Learned(places) => {
                let frequencies = frequencies.expect("declared for learned rotations");
                cx.rotate_queries_and_keys_by(qkv, frequencies, *places)
            }
        }
    }
}

/// The angles by which each patch's queries and keys turn in all heads, `[patches, head width / 2]`; `None` without
/// rotary positions, or if their frequencies are learned.
pub(crate) fn rotation_angles(config: &ModelConfig, grid: Size) -> Option<Vec<f32>> {
    let quarter = config.head_width / 4;
    let frequencies = |theta: f32| (0..quarter).map(move |i| theta.powf(-(i as f32 / quarter as f32)));
    let (theta, first, unit) = match config.rotary? {
        Rotary::Normalized { theta } => (theta, Axis::Rows, std::f32::consts::TAU),
        Rotary::Axial { theta, first, .. } => (theta, first, 1.0),
        Rotary::Mixed { .. } => return None,
    };
    let mut angles = Vec::with_capacity(grid.area() * 2 * quarter);
    for row in 0..grid.height {
        for column in 0..grid.width {
            let [row, column] = place(config.rotary?, [row, column], grid);
            let order = if first == Axis::Rows { [row, column] } else { [column, row] };
            for at in order {
                angles.extend(frequencies(theta).map(|frequency| unit * at * frequency));
            }
        }
    }
    Some(angles)
}

/// The coordinates of a row and a column.
fn place(rotary: Rotary, at: [usize; 2], grid: Size) -> [f32; 2] {
    let counts = [grid.height, grid.width];
    match rotary {
        // Centers of cells, from −1 to 1 over the image.
        Rotary::Normalized { .. } => std::array::from_fn(|i| 2.0 * ((at[i] as f32 + 0.5) / counts[i] as f32) - 1.0),
        Rotary::Axial { offset, reference, .. } => std::array::from_fn(|i| {
            let place = at[i] as f32 + offset;
            let known = reference.map(|grid| [grid.height, grid.width][i] as f32);
            known.map_or(place, |known| place / counts[i] as f32 * known)
        }),
        Rotary::Mixed { .. } => at.map(|at| at as f32),
    }
}
