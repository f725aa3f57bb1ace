//! Positions of tokens.

use std::sync::Arc;

use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// Positions of tokens: rotary positions, relative positions, grids of positions.
pub(crate) trait Positions {
    /// Turns queries and keys in packed `qkv` `[batch, tokens, 3 · width]`, forwards or back.
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor;
    /// As [`Positions::rotate`], by angles that are frequencies times places: `frequencies` is `[2, heads · pairs]`, those of
    /// the first axis and of the second.
    fn rotate_by(&self, qkv: &Tensor, frequencies: ParameterView<'_>, places: GridPlaces, back: bool) -> Tensor;
    /// The gradient of the frequencies, `[1, 2 · heads · pairs]`, from what [`Positions::rotate_by`] gave.
    fn rotate_by_backward(&self, turned: &Tensor, grad: &Tensor, places: GridPlaces) -> Tensor;
    /// Adds biases to queries and values in packed `qkv`; keys have none.
    fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterView<'_>, value: ParameterView<'_>) -> Tensor;
    /// `[heads, tokens, tokens]` from a table `[entries, heads]` by the entry of every pair.
    fn relation_bias(&self, table: &Tensor, tokens: usize, indices: &Arc<[u32]>) -> Tensor;
    /// The gradient of the table.
    fn relation_bias_backward(&self, grad: &Tensor, entries: usize, indices: &Arc<[u32]>) -> Tensor;
    /// Resamples grids `[grids, rows · columns, width]` along both axes; transposed for gradients.
    fn resample(&self, grid: &Tensor, axes: [&AxisMatrix; 2], transposed: bool) -> Tensor;
}

/// By how much each token turns, for every pair of channels of a head.
#[derive(Clone, Debug)]
pub(crate) struct RotationTable {
    /// Tokens before the first that turns.
    pub(crate) prefix: usize,
    /// Pairs in a head.
    pub(crate) pairs: usize,
    /// `[tokens, pairs]`.
    pub(crate) cosines: Arc<[f32]>,
    /// `[tokens, pairs]`.
    pub(crate) sines: Arc<[f32]>,
}

impl RotationTable {
    /// Tokens that turn.
    pub(crate) fn tokens(&self) -> usize {
        self.cosines.len() / self.pairs
    }
}

/// Where the tokens are that turn by frequencies: row by row on a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GridPlaces {
    /// Tokens before the first that turns.
    pub(crate) prefix: usize,
    /// Pairs in a head.
    pub(crate) pairs: usize,
    /// Rows and columns.
    pub(crate) grid: [usize; 2],
    /// Whether the first frequencies are those of rows.
    pub(crate) rows_first: bool,
}

impl GridPlaces {
    /// A token's places along the axes of the first frequencies and the second.
    pub(crate) fn of(&self, token: usize) -> [usize; 2] {
        let (row, column) = (token / self.grid[1], token % self.grid[1]);
        if self.rows_first { [row, column] } else { [column, row] }
    }
}

/// A linear map of one axis: output `i` is the sum of `weights[i · from + j]` times input `j`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisMatrix {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `[to, from]`.
    pub(crate) weights: Arc<[f32]>,
}
