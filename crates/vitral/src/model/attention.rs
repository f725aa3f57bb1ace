//! Multi-head self-attention with its projections.

use vitral_engine::ops::{Attention, Epilogue, Linear, Norm};
use vitral_engine::{Context, ParameterId, Tensor};

use super::build::Builder;
use super::relative::Offsets;
use super::rotary::Turns;
use crate::config::{RelativePositions, Rotary};

/// What the attention of every block is given.
#[derive(Clone, Copy, Default)]
pub(super) struct BlockContext<'a> {
    /// Added to the attention scores of each key.
    pub(super) key_mask: Option<&'a Tensor>,
    /// Added to all attention scores, `[heads, tokens, tokens]`; only for models without relative positions.
    pub(super) score_bias: Option<&'a Tensor>,
    /// How queries and keys are rotated.
    pub(super) rotation: Option<&'a Turns>,
    /// Relative positions of the tokens, if scores depend on them.
    pub(super) offsets: Option<&'a Offsets>,
    /// The table of relative positions that all blocks share.
    pub(super) shared_table: Option<ParameterId>,
    /// How many tokens of the block's output are used, counted from the first; `None` for all.
    pub(super) tokens_read: Option<usize>,
}

pub(super) struct SelfAttention {
    qkv: Linear,
    /// Biases of queries and values, if keys have none.
    query_value_bias: Option<(ParameterId, ParameterId)>,
    query_key_norms: Option<(Norm, Norm)>,
    /// Learned frequencies of rotary positions, `[2, heads · head width / 2]`: of the first axis and of the second.
    frequencies: Option<ParameterId>,
    /// The block's own table of relative positions, `[entries, heads]`.
    table: Option<ParameterId>,
    norm: Option<Norm>,
    projection: Option<Linear>,
    heads: usize,
    scale: f32,
    dropout: f32,
    hidden_dropout: f32,
}

impl SelfAttention {
    pub(super) fn new(place: &mut Builder<'_>) -> Self {
        let config = place.config;
        let inner = config.attention_width();
        let norms = config
            .qk_norm
            .then(|| (place.norm("query_norm", config.head_width), place.norm("key_norm", config.head_width)));
        let entries = RelativePositions::entries(config.grid());
        let partial = config.qkv_bias && !config.key_bias;
        SelfAttention {
            qkv: place.linear("qkv", config.width, 3 * inner, config.qkv_bias && config.key_bias),
            query_value_bias: partial
                .then(|| (place.at("query").plain("bias", &[inner]), place.at("value").plain("bias", &[inner]))),
            query_key_norms: norms,
            frequencies: config
                .rotary
                .is_some_and(Rotary::is_learned)
                .then(|| place.plain("frequencies", &[2, inner / 2])),
            table: config
                .relative_positions
                .in_blocks()
                .then(|| place.plain("relative_positions", &[entries, config.heads])),
            norm: config.attention_norm.then(|| place.norm("norm", inner)),
            projection: config
                .attention_projection
                .then(|| place.linear("projection", inner, config.width, config.projection_bias)),
            heads: config.heads,
            scale: config.attention_scale(),
            dropout: config.drop.attention,
            hidden_dropout: config.drop.hidden,
        }
    }

    /// Attention of `norm(x)`, `[batch, tokens, width]`, its projection and what follows it, for the tokens that are
    /// used. `place` names the block.
    pub(super) fn forward(
        &self,
        cx: &Context<'_>,
        x: &Tensor,
        norm: Option<&Norm>,
        context: BlockContext<'_>,
        place: impl Fn() -> String,
        epilogue: Epilogue<'_>,
    ) -> Tensor {
        let input = || format!("{}.attention.input", place());
        let mut qkv = cx.stage("qkv", || match norm {
            // The norm gives the same bits fused or not.
            Some(norm) if cx.is_observed() && cx.wants(&input()) => {
                let x = cx.norm(x, norm);
                cx.name(&x, input);
                cx.qkv(&x, None, self.qkv, context.tokens_read)
            }
            _ => {
                cx.name(x, input);
                cx.qkv(x, norm, self.qkv, context.tokens_read)
            }
        });
        if let Some((query, value)) = self.query_value_bias {
            qkv = cx.add_query_value_bias(&qkv, query, value);
        }
        if let Some((query, key)) = &self.query_key_norms {
            qkv = cx.norm_queries_and_keys(&qkv, self.heads, query, key);
        }
        if let Some(rotation) = context.rotation {
            qkv = cx.stage("rotation", || rotation.apply(cx, &qkv, self.frequencies));
        }
        let tables = self.table.into_iter().chain(context.shared_table);
        let bias = context.offsets.and_then(|offsets| cx.stage("relative_positions", || offsets.bias(cx, tables)));
        let weights = || format!("{}.attention.weights", place());
        let capture = cx.is_observed() && cx.wants(&weights());
        let call = Attention {
            heads: self.heads,
            scale: self.scale,
            key_mask: context.key_mask,
            bias: bias.as_ref().or(context.score_bias),
            dropout: self.dropout,
            queries: context.tokens_read,
            capture,
        };
        let attended = cx.stage("attention", || cx.attention(&qkv, call));
        if let Some(values) = &attended.weights {
            cx.name(values, weights);
        }
        let epilogue = Epilogue { dropout: self.hidden_dropout, ..epilogue };
        match self.projection {
            Some(projection) => {
                cx.stage("projection", || cx.linear_with(&attended.output, self.norm.as_ref(), projection, epilogue))
            }
            None => {
                let x =
                    self.norm.as_ref().map_or_else(|| attended.output.clone(), |norm| cx.norm(&attended.output, norm));
                cx.epilogue(&x, epilogue)
            }
        }
    }
}
