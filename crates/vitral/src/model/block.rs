//! One encoder block: attention and MLP with residual connections.

use vitral_engine::ops::{Epilogue, Norm};
use vitral_engine::{Context, ParameterId, Tensor};

use super::attention::{BlockContext, SelfAttention};
use super::build::Builder;
use super::mlp::Mlp;
use crate::config::BlockKind;

/// The parts of which every kind of block is made.
struct Parts {
    norm1: Norm,
    attention: SelfAttention,
    scale1: Option<ParameterId>,
    /// Absent if one norm serves both.
    norm2: Option<Norm>,
    mlp: Mlp,
    scale2: Option<ParameterId>,
}

pub(super) struct Block {
    name: String,
    kind: BlockKind,
    parts: Vec<Parts>,
    drop_path: f32,
}

impl Block {
    pub(super) fn new(builder: &mut Builder<'_>, index: usize) -> Self {
        let config = builder.config;
        let mut place = builder.at(format_args!("blocks.{index}"));
        let parts = match config.block {
            BlockKind::ParallelPairs => {
                (0..2).map(|pair| Parts::new(&mut place.at(format_args!("pairs.{pair}")), true)).collect()
            }
            kind => vec![Parts::new(&mut place, kind != BlockKind::ParallelScaling)],
        };
        // Stochastic depth grows linearly with depth, from 0 in the first block.
        let drop_path = config.drop.path * index as f32 / (config.depth.max(2) - 1) as f32;
        Block { name: format!("blocks.{index}"), kind: config.block, parts, drop_path }
    }

    /// The epilogue of a branch's last linear map: its output `y` becomes `x + drop_path(scale · y)`.
    fn added_to<'a>(&self, x: &'a Tensor, scale: Option<ParameterId>) -> Epilogue<'a> {
        Epilogue { scale, drop_path: self.drop_path, residual: Some(x), ..Epilogue::default() }
    }

    /// `[batch, tokens, width]` to the same shape, or to only the tokens that are used: keys and values cover all
    /// tokens, the rest is computed for those alone.
    pub(super) fn forward(&self, cx: &Context<'_>, all: &Tensor, context: BlockContext<'_>) -> Tensor {
        let part = &self.parts[0];
        let place = || self.name.clone();
        // Keys and values come from `all`; `x` are the tokens that are used after this block.
        let x = &context.tokens_read.map_or_else(|| all.clone(), |read| cx.tokens(all, 0, read));
        let x = match self.kind {
            BlockKind::PreNorm => {
                let epilogue = self.added_to(x, part.scale1);
                let x = part.attention.forward(cx, all, Some(&part.norm1), context, place, epilogue);
                part.mlp.forward(cx, &x, part.norm2.as_ref(), self.added_to(&x, part.scale2))
            }
            BlockKind::PostNorm => {
                let y = part.attention.forward(cx, all, None, context, place, self.added_to(x, part.scale1));
                let x = cx.norm(&y, &part.norm1);
                let y = part.mlp.forward(cx, &x, None, self.added_to(&x, part.scale2));
                part.normed(cx, &y)
            }
            BlockKind::ResidualPostNorm => {
                let y = part.attention.forward(cx, all, None, context, place, Epilogue::default());
                let x = cx.add(x, &cx.drop_path(&cx.norm(&y, &part.norm1), self.drop_path));
                let y = part.mlp.forward(cx, &x, None, Epilogue::default());
                cx.add(&x, &cx.drop_path(&part.normed(cx, &y), self.drop_path))
            }
            BlockKind::ParallelScaling => {
                let y = part.attention.forward(cx, all, Some(&part.norm1), context, place, Epilogue::default());
                let both = Epilogue { residual: Some(&y), ..Epilogue::default() };
                let mut y = part.mlp.forward(cx, x, Some(&part.norm1), both);
                if let Some(scale) = part.scale1 {
                    y = cx.layer_scale(&y, scale);
                }
                cx.add(x, &cx.drop_path(&y, self.drop_path))
            }
            BlockKind::ParallelPairs => {
                let mut sum = x.clone();
                for (pair, part) in self.parts.iter().enumerate() {
                    let place = || format!("{}.pairs.{pair}", self.name);
                    let epilogue = self.added_to(&sum, part.scale1);
                    sum = part.attention.forward(cx, all, Some(&part.norm1), context, place, epilogue);
                }
                let x = sum;
                let mut sum = x.clone();
                for part in &self.parts {
                    sum = part.mlp.forward(cx, &x, part.norm2.as_ref(), self.added_to(&sum, part.scale2));
                }
                sum
            }
        };
        cx.name(&x, || format!("{}.output", self.name));
        x
    }
}

impl Parts {
    fn new(place: &mut Builder<'_>, own_mlp_norm: bool) -> Self {
        let (width, hidden) = (place.config.width, place.config.mlp_width);
        Parts {
            norm1: place.norm("norm1", width),
            attention: SelfAttention::new(&mut place.at("attention")),
            scale1: place.scale("scale1"),
            norm2: own_mlp_norm.then(|| place.norm("norm2", width)),
            mlp: Mlp::new(&mut place.at("mlp"), width, hidden),
            scale2: if own_mlp_norm { place.scale("scale2") } else { None },
        }
    }

    fn normed(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        cx.norm(x, self.norm2.as_ref().expect("a block with a norm after its MLP has that norm"))
    }
}
