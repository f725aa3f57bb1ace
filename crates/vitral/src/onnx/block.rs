//! One encoder block: attention and MLP with residual connections.

use super::attention::BlockContext;
use super::graph::{Graph, Value};
use crate::config::{BlockKind, MlpKind};

impl Graph<'_> {
    /// Block `index`: `[batch, tokens, width]` to the same shape, or to only the tokens that are used.
    pub(super) fn block(&mut self, index: usize, all: &Value, context: BlockContext) -> Value {
        let block = format!("blocks.{index}");
        let at = |part: &str| format!("{block}.{part}");
        let x = match context.tokens_read {
            Some(read) => self.tokens(&at("tokens_read"), all, 0, read),
            None => all.clone(),
        };
        let attention = at("attention");
        match self.config().block {
            BlockKind::PreNorm => {
                let normed = self.norm(&at("norm1"), all);
                let y = self.attention(&attention, &normed, context);
                let y = self.scaled(&at("scale1"), &y);
                let x = self.add(&at("attention.residual"), &x, &y);
                let normed = self.norm(&at("norm2"), &x);
                let y = self.mlp(&at("mlp"), &normed, self.config().mlp_width);
                let y = self.scaled(&at("scale2"), &y);
                self.add(&at("output"), &x, &y)
            }
            BlockKind::PostNorm => {
                let y = self.attention(&attention, all, context);
                let y = self.scaled(&at("scale1"), &y);
                let y = self.add(&at("attention.residual"), &x, &y);
                let x = self.norm(&at("norm1"), &y);
                let y = self.mlp(&at("mlp"), &x, self.config().mlp_width);
                let y = self.scaled(&at("scale2"), &y);
                let y = self.add(&at("mlp.residual"), &x, &y);
                self.norm(&at("norm2"), &y)
            }
            BlockKind::ResidualPostNorm => {
                let y = self.attention(&attention, all, context);
                let y = self.norm(&at("norm1"), &y);
                let x = self.add(&at("attention.residual"), &x, &y);
                let y = self.mlp(&at("mlp"), &x, self.config().mlp_width);
                let y = self.norm(&at("norm2"), &y);
                self.add(&at("output"), &x, &y)
            }
            BlockKind::ParallelScaling => {
                let normed = self.norm(&at("norm1"), all);
                let y = self.attention(&attention, &normed, context);
                let read = match context.tokens_read {
                    Some(read) => self.tokens(&at("mlp.tokens_read"), &normed, 0, read),
                    None => normed,
                };
                let z = self.mlp(&at("mlp"), &read, self.config().mlp_width);
                let sum = self.add(&at("sum"), &y, &z);
                let sum = self.scaled(&at("scale1"), &sum);
                self.add(&at("output"), &x, &sum)
            }
            BlockKind::ParallelPairs => {
                let mut sum = x;
                for pair in 0..2 {
                    let at = |part: &str| format!("{block}.pairs.{pair}.{part}");
                    let normed = self.norm(&at("norm1"), all);
                    let y = self.attention(&at("attention"), &normed, context);
                    let y = self.scaled(&at("scale1"), &y);
                    sum = self.add(&at("attention.residual"), &sum, &y);
                }
                let x = sum.clone();
                for pair in 0..2 {
                    let at = |part: &str| format!("{block}.pairs.{pair}.{part}");
                    let normed = self.norm(&at("norm2"), &x);
                    let y = self.mlp(&at("mlp"), &normed, self.config().mlp_width);
                    let y = self.scaled(&at("scale2"), &y);
                    sum = self.add(&at("mlp.residual"), &sum, &y);
                }
                sum
            }
        }
    }

    /// The MLP at a place, with a hidden layer of this width: `down(norm(activation(up(x))))`.
    pub(super) fn mlp(&mut self, place: &str, x: &Value, width: usize) -> Value {
        let config = self.config();
        let at = |part: &str| format!("{place}.{part}");
        let up = self.linear(&at("up"), x);
        let hidden = match config.mlp {
            MlpKind::Plain => self.activation(&at("activation"), &up, config.activation),
            MlpKind::Gated => {
                let [gate, value] = self.split(&at("parts"), &up, [("gate", width), ("value", width)]);
                let gate = self.activation(&at("activation"), &gate, config.activation);
                self.multiply(&at("gated"), &gate, &value)
            }
        };
        let hidden = self.norm_if(config.mlp_norm, &at("norm"), &hidden);
        self.linear(&at("down"), &hidden)
    }
}
