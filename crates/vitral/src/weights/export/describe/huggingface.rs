//! transformers' `config.json` and `preprocessor_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use vitral_engine::DType;

use super::words::{activation, number, ratio, side, write};
use crate::config::{
    MlpKind, ModelConfig, OtherSizes, Pooling, PositionResample, Positions, Problem, RelativePositions,
};
use crate::weights::dialect::Source;
use crate::weights::error::Difference;
use crate::weights::export::naming::Naming;
use crate::weights::export::tensor::Tensor;
use crate::weights::export::{ExportSource, Target, preprocess};
use crate::weights::{Dialect, WeightsError};

/// Writes the description into the folder.
pub(super) fn describe(model: &ExportSource<'_>, folder: &Path) -> Result<Naming, WeightsError> {
    let config = model.vit.config();
    let family = Family::of(config);
    if family.dialect == "huggingface-beit" {
        refuse_other_than_squares(config)?;
    }
    write(folder, "config.json", &family.config(model))?;
    if let Some(steps) = model.preprocess.as_ref().and_then(|steps| preprocess::huggingface(steps, family.kind)) {
        write(folder, "preprocessor_config.json", &steps)?;
    }
    let width = config.width;
    let mut idle: BTreeMap<String, Tensor> = match family.class {
        // A norm after pooling, which this class does not do.
        "CLIPForImageClassification" => [("weight", 1.0), ("bias", 0.0)]
            .map(|(part, fill)| (format!("vision_model.post_layernorm.{part}"), Tensor::filled(&[width], fill)))
            .into(),
        // Required even if there are no registers.
        "DINOv3ViTModel" if config.registers == 0 => {
            [("embeddings.register_tokens".to_owned(), Tensor::filled(&[1, 0, width], 0.0))].into()
        }
        _ => BTreeMap::new(),
    };
    // These classes always have one, used only in their pretraining.
    let mask = if family.kind == "dinov3_vit" { &[1, 1, width][..] } else { &[1, width] };
    if family.kind.starts_with("dinov") {
        idle.insert(format!("{}embeddings.mask_token", family.prefix()), Tensor::filled(mask, 0.0));
    }
    let mut dialect = Dialect::named(family.dialect)?;
    if family.kind == "dinov3_vit" && config.mlp == MlpKind::Plain {
        // Reading looks for a gate first.
        let up = Source::Name("layer.{i}.mlp.up_proj.{p}".into());
        dialect = dialect.with_names(&[("blocks.{i}.mlp.up.{p}".to_owned(), up)]);
    }
    Ok(Naming { dialect, prefix: family.prefix(), stacked: false, idle })
}

/// Whether the classifier of the model's class reads the class token and the mean of the patches side by side.
pub(crate) fn reads_class_and_mean(config: &ModelConfig) -> bool {
    Family::of(config).kind.starts_with("dinov2")
}

/// transformers' BEiT swaps the sides of a grid.
fn refuse_other_than_squares(config: &ModelConfig) -> Result<(), WeightsError> {
    let sizes = [("image_size", config.image_size), ("patch_size", config.patch_size)];
    let differences: Vec<Difference> = sizes
        .into_iter()
        .filter(|(_, size)| size.height != size.width)
        .map(|(field, size)| Difference { field: field.into(), ours: size.to_string(), theirs: "a square".into() })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let advice = "choose another target".to_owned();
    Err(WeightsError::Inexpressible { target: Target::HuggingFace.name(), differences, advice })
}

/// A family of Hugging Face classes.
struct Family {
    kind: &'static str,
    dialect: &'static str,
    class: &'static str,
}

impl Family {
    /// The family closest to a model.
    fn of(config: &ModelConfig) -> Self {
        let classifies = config.classes > 0;
        let family = |kind, dialect, base, classifier| Family {
            kind,
            dialect,
            class: if classifies { classifier } else { base },
        };
        if config.rotary.is_some() {
            // It has no classifier; reading back reports that.
            return family("dinov3_vit", "huggingface-dinov3", "DINOv3ViTModel", "DINOv3ViTModel");
        }
        if config.relative_positions != RelativePositions::None || (config.qkv_bias && !config.key_bias) {
            // Only Data2Vec has neither a final norm nor a pooler.
            if !config.final_norm && !config.pooled_norm {
                let classifier = "Data2VecVisionForImageClassification";
                return family("data2vec-vision", "huggingface-beit", "Data2VecVisionModel", classifier);
            }
            return family("beit", "huggingface-beit", "BeitModel", "BeitForImageClassification");
        }
        if config.pre_norm && config.head_bias && classifies {
            return family("clip", "huggingface-clip", "", "CLIPForImageClassification");
        }
        if config.pre_norm {
            let classifier = "CLIPVisionModelWithProjection";
            return family("clip_vision_model", "huggingface-clip", "CLIPVisionModel", classifier);
        }
        let naflex = OtherSizes::Resample { kernel: PositionResample::LinearAntialias, pad: false };
        if !config.class_token && config.other_sizes == naflex {
            let kind = if classifies { "siglip2" } else { "siglip2_vision_model" };
            return family(kind, "huggingface-siglip2", "Siglip2VisionModel", "Siglip2ForImageClassification");
        }
        if !config.class_token {
            let kind = if classifies { "siglip" } else { "siglip_vision_model" };
            return family(kind, "huggingface-siglip", "SiglipVisionModel", "SiglipForImageClassification");
        }
        if config.layer_scale.is_some() && config.registers > 0 {
            let (base, classifier) = ("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification");
            return family("dinov2_with_registers", "huggingface-dinov2", base, classifier);
        }
        if config.layer_scale.is_some() {
            return family("dinov2", "huggingface-dinov2", "Dinov2Model", "Dinov2ForImageClassification");
        }
        if config.distillation_head {
            let classifier = "DeiTForImageClassificationWithTeacher";
            return family("deit", "huggingface-deit", "DeiTModel", classifier);
        }
        if config.distillation_token {
            return family("deit", "huggingface-deit", "DeiTModel", "DeiTForImageClassification");
        }
        family("vit", "huggingface-vit", "ViTModel", "ViTForImageClassification")
    }

