//! The description that travels with the weights, in each library's own form.
//!
//! What a library cannot say is found by reading back: a description is written, read by the reader that everybody's files
//! go through, and compared field by field.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use vitral_engine::Storage;

use super::invert::Tensor;
use super::{Difference, Outgoing, Target, preprocess};
use crate::config::{
    Activation, BlockKind, MlpKind, ModelConfig, NormKind, OtherSizes, Pooling, PositionResample, Positions, ResNetV2,
    Size, Stem,
};
use crate::image::Preprocess;
use crate::weights::description::{timm_config, timm_names};
use crate::weights::dialect::Source;
use crate::weights::{Dialect, WeightsError};

/// How tensors are named beside the description.
pub(super) struct Naming {
    pub(super) dialect: Dialect,
    /// What stands before every name but those of heads.
    prefix: &'static str,
    /// Tensors that the library's class has and this model has no use for, by their whole names.
    pub(super) idle: BTreeMap<String, Tensor>,
}

/// Names that stand beside the base model.
const HEADS: [&str; 4] = ["classifier.", "cls_classifier.", "distillation_classifier.", "visual_projection."];

impl Naming {
    /// The name as it is written.
    pub(super) fn full(&self, name: &str) -> String {
        let head = HEADS.iter().any(|head| name.starts_with(head));
        if head { name.to_owned() } else { format!("{}{name}", self.prefix) }
    }
}

/// Writes the description into the folder.
pub(super) fn describe(model: &Outgoing<'_>, target: Target, folder: &Path) -> Result<Naming, WeightsError> {
    let config = model.vit.config();
    let plain = |name: &str| Ok(Naming { dialect: Dialect::named(name)?, prefix: "", idle: BTreeMap::new() });
    match target {
        Target::HuggingFace => {
            let family = Family::of(config);
            write(folder, "config.json", &family.config(model))?;
            if let Some(steps) = model.preprocess.as_ref().and_then(|steps| preprocess::huggingface(steps, family.kind))
            {
                write(folder, "preprocessor_config.json", &steps)?;
            }
            let width = config.width;
            let idle = match family.class {
                // A norm that stands behind the pooling that this class does not do.
                "CLIPForImageClassification" => [("weight", 1.0), ("bias", 0.0)]
                    .map(|(part, fill)| (format!("vision_model.post_layernorm.{part}"), Tensor::filled(&[width], fill)))
                    .into(),
                // Expected even where it holds no token.
                "DINOv3ViTModel" if config.registers == 0 => {
                    [("embeddings.register_tokens".to_owned(), Tensor::filled(&[1, 0, width], 0.0))].into()
                }
                _ => BTreeMap::new(),
            };
            let mut dialect = Dialect::named(family.dialect)?;
            if family.kind == "dinov3_vit" && config.mlp == MlpKind::Plain {
                // Reading looks for a gate first.
                let up = Source::Name("layer.{i}.mlp.up_proj.{p}".into());
                dialect = dialect.with_names(&[("blocks.{i}.mlp.up.{p}".to_owned(), up)]);
            }
            Ok(Naming { dialect, prefix: family.prefix(), idle })
        }
        Target::Timm => {
            if let Stem::ResNet(resnet) = &config.stem {
                write(folder, "config.json", &timm_resnet(model, resnet))?;
                return plain("timm-resnet");
            }
            let (config, split_gate) = timm(model)?;
            write(folder, "config.json", &config)?;
            let mut naming = plain("timm")?;
            if split_gate {
                let part = |part| Source::Name(format!("blocks.{{i}}.mlp.fc1_{part}.{{p}}"));
                let up = ("blocks.{i}.mlp.up.{p}".to_owned(), Source::Joined(vec![part("g"), part("x")]));
                naming.dialect = naming.dialect.with_names(&[up]);
            }
            Ok(naming)
        }
        Target::Jax if !config.embeds_patches() => Ok(Naming { prefix: "resnet/", ..plain("bit")? }),
        Target::Jax => {
            let big_vision = !config.class_token
                || config.pooling == Pooling::Attention
                || !matches!(config.positions, Positions::LearnedAll);
            plain(if big_vision { "big-vision" } else { "jax" })
        }
        Target::Torchvision => {
            let pooled = torchvision(config);
            let value = json!({ "name": model.name, "dialect": "torchvision", "model": pooled });
            write(folder, "config.json", &with_rest(value, model))?;
            plain("torchvision")
        }
        Target::Bundle => {
            let value = json!({ "format": 1, "name": model.name, "model": config });
            write(folder, "vitral.json", &with_rest(value, model))?;
            plain("vitral")
        }
    }
}

