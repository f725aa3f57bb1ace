//! The parameters a configuration asks for, written a second time beside the model's own list.

use vitral::config::{BlockKind, Head, HybridStem, MlpKind, ModelConfig, NormKind, Pooling, Positions, Stem};
use vitral_engine::arena::ParameterSpec;

struct Specs<'a> {
    config: &'a ModelConfig,
    list: Vec<ParameterSpec>,
}

/// All parameters of a model.
pub(crate) fn of(config: &ModelConfig) -> Vec<ParameterSpec> {
    let mut specs = Specs { config, list: Vec::new() };
    specs.model();
    specs.list
}

impl Specs<'_> {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.list.push(ParameterSpec { name: name.into(), shape: shape.to_vec() });
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        if self.config.norm == NormKind::Layer {
            self.add(format!("{name}.bias"), &[width]);
        }
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize, bias: bool) {
        self.add(format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            self.add(format!("{name}.bias"), &[outputs]);
        }
    }

    fn model(&mut self) {
        let config = self.config;
        let width = config.width;
        let mut channels = config.channels;
        if let Stem::Hybrid(stem) = &config.stem {
            channels = self.stem(stem);
        }
        let patch = channels * config.patch_size.area();
        if config.patch_norms {
            self.norm("patches.norm_in", patch);
        }
        self.linear("patches", width, patch, config.patch_bias);
        if config.patch_norms || config.patch_output_norm {
            self.norm("patches.norm_out", width);
        }
        if config.class_token {
            self.add("tokens.class", &[width]);
        }
        if config.distillation_token {
            self.add("tokens.distillation", &[width]);
        }
        if config.registers > 0 {
            self.add("tokens.registers", &[config.registers, width]);
        }
        let prefix = match config.positions {
            Positions::LearnedAll => Some(config.prefix_tokens()),
            Positions::LearnedWithoutRegisters => Some(config.prefix_tokens() - config.registers),
            Positions::LearnedPatches => Some(0),
            Positions::None | Positions::SinCos2d => None,
        };
        if let Some(prefix) = prefix {
            self.add("positions", &[prefix + config.grid().area(), width]);
        }
        if config.pre_norm {
            self.norm("pre_norm", width);
        }
        for block in 0..config.depth {
            if config.block == BlockKind::ParallelPairs {
                for pair in 0..2 {
                    self.block(&format!("blocks.{block}.pairs.{pair}"));
                }
            } else {
                self.block(&format!("blocks.{block}"));
            }
        }
        if config.final_norm {
            self.norm("norm", width);
        }
        self.head();
    }

    fn block(&mut self, name: &str) {
        let config = self.config;
        let (width, inner, hidden) = (config.width, config.attention_width(), config.mlp_width);
        self.norm(&format!("{name}.norm1"), width);
        self.linear(&format!("{name}.attention.qkv"), 3 * inner, width, config.qkv_bias);
        if config.qk_norm {
            self.norm(&format!("{name}.attention.query_norm"), config.head_width);
            self.norm(&format!("{name}.attention.key_norm"), config.head_width);
        }
        if config.attention_norm {
            self.norm(&format!("{name}.attention.norm"), inner);
        }
        self.linear(&format!("{name}.attention.projection"), width, inner, config.projection_bias);
        let parallel = config.block == BlockKind::ParallelScaling;
        if !parallel {
            self.norm(&format!("{name}.norm2"), width);
        }
        let up = if config.mlp == MlpKind::Gated { 2 * hidden } else { hidden };
        self.linear(&format!("{name}.mlp.up"), up, width, config.mlp_bias);
        if config.mlp_norm {
            self.norm(&format!("{name}.mlp.norm"), hidden);
        }
        self.linear(&format!("{name}.mlp.down"), width, hidden, config.mlp_bias);
        if config.layer_scale.is_some() {
            self.add(format!("{name}.scale1"), &[width]);
            if !parallel {
                self.add(format!("{name}.scale2"), &[width]);
            }
        }
    }

    fn head(&mut self) {
        let config = self.config;
        let width = config.width;
        if config.pooling == Pooling::Attention {
            self.add("pool.probe", &[width]);
            self.linear("pool.query", width, width, true);
            self.linear("pool.key_value", 2 * width, width, true);
            self.linear("pool.projection", width, width, true);
            self.norm("pool.norm", width);
            self.linear("pool.mlp.up", config.mlp_width, width, true);
            self.linear("pool.mlp.down", width, config.mlp_width, true);
        }
        if config.pooled_norm {
            self.norm("pooled_norm", width);
        }
        if let Some(features) = config.pre_logits {
            self.linear("pre_logits", features, width, true);
        }
        if config.classes > 0 {
            let features = config.feature_width();
            match config.head {
                Head::Linear => self.linear("head", config.classes, features, config.head_bias),
                Head::Mlp { width, .. } => {
                    self.linear("head.up", width, features, config.head_bias);
                    self.linear("head.down", config.classes, width, config.head_bias);
                }
            }
            if config.distillation_head {
                self.linear("distillation_head", config.classes, features, config.head_bias);
            }
        }
    }

    /// The convolutional stem, whose norms are group norms. Gives its output channels.
    fn stem(&mut self, stem: &HybridStem) -> usize {
        let group_norm = |specs: &mut Self, name: String, width: usize| {
            specs.add(format!("{name}.weight"), &[width]);
            specs.add(format!("{name}.bias"), &[width]);
        };
        let base = 64 * stem.width_factor;
        self.add("stem.conv.weight", &[base, self.config.channels, 7, 7]);
        group_norm(self, "stem.norm".into(), base);
        let mut inputs = base;
        for (stage, blocks) in stem.layers.iter().enumerate() {
            let outputs = base * (4 << stage);
            let middle = outputs / 4;
            for block in 0..*blocks {
                let name = format!("stem.stages.{stage}.{block}");
                self.add(format!("{name}.conv1.weight"), &[middle, inputs, 1, 1]);
                self.add(format!("{name}.conv2.weight"), &[middle, middle, 3, 3]);
                self.add(format!("{name}.conv3.weight"), &[outputs, middle, 1, 1]);
                group_norm(self, format!("{name}.norm1"), middle);
                group_norm(self, format!("{name}.norm2"), middle);
                group_norm(self, format!("{name}.norm3"), outputs);
                if block == 0 {
                    self.add(format!("{name}.downsample.conv.weight"), &[outputs, inputs, 1, 1]);
                    group_norm(self, format!("{name}.downsample.norm"), outputs);
                }
                inputs = outputs;
            }
        }
        inputs
    }
}
