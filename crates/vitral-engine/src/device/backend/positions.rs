//! Positions of tokens.

use std::sync::Arc;

use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

/// Positions of tokens: rotary positions, relative positions, grids of positions.
pub(crate) trait Positions {
    /// Turns queries and keys in packed `qkv` `[batch, tokens, 3 · width]`, forwards or back.
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor;
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

/// A linear map of one axis: output `i` is the sum of `weights[i · from + j]` times input `j`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisMatrix {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `[to, from]`.
    pub(crate) weights: Arc<[f32]>,
}