/// Adds preprocessing, labels and licence in our own form.
fn with_rest(mut value: Value, model: &Outgoing<'_>) -> Value {
    if let Some(preprocess) = &model.preprocess {
        value["preprocess"] = json!(preprocess);
    }
    if let Some(labels) = model.labels {
        value["labels"] = json!(labels);
    }
    if let Some(licence) = model.licence {
        value["licence"] = json!(licence);
    }
    value
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<(), WeightsError> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value).map_err(|error| WeightsError::description(&path, error))?;
    std::fs::write(&path, text + "\n").map_err(|source| WeightsError::io(&path, source))
}

/// Fields that say how a library treats a model, not what the model is.
const BEHAVIOUR: [&str; 2] = ["other_sizes", "drop"];

/// Fields that two configurations have otherwise.
pub(super) fn differences(ours: &ModelConfig, theirs: &ModelConfig) -> Vec<Difference> {
    // Through text, which writes 32-bit numbers as short as they are.
    let fields =
        |config| serde_json::to_string(config).and_then(|text| serde_json::from_str::<Map<String, Value>>(&text));
    let (Ok(ours), Ok(theirs)) = (fields(ours), fields(theirs)) else { return Vec::new() };
    let differs = |(field, value): (&String, &Value)| {
        let other = theirs.get(field).unwrap_or(&Value::Null);
        // LayerScale's number only says how training began.
        let same = value == other || (field == "layer_scale" && value.is_null() == other.is_null());
        let behaviour = BEHAVIOUR.contains(&field.as_str());
        (!same && !behaviour).then(|| Difference {
            field: field.clone(),
            ours: value.to_string(),
            theirs: other.to_string(),
        })
    };
    ours.iter().filter_map(differs).collect()
}

/// A family of Hugging Face classes.
struct Family {
    kind: &'static str,
    dialect: &'static str,
    class: &'static str,
}

impl Family {
    /// The family that comes nearest to a model.
    fn of(config: &ModelConfig) -> Self {
        let classifies = config.classes > 0;
        let family = |kind, dialect, base, classifier| Family {
            kind,
            dialect,
            class: if classifies { classifier } else { base },
        };
        if matches!(config.positions, Positions::Rotary { .. }) {
            // It has no classifier; reading back says so.
            return family("dinov3_vit", "huggingface-dinov3", "DINOv3ViTModel", "DINOv3ViTModel");
        }
        if config.pre_norm && config.head_bias && classifies {
            return family("clip", "huggingface-clip", "", "CLIPForImageClassification");
        }
        if config.pre_norm {
            let classifier = "CLIPVisionModelWithProjection";
            return family("clip_vision_model", "huggingface-clip", "CLIPVisionModel", classifier);
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
            "DeiTForImageClassification" | "DeiTForImageClassificationWithTeacher" => "deit.",
            "Dinov2ForImageClassification" => "dinov2.",
            "Dinov2WithRegistersForImageClassification" => "dinov2_with_registers.",
            _ if self.kind.starts_with("clip") || self.kind.starts_with("siglip") => "vision_model.",
            _ => "",
        }
    }

