//! From patch embeddings to the input of the first block: positions, class and other prefix tokens, dropout, and CLIP's
//! norm before the first block.

use vitral_engine::ops::{AxisWeights, Norm};
use vitral_engine::{Context, ParameterId, Tensor};

use super::build::Builder;
use crate::config::{ModelConfig, OtherSizes, PositionResample, Positions, Size};

pub(super) struct Tokens {
    class: Option<ParameterId>,
    distillation: Option<ParameterId>,
    registers: Option<ParameterId>,
    positions: Option<ParameterId>,
    /// Sine-cosine positions at the configured grid.
    fixed: Option<Vec<f32>>,
    pre_norm: Option<Norm>,
}

impl Tokens {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let config = builder.config;
        let width = config.width;
        let mut place = builder.at("tokens");
        let class = config.class_token.then(|| place.plain("class", &[width]));
        let distillation = config.distillation_token.then(|| place.plain("distillation", &[width]));
        let registers = (config.registers > 0).then(|| place.plain("registers", &[config.registers, width]));
        let positions = config.learned_positions().map(|count| builder.plain("positions", &[count, width]));
        let fixed = (config.positions == Positions::SinCos2d).then(|| sin_cos_2d(config.grid(), width));
        let pre_norm = config.pre_norm.then(|| builder.norm("pre_norm", width));
        Tokens { class, distillation, registers, positions, fixed, pre_norm }
    }

    /// `[batch, patches, width]` to `[batch, tokens, width]`, in the order class, distillation, registers, patches.
    pub(super) fn forward(&self, cx: &Context<'_>, config: &ModelConfig, patches: &Tensor, grid: Size) -> Tensor {
        let leading: Vec<ParameterId> = [self.class, self.distillation].into_iter().flatten().collect();
        let prefix: Vec<ParameterId> = leading.iter().copied().chain(self.registers).collect();
        let mut x = match config.positions {
            Positions::None => cx.prepend_tokens(patches, &prefix),
            Positions::LearnedAll => {
                let x = cx.prepend_tokens(patches, &prefix);
                cx.add_positions(&x, &self.positions(cx, config, grid))
            }
            Positions::LearnedPatches | Positions::SinCos2d => {
                let x = cx.add_positions(patches, &self.positions(cx, config, grid));
                cx.prepend_tokens(&x, &prefix)
            }
            Positions::LearnedWithoutRegisters => {
                let x = cx.prepend_tokens(patches, &leading);
                let x = cx.add_positions(&x, &self.positions(cx, config, grid));
                self.insert_registers(cx, &x, leading.len())
            }
        };
        x = cx.dropout(&x, config.drop.positions);
        x = cx.drop_tokens(&x, config.prefix_tokens(), config.drop.patches);
        self.pre_norm.as_ref().map_or_else(|| x.clone(), |norm| cx.norm(&x, norm))
    }

    /// Inserts registers between the leading tokens and the patches.
    fn insert_registers(&self, cx: &Context<'_>, x: &Tensor, leading: usize) -> Tensor {
        let Some(registers) = self.registers else { return x.clone() };
        let with = cx.prepend_tokens(x, &[registers]);
        let [batch, tokens, _] = with.shape()[..] else { unreachable!("tokens") };
        let count = tokens - x.extent(1);
        let order = (count..count + leading).chain(0..count).chain(count + leading..tokens);
        let order: Vec<usize> = order.collect();
        cx.keep_tokens(&with, order.repeat(batch), tokens)
    }

    /// Positions for this grid, resampled if it differs from the configured one. Those of prefix tokens are kept.
    fn positions(&self, cx: &Context<'_>, config: &ModelConfig, grid: Size) -> Tensor {
        let own = config.grid();
        let Some(learned) = self.positions else {
            let values = match &self.fixed {
                Some(fixed) if grid == own => fixed,
                _ => &sin_cos_2d(grid, config.width),
            };
            return cx.device().constant([grid.area(), config.width], values);
        };
        let positions = cx.parameter(learned);
        if grid == own {
            return positions;
        }
        let OtherSizes::Resample { kernel, .. } = config.other_sizes else {
            unreachable!("another size was rejected before")
        };
        let prefix = positions.extent(0) - own.area();
        let all = positions.reshape([1, positions.extent(0), config.width]);
        let patches = cx.tokens(&all, prefix, own.area()).reshape([own.area(), config.width]);
        let [rows, columns] = kernel.axes(own, grid);
        let patches = cx.resample_grid(&patches, &rows, &columns);
        if prefix == 0 {
            return patches;
        }
        let leading = cx.tokens(&all, 0, prefix);
        cx.join_rows(&leading.reshape([prefix, config.width]), &patches)
    }
}

impl PositionResample {
    /// The resampling weights of both axes, rows first, from one grid to another.
    pub(crate) fn axes(self, from: Size, to: Size) -> [AxisWeights; 2] {
        let weights = match self {
            PositionResample::BicubicAntialiasInSquare => {
                let side = to.height.max(to.width);
                let axis = |from, to| AxisWeights::bicubic_antialias(from, side).first(to);
                return [axis(from.height, to.height), axis(from.width, to.width)];
            }
            PositionResample::BicubicAntialias => AxisWeights::bicubic_antialias,
            PositionResample::LinearAntialias => AxisWeights::linear_antialias,
            PositionResample::Bicubic => AxisWeights::bicubic,
            PositionResample::BicubicOffset => |from, to| AxisWeights::bicubic_as_if(from, to, to as f64 + 0.1),
            PositionResample::LinearAligned => AxisWeights::linear_aligned,
        };
        [weights(from.height, to.height), weights(from.width, to.width)]
    }
}

/// Sine-cosine positions `[rows · columns, width]` as in big_vision and lucidrains' SimpleViT: sine and cosine of the
/// column, then of the row, at frequencies from 1 down to 1/10,000.
pub(crate) fn sin_cos_2d(grid: Size, width: usize) -> Vec<f32> {
    sines_and_cosines(grid, width, ((width / 4).max(2) - 1) as f64)
}

/// Positions as [`sin_cos_2d`], at frequencies from 1 down to 1/10,000 without the last, as in MAE (arXiv:2111.06377).
pub(super) fn sin_cos_2d_of_mae(grid: Size, width: usize) -> Vec<f32> {
    sines_and_cosines(grid, width, (width / 4) as f64)
}

fn sines_and_cosines(grid: Size, width: usize, steps: f64) -> Vec<f32> {
    let quarter = width / 4;
    let frequency = |i: usize| 1.0 / 10_000f64.powf(i as f64 / steps);
    let mut positions = Vec::with_capacity(grid.area() * width);
    for row in 0..grid.height {
        for column in 0..grid.width {
            for at in [column, row] {
                let angle = |i: usize| at as f64 * frequency(i);
                positions.extend((0..quarter).map(|i| angle(i).sin() as f32));
                positions.extend((0..quarter).map(|i| angle(i).cos() as f32));
            }
        }
    }
    positions
}

impl ModelConfig {
    /// The number of learned positions, if there are any.
    pub fn learned_positions(&self) -> Option<usize> {
        match self.positions {
            Positions::None | Positions::SinCos2d => None,
            Positions::LearnedAll => Some(self.tokens()),
            Positions::LearnedPatches => Some(self.grid().area()),
            Positions::LearnedWithoutRegisters => Some(self.tokens() - self.registers),
        }
    }
}
