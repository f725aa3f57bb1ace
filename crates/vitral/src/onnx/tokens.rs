//! From patch embeddings to the input of the first block.

use super::graph::{Graph, Value};
use super::initializer::Weights;
use crate::config::{ModelConfig, OtherSizes, Positions, Size};
use crate::model::sin_cos_2d;
use crate::weights::WeightsError;
use crate::weights::resample::resample_positions;

impl Graph<'_> {
    /// `[batch, patches, width]` to `[batch, tokens, width]`, in the order class, distillation, registers, patches.
    ///
    /// Room is made for prefix tokens, and one table is added that holds them and all positions: nothing in the graph
    /// depends on the number of images.
    pub(super) fn prefixed(&mut self, patches: &Value, grid: Size) -> Value {
        let config = self.config();
        let (prefix, tokens) = (config.prefix_tokens(), config.prefix_tokens() + grid.area());
        let mut x = patches.clone();
        if prefix > 0 {
            let pads = self.integers(&[0, prefix as i64, 0, 0, 0, 0]);
            x = self.node("Pad", "tokens.room", &[&x, &pads], vec![]);
        }
        let positions = config.learned_positions().map(|_| self.spec("positions"));
        if prefix > 0 || positions.is_some() || config.positions == Positions::SinCos2d {
            let parts = Prefix::of(config);
            for name in parts.names() {
                self.spec(name);
            }
            let config = config.clone();
            let table = self.calculated("tokens.table", &[tokens, config.width], move |weights| {
                table(&config, &parts, grid, weights)
            });
            x = self.add("tokens", &x, &table);
        }
        self.norm_if(config.pre_norm, "pre_norm", &x)
    }
}

/// The parameters of prefix tokens, in order.
struct Prefix {
    /// Those that positions count.
    leading: Vec<&'static str>,
    registers: Option<&'static str>,
}

impl Prefix {
    fn of(config: &ModelConfig) -> Self {
        let class = config.class_token.then_some("tokens.class");
        let distillation = config.distillation_token.then_some("tokens.distillation");
        Prefix {
            leading: class.into_iter().chain(distillation).collect(),
            registers: (config.registers > 0).then_some("tokens.registers"),
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.leading.iter().copied().chain(self.registers)
    }
}

/// What every token has before the first block, without what comes of the pixels: `[tokens, width]`.
fn table(
    config: &ModelConfig,
    parts: &Prefix,
    grid: Size,
    weights: &Weights<'_, '_>,
) -> Result<Vec<f32>, WeightsError> {
    let mut table = Vec::new();
    for name in parts.names() {
        table.extend_from_slice(&weights.values(name)?);
    }
    let (prefix, width) = (table.len(), config.width);
    table.resize(prefix + grid.area() * width, 0.0);
    let positions = match config.positions {
        Positions::None => return Ok(table),
        Positions::SinCos2d => sin_cos_2d(grid, width),
        Positions::LearnedAll | Positions::LearnedPatches | Positions::LearnedWithoutRegisters => {
            learned(config, grid, weights)?
        }
    };
    let (of_prefix, of_patches) = positions.split_at(positions.len() - grid.area() * width);
    // Positions of prefix tokens are those of the first: registers that have none come last.
    for (sum, position) in table.iter_mut().zip(of_prefix) {
        *sum += position;
    }
    table[prefix..].copy_from_slice(of_patches);
    Ok(table)
}

/// Learned positions, resampled if the grid is not the one they were learned on.
fn learned(config: &ModelConfig, grid: Size, weights: &Weights<'_, '_>) -> Result<Vec<f32>, WeightsError> {
    let (own, width) = (config.grid(), config.width);
    let values = weights.values("positions")?;
    match config.other_sizes {
        OtherSizes::Resample { kernel, .. } if grid != own => {
            let prefix = values.len() / width - own.area();
            Ok(resample_positions(&values, prefix, own, grid, width, kernel))
        }
        _ => Ok(values.into_owned()),
    }
}
