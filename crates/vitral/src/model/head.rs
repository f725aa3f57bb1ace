//! From tokens to features and logits.

use vitral_engine::ops::{Epilogue, Linear, Norm, NormKind};
use vitral_engine::{Activation, Context, ParameterId, Tensor};

use super::build::Builder;
use super::mlp::Mlp;
use super::output::Output;
use crate::config::{self, ModelConfig, Pooling};

/// The result of pooling: one feature vector, or those of the class and the distillation token.
pub(super) enum Pooled {
    One(Tensor),
    Two(Tensor, Tensor),
}

enum Classifier {
    Linear(Linear),
    Mlp { up: Linear, activation: Activation, down: Linear },
    Cosine { projection: Option<Linear>, norm: Norm, classes: Linear },
}

pub(super) struct Head {
    attention_pool: Option<AttentionPool>,
    pooled_norm: Option<Norm>,
    pre_logits: Option<Linear>,
    classifier: Option<Classifier>,
    distillation: Option<Linear>,
}

impl Head {
    pub(super) fn new(builder: &mut Builder<'_>) -> Self {
        let config = builder.config;
        let attention_pool =
            (config.pooling == Pooling::Attention).then(|| AttentionPool::new(&mut builder.at("pool")));
        let pooled = if config.pooling == Pooling::ClassAndMean { 2 * config.width } else { config.width };
        let pooled_norm = config.pooled_norm.then(|| builder.norm("pooled_norm", pooled));
        let pre_logits = config.pre_logits.map(|width| builder.linear("pre_logits", pooled, width, true));
        let features = config.feature_width();
        let classifier = (config.classes > 0).then(|| match config.head {
            config::Head::Linear => {
                Classifier::Linear(builder.linear("head", features, config.classes, config.head_bias))
            }
            config::Head::Mlp { width, activation } => {
                let mut place = builder.at("head");
                Classifier::Mlp {
                    up: place.linear("up", features, width, config.head_bias),
                    activation: activation.into(),
                    down: place.linear("down", width, config.classes, config.head_bias),
                }
            }
            config::Head::Cosine { space } => {
                let mut place = builder.at("head");
                let projection = space.map(|space| place.linear("projection", features, space, false));
                let width = space.unwrap_or(features);
                // Only lengths of exactly 0 would need an epsilon.
                let norm = Norm {
                    weight: place.at("norm").plain("weight", &[width]),
                    bias: None,
                    epsilon: 0.0,
                    kind: NormKind::Rms,
                };
                Classifier::Cosine {
                    projection,
                    norm,
                    classes: builder.linear("head", width, config.classes, config.head_bias),
                }
            }
        });
        let distillation = (config.distillation_head && config.classes > 0)
            .then(|| builder.linear("distillation_head", features, config.classes, config.head_bias));
        Head { attention_pool, pooled_norm, pre_logits, classifier, distillation }
    }

    /// How many tokens are pooled, if only the first ones are.
    pub(super) fn tokens_read(config: &ModelConfig) -> Option<usize> {
        (config.pooling == Pooling::Class).then_some(if config.distillation_head { 2 } else { 1 })
    }

    /// Pools `[batch, tokens, width]`; `normed` is the final norm.
    pub(super) fn pool(
        &self,
        cx: &Context<'_>,
        config: &ModelConfig,
        x: &Tensor,
        normed: impl Fn(&Tensor) -> Tensor,
    ) -> Pooled {
        let prefix = config.prefix_tokens();
        let first = if config.pool_prefix { 0 } else { prefix };
        Pooled::One(match config.pooling {
            Pooling::Class if config.distillation_head => {
                return Pooled::Two(normed(&cx.token(x, 0)), normed(&cx.token(x, 1)));
            }
            Pooling::Class => normed(&cx.token(x, 0)),
            Pooling::Mean => cx.mean_tokens(&normed(x), prefix),
            Pooling::MeanAll => cx.mean_tokens(&normed(x), 0),
            Pooling::Max => cx.max_tokens(&normed(x), first),
            Pooling::AverageMax => {
                let x = normed(x);
                cx.scale(&cx.add(&cx.mean_tokens(&x, first), &cx.max_tokens(&x, first)), 0.5)
            }
            Pooling::Attention => {
                let pool = self.attention_pool.as_ref().expect("declared for this kind of pooling");
                let x = if first == 0 { x.clone() } else { cx.tokens(x, first, x.extent(1) - first) };
                pool.forward(cx, &normed(&x))
            }
            Pooling::ClassAndMean => {
                let x = normed(x);
                cx.side_by_side(&cx.token(&x, 0), &cx.mean_tokens(&x, prefix))
            }
            Pooling::None => normed(x),
        })
    }