    fn prefix(&self) -> &'static str {
        match self.class {
            "ViTForImageClassification" => "vit.",
            "BeitForImageClassification" => "beit.",
            "DeiTForImageClassification" | "DeiTForImageClassificationWithTeacher" => "deit.",
            "Dinov2ForImageClassification" => "dinov2.",
            "Dinov2WithRegistersForImageClassification" => "dinov2_with_registers.",
            _ if self.kind.starts_with("clip") || self.kind.starts_with("siglip") => "vision_model.",
            _ => "",
        }
    }

    fn config(&self, model: &ExportSource<'_>) -> Value {
        let config = model.vit.config();
        let mut vision = Map::new();
        let mut put = |key: &str, value: Value| vision.insert(key.into(), value);
        put("hidden_size", json!(config.width));
        put("num_hidden_layers", json!(config.depth));
        put("num_attention_heads", json!(config.heads));
        put("intermediate_size", json!(config.mlp_width));
        if self.kind.starts_with("siglip2") {
            put("num_patches", json!(config.grid().area()));
        } else {
            put("image_size", side(config.image_size));
        }
        put("patch_size", side(config.patch_size));
        put("num_channels", json!(config.channels));
        put("layer_norm_eps", number(config.norm_epsilon));
        put("qkv_bias", json!(config.qkv_bias));
        put("hidden_act", json!(activation(config.activation)));
        put("hidden_dropout_prob", number(config.drop.hidden));
        put("attention_probs_dropout_prob", number(config.drop.attention));
        if let Some(width) = config.pre_logits {
            put("pooler_output_size", json!(width));
            put("pooler_act", json!(activation(config.pre_logits_activation)));
        }
        if self.kind.starts_with("dinov2") {
            let gated = config.mlp == MlpKind::Gated;
            put("mlp_ratio", ratio(config.width, config.mlp_width, gated));
            put("use_swiglu_ffn", json!(gated));
            put("layerscale_value", number(config.layer_scale.unwrap_or(1.0)));
            if gated {
                put("hidden_act", json!("gelu"));
            }
            if config.registers > 0 {
                put("num_register_tokens", json!(config.registers));
            }
        }
        if let ("dinov3_vit", Some(rotary)) = (self.kind, config.rotary) {
            put("rope_theta", number(rotary.theta()));
            put("query_bias", json!(config.qkv_bias));
            put("key_bias", json!(config.qkv_bias && config.key_bias));
            put("value_bias", json!(config.qkv_bias));
            put("proj_bias", json!(config.projection_bias));
            put("mlp_bias", json!(config.mlp_bias));
            put("use_gated_mlp", json!(config.mlp == MlpKind::Gated));
            put("layerscale_value", number(config.layer_scale.unwrap_or(1.0)));
            put("num_register_tokens", json!(config.registers));
        }
        if self.dialect == "huggingface-beit" {
            put("use_absolute_position_embeddings", json!(config.positions == Positions::LearnedAll));
            put("use_relative_position_bias", json!(config.relative_positions.in_blocks()));
            put("use_shared_relative_position_bias", json!(config.relative_positions.shared()));
            put("use_mean_pooling", json!(!config.final_norm));
            put("layer_scale_init_value", number(config.layer_scale.unwrap_or(0.0)));
            put("drop_path_rate", number(config.drop.path));
        }
        if self.class == "CLIPVisionModelWithProjection" {
            put("projection_dim", json!(config.classes));
        }
        if self.kind.starts_with("siglip") {
            put("vision_use_head", json!(config.pooling == Pooling::Attention));
        }
        // Models of image and text nest their towers.
        let mut all = match self.kind {
            "clip" | "siglip" | "siglip2" => Map::from_iter([("vision_config".to_owned(), Value::Object(vision))]),
            _ => vision,
        };
        all.insert("architectures".into(), json!([self.class]));
        all.insert("model_type".into(), json!(self.kind));
        let dtype = match model.storage {
            DType::F32 => "float32",
            DType::Bf16 => "bfloat16",
            DType::F16 => "float16",
            DType::I8 => "int8",
        };
        all.insert("dtype".into(), json!(dtype));
        let classifies = config.classes > 0 && self.class != "CLIPVisionModelWithProjection";
        if let (true, Some(labels)) = (classifies, model.labels) {
            let numbered = labels.iter().enumerate();
            all.insert("id2label".into(), numbered.clone().map(|(i, label)| (i.to_string(), json!(label))).collect());
            all.insert("label2id".into(), numbered.map(|(i, label)| (label.clone(), json!(i))).collect());
        } else if classifies {
            all.insert("num_labels".into(), json!(config.classes));
        }
        let problem = match config.problem {
            Problem::SingleLabel | Problem::Embedding => None,
            Problem::MultiLabel => Some("multi_label_classification"),
            Problem::Regression => Some("regression"),
        };
        if let Some(problem) = problem.filter(|_| classifies) {
            all.insert("problem_type".into(), json!(problem));
        }
        if let Some(license) = model.license {
            all.insert("license".into(), json!(license));
        }
        Value::Object(all)
    }
}