    fn config(&self, model: &Outgoing<'_>) -> Value {
        let config = model.vit.config();
        let mut vision = Map::new();
        let mut put = |key: &str, value: Value| vision.insert(key.into(), value);
        put("hidden_size", json!(config.width));
        put("num_hidden_layers", json!(config.depth));
        put("num_attention_heads", json!(config.heads));
        put("intermediate_size", json!(config.mlp_width));
        put("image_size", side(config.image_size));
        put("patch_size", side(config.patch_size));
        put("num_channels", json!(config.channels));
        put("layer_norm_eps", number(config.norm_epsilon));
        put("qkv_bias", json!(config.qkv_bias));
        put("hidden_act", json!(activation(config.activation)));
        put("hidden_dropout_prob", number(config.drop.hidden));
        put("attention_probs_dropout_prob", number(config.drop.attention));
        if let Some(width) = config.pre_logits {
            put("pooler_output_size", json!(width));
            put("pooler_act", json!("tanh"));
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
        if let ("dinov3_vit", Positions::Rotary { theta }) = (self.kind, config.positions) {
            put("rope_theta", number(theta));
            put("query_bias", json!(config.qkv_bias));
            put("key_bias", json!(config.qkv_bias && config.key_bias));
            put("value_bias", json!(config.qkv_bias));
            put("proj_bias", json!(config.projection_bias));
            put("mlp_bias", json!(config.mlp_bias));
            put("use_gated_mlp", json!(config.mlp == MlpKind::Gated));
            put("layerscale_value", number(config.layer_scale.unwrap_or(1.0)));
            put("num_register_tokens", json!(config.registers));
        }
        if self.class == "CLIPVisionModelWithProjection" {
            put("projection_dim", json!(config.classes));
        }
        if self.kind.starts_with("siglip") {
            put("vision_use_head", json!(config.pooling == Pooling::Attention));
        }
        // Models of image and text keep their towers inside.
        let mut all = match self.kind {
            "clip" | "siglip" => Map::from_iter([("vision_config".to_owned(), Value::Object(vision))]),
            _ => vision,
        };
        all.insert("architectures".into(), json!([self.class]));
        all.insert("model_type".into(), json!(self.kind));
        let dtype = match model.storage {
            Storage::F32 => "float32",
            Storage::Bf16 => "bfloat16",
            Storage::F16 => "float16",
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
        if let Some(licence) = model.licence {
            all.insert("license".into(), json!(licence));
        }
        Value::Object(all)
    }
}

/// A size as these libraries write it.
fn side(size: Size) -> Value {
    if size.height == size.width { json!(size.height) } else { json!([size.height, size.width]) }
}

/// A 32-bit number as short as a person writes it.
fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// The MLP's width as a ratio, such that the library's product, rounded down, gives the width again.
fn ratio(width: usize, hidden: usize, gated: bool) -> Value {
    // DINOv2 takes two thirds of a gated MLP's width and rounds up to eight.
    let hidden = if gated { hidden * 3 / 2 } else { hidden };
    let mut ratio = hidden as f64 / width as f64;
    if ((width as f64 * ratio) as usize) < hidden {
        ratio = ratio.next_up();
    }
    if ratio.fract() == 0.0 { json!(ratio as u64) } else { json!(ratio) }
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::QuickGelu => "quick_gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
        Activation::Tanh => "tanh",
    }
}

/// timm's `config.json`: the architecture whose own arguments, with ours beside them, make this model; and whether it keeps
/// the two halves of a gated MLP apart.
fn timm(model: &Outgoing<'_>) -> Result<(Value, bool), WeightsError> {
    let config = model.vit.config();
    let preferred = if config.distillation_token {
        ["deit_base_distilled_patch16_224", "vit_base_patch16_224"]
    } else {
        ["vit_base_patch16_224", "vit_base_patch16_clip_224"]
    };
    let gated = config.mlp == MlpKind::Gated;
    let mut nearest: Option<(usize, (Value, bool))> = None;
    for name in preferred.into_iter().chain(timm_names()) {
        for packed in [gated, false] {
            let value = timm_with(model, name, packed);
            let Ok(read) = timm_config(&value) else { continue };
            let count = differences(config, &read).len();
            if nearest.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
                nearest = Some((count, (value, gated && !packed)));
            }
            if count == 0 {
                break;
            }
        }
        if nearest.as_ref().is_some_and(|(count, _)| *count == 0) {
            break;
        }
    }
    nearest
        .map(|(_, value)| value)
        .ok_or_else(|| WeightsError::description(Path::new("config.json"), "no such model in timm"))
}

fn timm_with(model: &Outgoing<'_>, architecture: &str, packed_gate: bool) -> Value {
    let config = model.vit.config();
    let hidden = if packed_gate { 2 * config.mlp_width } else { config.mlp_width };
    let mut arguments = Map::new();
    let mut put = |key: &str, value: Value| arguments.insert(key.into(), value);
    put("img_size", side(config.image_size));
    put("patch_size", side(config.patch_size));
    put("in_chans", json!(config.channels));
    put("num_classes", json!(config.classes));
    put("embed_dim", json!(config.width));
    put("depth", json!(config.depth));
    put("num_heads", json!(config.heads));
    put("mlp_ratio", ratio(config.width, hidden, false));
    put("qkv_bias", json!(config.qkv_bias));
    put("proj_bias", json!(config.projection_bias));
    put("qk_norm", json!(config.qk_norm));
    if !config.distillation_token {
        put("class_token", json!(config.class_token));
    }
    put("reg_tokens", json!(config.registers));
    put("no_embed_class", json!(config.positions == Positions::LearnedPatches));
    put("pos_embed", json!(if config.positions == Positions::None { "none" } else { "learn" }));
    put("pre_norm", json!(config.pre_norm));
    // An architecture may have a value of its own, which only a number replaces; 0 is none to all blocks but one.
    match config.layer_scale {
        Some(value) => drop(put("init_values", number(value))),
        None if config.block == BlockKind::ParallelScaling => {}
        None => drop(put("init_values", json!(0.0))),
    }
    put("scale_attn_norm", json!(config.attention_norm));
    put("scale_mlp_norm", json!(config.mlp_norm));
    let (pool, prefix) = match config.pooling {
        Pooling::Class => ("token", false),
        Pooling::Mean => ("avg", false),
        Pooling::MeanAll => ("avg", true),
        Pooling::Max => ("max", config.pool_prefix),
        Pooling::AverageMax => ("avgmax", config.pool_prefix),
        Pooling::Attention => ("map", config.pool_prefix),
        // timm has no such pool; reading back says so.
        Pooling::ClassAndMean | Pooling::None => ("", false),
    };
    put("global_pool", json!(pool));
    put("pool_include_prefix", json!(prefix));
    // timm knows one kernel; a model that resamples by another takes its own size only.
    if let OtherSizes::Resample { kernel: PositionResample::BicubicAntialias, pad } = config.other_sizes {
        put("dynamic_img_size", json!(true));
        put("dynamic_img_pad", json!(pad));
    }
    put("final_norm", json!(config.final_norm || config.pooled_norm));
    // Of one class token it is the same whether it is normed before or after it is taken.
    let after = config.pooled_norm && config.pooling != Pooling::Class;
    put("fc_norm", json!(after || (config.pooled_norm && !config.final_norm)));
    if config.activation != Activation::Gelu && config.mlp != MlpKind::Gated {
        let name = match config.activation {
            Activation::GeluTanh => "gelu_tanh",
            other => activation(other),
        };
        put("act_layer", json!(name));
    }
    let mut pretrained = model.preprocess.as_ref().and_then(preprocess::timm).unwrap_or_default();
    let size = model.preprocess.as_ref().and_then(Preprocess::output_size).unwrap_or(config.image_size);
    pretrained.insert("input_size".into(), json!([config.channels, size.height, size.width]));
    pretrained.insert("fixed_input_size".into(), json!(true));
    pretrained.insert("num_classes".into(), json!(config.classes));
    if let Stem::Patches = config.stem {
        pretrained.insert("first_conv".into(), json!("patch_embed.proj"));
    }
    pretrained.insert("classifier".into(), json!("head"));
    if let Some(licence) = model.licence {
        pretrained.insert("license".into(), json!(licence));
    }
    let mut value = json!({
        "architecture": architecture,
        "num_classes": config.classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    });
    if let Some(labels) = model.labels {
        value["label_names"] = json!(labels);
    }
    value
}