    pub(super) fn forward(&self, cx: &Context<'_>, config: &ModelConfig, pooled: Pooled) -> Output {
        let features = |x: &Tensor| {
            let x = self.pooled_norm.as_ref().map_or_else(|| x.clone(), |norm| cx.norm(x, norm));
            let activation = Some(config.pre_logits_activation.into());
            let activated = Epilogue { activation, ..Epilogue::default() };
            self.pre_logits.map_or_else(|| x.clone(), |linear| cx.linear_with(&x, None, linear, activated))
        };
        let output = match pooled {
            Pooled::One(x) => {
                let features = features(&x);
                let dropped = cx.dropout(&features, config.drop.head);
                let logits = self.classifier.as_ref().map(|classifier| classifier.forward(cx, &dropped));
                Output { logits, both_logits: None, features }
            }
            Pooled::Two(class, distillation) => {
                let (class, distillation) = (features(&class), features(&distillation));
                let both = self.classifier.as_ref().zip(self.distillation).map(|(classifier, distilled)| {
                    [
                        classifier.forward(cx, &cx.dropout(&class, config.drop.head)),
                        cx.linear(&cx.dropout(&distillation, config.drop.head), distilled),
                    ]
                });
                let mean = |a: &Tensor, b: &Tensor| cx.scale(&cx.add(a, b), 0.5);
                Output {
                    logits: both.as_ref().map(|[a, b]| mean(a, b)),
                    features: mean(&class, &distillation),
                    both_logits: both,
                }
            }
        };
        cx.name(&output.features, || "features".into());
        if let Some(logits) = &output.logits {
            cx.name(logits, || "logits".into());
        }
        output
    }
}

impl Classifier {
    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        match *self {
            Classifier::Linear(linear) => cx.linear(x, linear),
            Classifier::Mlp { up, activation, down } => {
                let hidden = Epilogue { activation: Some(activation), ..Epilogue::default() };
                cx.linear(&cx.linear_with(x, None, up, hidden), down)
            }
            Classifier::Cosine { projection, ref norm, classes } => {
                let x = projection.map_or_else(|| x.clone(), |projection| cx.linear(x, projection));
                cx.linear(&cx.norm(&x, norm), classes)
            }
        }
    }
}

/// Attention with one learned probe, then an MLP with a residual connection (big_vision's MAP head).
struct AttentionPool {
    probe: ParameterId,
    query: Linear,
    key_value: Linear,
    projection: Linear,
    norm: Norm,
    mlp: Mlp,
    heads: usize,
}

impl AttentionPool {
    fn new(place: &mut Builder<'_>) -> Self {
        let config = place.config;
        let width = config.width;
        AttentionPool {
            probe: place.plain("probe", &[width]),
            query: place.linear("query", width, width, true),
            key_value: place.linear("key_value", width, 2 * width, true),
            projection: place.linear("projection", width, width, true),
            norm: place.norm("norm", width),
            mlp: Mlp::new(&mut place.at("mlp"), width, config.mlp_width_of_pool()),
            heads: config.heads_of_pool(),
        }
    }

    /// `[batch, tokens, width]` to `[batch, width]`.
    fn forward(&self, cx: &Context<'_>, x: &Tensor) -> Tensor {
        let width = x.shape().last();
        let query = cx.linear(&cx.parameter(self.probe).reshape([1, width]), self.query);
        let keys_values = cx.linear(x, self.key_value);
        let scale = ((width / self.heads) as f32).powf(-0.5);
        let attended = cx.probe_attention(&query, &keys_values, self.heads, scale);
        let x = cx.linear(&attended, self.projection);
        self.mlp.forward(cx, &x, Some(&self.norm), Epilogue { residual: Some(&x), ..Epilogue::default() })
    }
}
