//! From tokens to features and logits.

use super::graph::{Graph, Value};
use crate::config::{Head, Pooling};

/// What a model gives.
pub(super) struct Outputs {
    pub(super) features: Value,
    pub(super) logits: Option<Value>,
}

impl Graph<'_> {
    /// The final norm, the pooling and the head, of `[batch, tokens, width]`.
    pub(super) fn read_out(&mut self, x: &Value) -> Outputs {
        let config = self.config();
        if config.pooling == Pooling::Class && config.distillation_head {
            return self.read_out_both(x);
        }
        let pooled = self.pooled(x);
        let features = self.features("", &pooled);
        let logits = (config.classes > 0).then(|| self.classified(&features));
        Outputs { features, logits }
    }

    /// The classifier.
    fn classified(&mut self, x: &Value) -> Value {
        match self.config().head {
            Head::Linear => self.linear("head", x),
            Head::Mlp { activation, .. } => {
                let up = self.linear("head.up", x);
                let hidden = self.activation("head.activation", &up, activation);
                self.linear("head.down", &hidden)
            }
            Head::Cosine { space } => {
                let x = space.map_or_else(|| x.clone(), |_| self.linear("head.projection", x));
                let width = self.spec("head.norm.weight").count();
                let weight = self.vector("head.norm.weight", &[width]);
                let x = self.rms_normalization("head.norm", &x, &weight, 0.0);
                self.linear("head", &x)
            }
        }
    }

    /// DeiT's two heads: logits and features are means.
    fn read_out_both(&mut self, x: &Value) -> Outputs {
        let config = self.config();
        let features = ["class", "distillation"].into_iter().enumerate().map(|(index, name)| {
            let token = self.token(&format!("pool.{name}"), x, index);
            let token = match config.final_norm {
                true => self.norm_as(&format!("norm.{name}"), "norm", &token),
                false => token,
            };
            self.features(&format!(".{name}"), &token)
        });
        let features: Vec<Value> = features.collect();
        let logits = (config.classes > 0).then(|| {
            let class = self.classified(&features[0]);
            let distilled = self.linear("distillation_head", &features[1]);
            self.mean_of_both("head.mean", &class, &distilled)
        });
        Outputs { features: self.mean_of_both("pool.mean", &features[0], &features[1]), logits }
    }

    /// The final norm and the pooling, in the order that computes least.
    fn pooled(&mut self, x: &Value) -> Value {
        let config = self.config();
        let (tokens, prefix) = (self.shape(x).at(1), config.prefix_tokens());
        let first = if config.pool_prefix { 0 } else { prefix };
        if config.pooling == Pooling::Class {
            let class = self.token("pool.class", x, 0);
            return self.norm_if(config.final_norm, "norm", &class);
        }
        let from = |graph: &mut Self, x: &Value, first: usize| {
            let label = if first == 0 { "pool.tokens" } else { "pool.patches" };
            graph.tokens(label, x, first, tokens - first)
        };
        if config.pooling == Pooling::Attention {
            let x = from(self, x, first);
            let x = self.norm_if(config.final_norm, "norm", &x);
            return self.attention_pool(&x);
        }
        let x = self.norm_if(config.final_norm, "norm", x);
        match config.pooling {
            Pooling::Mean | Pooling::MeanAll => {
                let x = from(self, &x, if config.pooling == Pooling::Mean { prefix } else { 0 });
                self.reduce("ReduceMean", "pool.mean", &x, 1, false)
            }
            Pooling::Max => {
                let x = from(self, &x, first);
                self.reduce("ReduceMax", "pool.max", &x, 1, false)
            }
            Pooling::AverageMax => {
                let x = from(self, &x, first);
                let mean = self.reduce("ReduceMean", "pool.mean", &x, 1, false);
                let max = self.reduce("ReduceMax", "pool.max", &x, 1, false);
                self.mean_of_both("pool.average", &mean, &max)
            }
            Pooling::ClassAndMean => {
                let class = self.token("pool.class", &x, 0);
                let patches = from(self, &x, prefix);
                let mean = self.reduce("ReduceMean", "pool.mean", &patches, 1, false);
                self.concatenate("pool.both", &[&class, &mean], -1)
            }
            Pooling::None | Pooling::Class | Pooling::Attention => x,
        }
    }

    /// The norm after pooling and the pre-logits; `suffix` tells two tokens apart.
    fn features(&mut self, suffix: &str, x: &Value) -> Value {
        let config = self.config();
        let x = match config.pooled_norm {
            true => self.norm_as(&format!("pooled_norm{suffix}"), "pooled_norm", x),
            false => x.clone(),
        };
        match config.pre_logits {
            None => x,
            Some(_) => {
                let linear = self.linear_as(&format!("pre_logits{suffix}"), "pre_logits", &x);
                self.activation(&format!("pre_logits{suffix}.activation"), &linear, config.pre_logits_activation)
            }
        }
    }

    /// Attention with one learned probe, then an MLP with a residual connection: `[batch, tokens, width]` to
    /// `[batch, width]`.
    fn attention_pool(&mut self, x: &Value) -> Value {
        let (heads, width) = (self.config().heads_of_pool(), self.config().width);
        let each = width / heads;
        // The query is the same for all images: it is calculated here, with the scale.
        for name in ["pool.probe", "pool.query.weight", "pool.query.bias"] {
            self.spec(name);
        }
        let query = self.calculated("pool.query", &[1, heads, 1, each], move |weights| {
            let (probe, matrix) = (weights.values("pool.probe")?, weights.values("pool.query.weight")?);
            let bias = weights.values("pool.query.bias")?;
            let scale = f64::from((each as f32).powf(-0.5));
            let row = |(row, &bias): (&[f32], &f32)| {
                let products = row.iter().zip(probe.iter()).map(|(&a, &b)| f64::from(a) * f64::from(b));
                ((products.sum::<f64>() + f64::from(bias)) * scale) as f32
            };
            Ok(matrix.chunks_exact(width).zip(bias.iter()).map(row).collect())
        });
        let both = self.linear("pool.key_value", x);
        let [key, value] = self.split("pool.parts", &both, [("key", width), ("value", width)]);
        let key = self.reshape("pool.key.split", &key, &[0, 0, heads, each]);
        let key = self.transpose("pool.key.transposed", &key, &[0, 2, 3, 1]);
        let value = self.reshape("pool.value.split", &value, &[0, 0, heads, each]);
        let value = self.transpose("pool.value.heads", &value, &[0, 2, 1, 3]);
        let scores = self.product("pool.scores", &query, &key);
        let weights = self.softmax("pool.weights", &scores);
        let mixed = self.product("pool.mixed", &weights, &value);
        let mixed = self.reshape("pool.mixed.joined", &mixed, &[0, width]);
        let x = self.linear("pool.projection", &mixed);
        let normed = self.norm("pool.norm", &x);
        let hidden = self.config().mlp_width_of_pool();
        let y = self.mlp("pool.mlp", &normed, hidden);
        self.add("pool.output", &x, &y)
    }
}