/// timm's `config.json` of a ResNet as BiT has it; what timm cannot say is found by reading it back.
fn timm_resnet(model: &Outgoing<'_>, resnet: &ResNetV2) -> Value {
    let config = model.vit.config();
    let known =
        [("50", &[3, 4, 6, 3][..], &[1, 3][..]), ("101", &[3, 4, 23, 3], &[1, 3]), ("152", &[3, 8, 36, 3], &[2, 4])];
    // The architecture says how many blocks each stage has; fewer stages and other widths can be said beside it.
    let (depth, layers, factors) =
        known.into_iter().find(|(_, layers, _)| layers.starts_with(&resnet.layers)).unwrap_or(known[0]);
    let whole = layers == resnet.layers;
    let own = factors.iter().find(|&&factor| factor as f32 == resnet.width_factor && whole);
    let architecture = format!("resnetv2_{depth}x{}_bit", own.unwrap_or(&factors[0]));
    let pool = match config.pooling {
        Pooling::Max => "max",
        Pooling::AverageMax => "avgmax",
        _ => "avg",
    };
    let mut arguments = json!({
        "in_chans": config.channels,
        "num_classes": config.classes,
        "global_pool": pool,
    });
    let mut pretrained = model.preprocess.as_ref().and_then(preprocess::timm).unwrap_or_default();
    let size = config.image_size;
    pretrained.insert("input_size".into(), json!([config.channels, size.height, size.width]));
    pretrained.insert("num_classes".into(), json!(config.classes));
    pretrained.insert("first_conv".into(), json!("stem.conv"));
    pretrained.insert("classifier".into(), json!("head.fc"));
    if let Some(licence) = model.licence {
        pretrained.insert("license".into(), json!(licence));
    }
    if own.is_none() {
        let factor = factors[0];
        let channels: Vec<usize> =
            (0..resnet.layers.len()).map(|stage| resnet.stage_channels(stage) / factor).collect();
        arguments["stem_chs"] = json!(resnet.root_channels() / factor);
        arguments["channels"] = json!(channels);
    }
    let mut value = json!({
        "architecture": architecture,
        "num_classes": config.classes,
        "num_features": config.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    });
    if let Some(labels) = model.labels {
        value["label_names"] = json!(labels);
    }
    value
}

/// What torchvision's constructor makes of the arguments it has.
fn torchvision(config: &ModelConfig) -> ModelConfig {
    ModelConfig {
        image_size: Size::square(config.image_size.height),
        patch_size: Size::square(config.patch_size.height),
        classes: config.classes,
        width: config.width,
        depth: config.depth,
        heads: config.heads,
        head_width: config.width / config.heads.max(1),
        mlp_width: config.mlp_width,
        norm: NormKind::Layer,
        norm_epsilon: 1e-6,
        activation: Activation::Gelu,
        pre_logits: config.pre_logits,
        ..ModelConfig::default()
    }
}
