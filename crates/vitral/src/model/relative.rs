//! Relative position bias: attention scores that depend on the offset between key and query (BEiT).

use vitral_engine::ops::{AxisWeights, Relations};
use vitral_engine::{Context, ParameterId, Tensor};

use crate::config::{ModelConfig, RelativePositions, RelativeResample, Size};

/// The relative positions of the tokens of one grid.
#[derive(Clone)]
pub(super) struct Offsets {
    relations: Relations,
    /// Offsets covered by the model's tables, and those of this grid if they differ.
    held: Size,
    wanted: Option<Size>,
    resample: RelativeResample,
}

impl Offsets {
    /// For a class token and a grid; `None` if the model has no relative positions.
    pub(super) fn new(config: &ModelConfig, grid: Size) -> Option<Self> {
        (config.relative_positions != RelativePositions::None).then(|| Offsets {
            relations: relations(grid),
            held: RelativePositions::offsets(config.grid()),
            wanted: (grid != config.grid()).then(|| RelativePositions::offsets(grid)),
            resample: config.relative_resample,
        })
    }

    /// The bias of every head, query and key, `[heads, tokens, tokens]`: the sum of the tables `[entries, heads]`,
    /// resampled if they were trained on another grid. `None` if there are no tables.
    pub(super) fn bias(&self, cx: &Context<'_>, tables: impl Iterator<Item = ParameterId>) -> Option<Tensor> {
        let table = tables.map(|id| cx.parameter(id)).reduce(|sum, table| cx.add(&sum, &table))?;
        let table = self.wanted.map_or_else(|| table.clone(), |wanted| self.resampled(cx, &table, wanted));
        Some(cx.relation_bias(&table, &self.relations))
    }

    fn resampled(&self, cx: &Context<'_>, table: &Tensor, wanted: Size) -> Tensor {
        let (entries, heads) = (table.extent(0), table.extent(1));
        let area = self.held.area();
        let all = table.reshape([1, entries, heads]);
        let [rows, columns] = self.resample.axes(self.held, wanted);
        let offsets = cx.resample_grid(&cx.tokens(&all, 0, area).reshape([area, heads]), &rows, &columns);
        cx.join_rows(&offsets, &cx.tokens(&all, area, entries - area).reshape([entries - area, heads]))
    }
}

impl RelativeResample {
    /// The resampling weights of both axes, rows first, from one table's offsets to another's.
    pub(crate) fn axes(self, from: Size, to: Size) -> [AxisWeights; 2] {
        let weights = match self {
            RelativeResample::Linear => AxisWeights::linear,
            RelativeResample::Geometric => AxisWeights::geometric,
        };
        [weights(from.height, to.height), weights(from.width, to.width)]
    }
}

fn relations(grid: Size) -> Relations {
    Relations::new(1 + grid.area(), RelativePositions::entries(grid), relation_entries(grid))
}

/// The table entry of each pair of tokens, queries before keys: the class token, then patches row by row.
pub(crate) fn relation_entries(grid: Size) -> Vec<u32> {
    let offsets = RelativePositions::offsets(grid);
    let entries = RelativePositions::entries(grid);
    let place = |token: usize| token.checked_sub(1).map(|patch| (patch / grid.width, patch % grid.width));
    let tokens = 1 + grid.area();
    let entry = |query: usize, key: usize| match (place(query), place(key)) {
        (Some(query), Some(key)) => {
            (query.0 + grid.height - 1 - key.0) * offsets.width + query.1 + grid.width - 1 - key.1
        }
        (None, Some(_)) => entries - 3,
        (Some(_), None) => entries - 2,
        (None, None) => entries - 1,
    };
    (0..tokens * tokens).map(|pair| entry(pair / tokens, pair % tokens) as u32).collect()
}
