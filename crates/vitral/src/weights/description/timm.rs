//! timm: `config.json` with `architecture`, `model_args` and `pretrained_cfg`.
//!
//! The value of an argument is taken from, in this order: `model_args`; the architecture's definition in timm (a table
//! made by `tools/golden/timm_architectures.py`); `pretrained_cfg` (classes, channels, pooling, image size), which timm
//! uses for what the first two leave open; the constructor's default.

mod beit;
mod naflex;
mod resnet;

use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::contents::{Description, PreprocessSource};
use super::fields::Fields;
use super::imagenet::LabelSet;
use crate::config::{
    Activation, BlockKind, Border, DropRates, MlpKind, ModelConfig, NormKind, OtherSizes, Pooling, PositionResample,
    Positions, Problem, ResNetD, ResNetV2, Root, Rotary, Size, Stem,
};
use crate::weights::WeightsError;

/// Widths of published CLIP models' projections.
const PROJECTIONS: [usize; 6] = [512, 640, 768, 896, 1024, 1280];

/// Every architecture's arguments, as timm defines them.
pub(super) fn architectures() -> &'static Map<String, Value> {
    static TABLE: OnceLock<Map<String, Value>> = OnceLock::new();
    TABLE.get_or_init(|| match serde_json::from_str(include_str!("timm_architectures.json")) {
        Ok(Value::Object(table)) => table,
        // The table is part of the program, and a test reads it.
        _ => panic!("the table of timm's architectures is not a JSON object"),
    })
}

/// Constructor arguments that change nothing in a forward pass.
const WITHOUT_EFFECT: [&str; 11] = [
    "weight_init",
    "fix_init",
    "device",
    "dtype",
    "features_only",
    "out_indices",
    "strict_img_size",
    "use_naflex",
    "pretrained",
    "class",
    "drop_block_rate",
];

/// Reads a folder's `config.json`.
pub(super) fn folder(fields: &Fields<'_>, stem: String, files: Vec<PathBuf>) -> Result<Description, WeightsError> {
    let given = fields.text("architecture")?.unwrap_or_default();
    // The tag names the weights, not the architecture.
    let architecture = given.split('.').next().unwrap_or_default();
    // Before timm 0.9 the whole file was what is now `pretrained_cfg`.
    let pretrained = match fields.object("pretrained_cfg")? {
        Some(pretrained) => pretrained,
        None => fields.clone(),
    };
    let defaults = architectures().get(architecture).and_then(Value::as_object).ok_or_else(|| {
        fields.fault(
            "architecture",
            format!("`{architecture}` is not a known timm Vision Transformer or BiT ResNet; {}", nearest(architecture)),
        )
    })?;
    let mut arguments = defaults.clone();
    if let Some(own) = fields.value("model_args").and_then(Value::as_object) {
        arguments.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let own = fields.object("model_args")?;
    let own_truth = |key: &str| own.as_ref().map_or(Ok(None), |own| own.truth(key));
    let any_size = own_truth("dynamic_img_size")? == Some(true) || own_truth("strict_img_size")? == Some(false);
    let class = arguments.get("class").and_then(Value::as_str).unwrap_or_default().to_owned();
    let convolutional = class == "ResNetV2";
    let mut fill = |key: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            arguments.entry(key).or_insert(value);
        }
    };
    fill("num_classes", fields.value("num_classes").cloned());
    fill("num_classes", pretrained.value("num_classes").cloned());
    fill("global_pool", pretrained.value("global_pool").cloned());
    let input = pretrained.value("input_size").and_then(Value::as_array).map(Vec::as_slice);
    if let Some([channels, height, width]) = input {
        fill("in_chans", Some(channels.clone()));
        // A ResNet takes any size; this is the size it was published for.
        if convolutional || (pretrained.truth("fixed_input_size")?.unwrap_or(false) && !any_size) {
            fill("img_size", Some(Value::Array(vec![height.clone(), width.clone()])));
        }
    }
    let arguments = Value::Object(arguments);
    let inside = fields.inside("model_args", &arguments)?;
    let arguments = Arguments { fields: inside, architecture };
    let (config, dialect) = match class.as_str() {
        "ResNetV2" => (resnet::config(&arguments.fields)?, "timm-resnet"),
        "NaFlexVit" => (arguments.naflex()?, "timm-naflex"),
        "Beit" => (arguments.beit()?, "timm-beit"),
        "Eva" => {
            let config = arguments.eva()?;
            // Where heads pair neighboring channels, theirs are in another order than ours.
            let neighbors = matches!(config.rotary, Some(Rotary::Axial { .. } | Rotary::Mixed { .. }));
            (config, if neighbors { "timm-eva" } else { "timm-beit" })
        }
        _ => (arguments.config()?, "timm"),
    };
    let labels = labels(fields, &pretrained)?.filter(|labels| labels.len() == config.classes);
    let tag = pretrained.text("tag")?.or_else(|| given.split_once('.').map(|(_, tag)| tag)).unwrap_or_default();
    let labels = labels.or_else(|| LabelSet::of_tag(tag, config.classes).map(LabelSet::names));
    // CLIP's projection stands where other models have a classifier; fine-tuned ones have names or another width.
    let projects = architecture.contains("_clip_") && !tag.contains("_in1") && labels.is_none();
    let problem = match projects && PROJECTIONS.contains(&config.classes) && !tag.is_empty() {
        true => Problem::Embedding,
        false => config.problem,
    };
    let config = ModelConfig { problem, ..config };
    Ok(Description {
        name: if stem.is_empty() { architecture.to_owned() } else { stem },
        config,
        preprocess: PreprocessSource::Timm(pretrained.to_value()),
        labels,
        license: pretrained.text("license")?.map(str::to_owned),
        precision: None,
        dialect: Some(dialect.into()),
        names: Vec::new(),
        files,
    })
}

/// The architecture with the longest common prefix, as a hint.
fn nearest(name: &str) -> String {
    let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    // What only begins with the same letters is another family.
    let best = architectures().keys().max_by_key(|other| common(other)).filter(|other| common(other) >= "vit_".len());
    best.map_or_else(
        || "`vitral models` lists those that are known".to_owned(),
        |best| format!("the closest name is `{best}`"),
    )
}

/// `label_names` (formerly `labels`), replaced by `label_descriptions` if present; beside `pretrained_cfg` or inside
/// it.
fn labels(fields: &Fields<'_>, pretrained: &Fields<'_>) -> Result<Option<Vec<String>>, WeightsError> {
    for place in [fields, pretrained] {
        let names = place.value("label_names").or_else(|| place.value("labels"));
        if let Some(names) = names.and_then(Value::as_array) {
            let described = place.object("label_descriptions")?;
            let label = |name: &Value| {
                let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                let description = described.as_ref().and_then(|table| table.value(&name)?.as_str());
                description.map_or(name, str::to_owned)
            };
            return Ok(Some(names.iter().map(label).collect()));
        }
    }
    Ok(None)
}

/// The constructor's arguments, from all sources.
struct Arguments<'a> {
    fields: Fields<'a>,
    architecture: &'a str,
}

/// A norm layer's kind and epsilon.
type Norm = (NormKind, f32);

impl Arguments<'_> {
    fn config(&self) -> Result<ModelConfig, WeightsError> {
        let fields = &self.fields;
        let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
        self.refuse_unknown()?;
        let (stem, patch) = self.stem()?;
        let (norm, norm_epsilon) = self.norm("norm_layer")?.unwrap_or((NormKind::Layer, 1e-6));
        let embed_norm = self.norm("embed_norm_layer")?;
        if embed_norm.is_some_and(|embed| embed != (norm, norm_epsilon)) {
            return Err(fields.fault("embed_norm_layer", "expected the same norm as `norm_layer`"));
        }
        let (pooling, pool_prefix) = self.pooling()?;
        let pooled = matches!(fields.text("global_pool")?, Some("avg" | "avgmax" | "max"));
        let fc_norm = truth("fc_norm", pooled)?;
        let final_norm = truth("final_norm", true)?;
        let distilled = fields.text("class")? == Some("VisionTransformerDistilled");
        let (width, heads) = self.width_and_heads()?;
        let hidden = (width as f64 * fields.number("mlp_ratio")?.unwrap_or(4.0)) as usize;
        let (mlp, mlp_width) = self.mlp(hidden)?;
        let block = self.block()?;
        let pre_norm = truth("pre_norm", false)?;
        let registers = fields.count("reg_tokens")?.unwrap_or(0);
        let positions = match fields.text("pos_embed")? {
            Some("" | "none") => Positions::None,
            _ if truth("no_embed_class", false)? => Positions::LearnedPatches,
            _ => Positions::LearnedAll,
        };
        let proj_bias = truth("proj_bias", true)?;
        if block == BlockKind::ParallelScaling && !proj_bias {
            return Err(fields.fault("proj_bias", "not supported in this parallel block: its input always has a bias"));
        }
        if pooling == Pooling::Attention && mlp == MlpKind::Gated {
            return Err(fields.fault("global_pool", "`map` with a gated MLP is not supported"));
        }
        Ok(ModelConfig {
            image_size: fields.size("img_size")?.unwrap_or(Size::square(224)),
            patch_size: patch,
            channels: fields.count("in_chans")?.unwrap_or(3),
            classes: fields.count("num_classes")?.unwrap_or(1000),
            width,
            depth: fields.count("depth")?.unwrap_or(12),
            heads,
            head_width: width / heads,
            mlp_width,
            stem,
            patch_bias: !pre_norm,
            patch_norms: false,
            patch_output_norm: embed_norm.is_some(),
            class_token: truth("class_token", true)?,
            distillation_token: distilled,
            distillation_head: distilled,
            registers,
            positions,
            other_sizes: if truth("dynamic_img_size", false)? {
                OtherSizes::Resample {
                    kernel: PositionResample::BicubicAntialias,
                    pad: truth("dynamic_img_pad", false)?,
                }
            } else {
                OtherSizes::Refuse
            },
            pre_norm,
            block,
            norm,
            norm_epsilon,
            qkv_bias: truth("qkv_bias", true)?,
            qk_scale: None,
            qk_norm: truth("qk_norm", false)?,
            attention_norm: truth("scale_attn_norm", false)?,
            attention_projection: true,
            projection_bias: proj_bias,
            mlp,
            activation: self.activation()?,
            mlp_bias: proj_bias,
            mlp_norm: truth("scale_mlp_norm", false)?,
            layer_scale: self.layer_scale(block)?,
            // The distilled model reads its tokens without `fc_norm`.
            final_norm: final_norm && !fc_norm,
            pooling,
            pool_prefix,
            pooled_norm: final_norm && fc_norm && !distilled,
            drop: self.drop_rates()?,
            ..ModelConfig::default()
        })
    }

    /// The dropout rates, which all but BEiT name alike.
    fn drop_rates(&self) -> Result<DropRates, WeightsError> {
        let rate = |key: &str| Ok::<_, WeightsError>(self.fields.number(key)?.unwrap_or(0.0) as f32);
        Ok(DropRates {
            hidden: rate("proj_drop_rate")?,
            attention: rate("attn_drop_rate")?,
            positions: rate("pos_drop_rate")?,
            head: rate("drop_rate")?,
            path: rate("drop_path_rate")?,
            patches: rate("patch_drop_rate")?,
        })
    }

    /// Rejects unknown arguments: silently ignoring one would give another model.
    fn refuse_unknown(&self) -> Result<(), WeightsError> {
        const READ: [&str; 38] = [
            "img_size",
            "patch_size",
            "in_chans",
            "num_classes",
            "global_pool",
            "embed_dim",
            "depth",
            "num_heads",
            "mlp_ratio",
            "qkv_bias",
            "qk_norm",
            "scale_attn_norm",
            "scale_mlp_norm",
            "proj_bias",
            "init_values",
            "class_token",
            "pos_embed",
            "no_embed_class",
            "reg_tokens",
            "pre_norm",
            "final_norm",
            "fc_norm",
            "pool_include_prefix",
            "dynamic_img_size",
            "dynamic_img_pad",
            "drop_rate",
            "pos_drop_rate",
            "patch_drop_rate",
            "proj_drop_rate",
            "attn_drop_rate",
            "drop_path_rate",
            "embed_norm_layer",
            "norm_layer",
            "act_layer",
            "block_fn",
            "mlp_layer",
            "stem",
            "attn_layer",
        ];
        for key in self.fields.keys().filter(|key| self.fields.has(key)) {
            if !READ.contains(&key) && !WITHOUT_EFFECT.contains(&key) {
                return Err(self.fields.fault(key, "this argument of timm's VisionTransformer is not supported"));
            }
        }
        match self.fields.text("attn_layer")? {
            None | Some("" | "attn" | "Attention") => Ok(()),
            Some(other) => Err(self.unsupported("attn_layer", other)),
        }
    }

    fn width_and_heads(&self) -> Result<(usize, usize), WeightsError> {
        let width = self.fields.count("embed_dim")?.unwrap_or(768);
        let heads = self.fields.count("num_heads")?.unwrap_or(12);
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(self
                .fields
                .fault("num_heads", format!("the width {width} is not a multiple of {heads} heads")));
        }
        Ok((width, heads))
    }

    fn unsupported(&self, key: &str, found: &str) -> WeightsError {
        self.fields.fault(key, format!("`{found}` (architecture `{}`) is not supported", self.architecture))
    }

    fn stem(&self) -> Result<(Stem, Size), WeightsError> {
        let Some(stem) = self.fields.object("stem")? else {
            return Ok((Stem::Patches, self.fields.size("patch_size")?.unwrap_or(Size::square(16))));
        };
        let kind = stem.text("kind")?.unwrap_or_default();
        let layers = stem.value("layers").and_then(Value::as_array).cloned().unwrap_or_default();
        let layers: Vec<usize> = layers.iter().filter_map(Value::as_u64).map(|count| count as usize).collect();
        let patch = self.fields.size("patch_size")?.unwrap_or(Size::square(1));
        match kind {
            "resnetv2" => {}
            "resnetd" => {
                let resnet = ResNetD { layers, root_width: 32, stage_width: 64, norm_epsilon: 1e-5 };
                return Ok((Stem::ResNetD(resnet), patch));
            }
            other => return Err(self.unsupported("stem", other)),
        }
        let hybrid = ResNetV2 {
            layers,
            width_factor: 1.0,
            root: Root::Large,
            padding: if stem.truth("padding_same")?.unwrap_or(true) { Border::Same } else { Border::Symmetric },
            groups: 32,
            standardization_epsilon: 1e-8,
            norm_epsilon: 1e-5,
        };
        Ok((Stem::Hybrid(hybrid), patch))
    }

    fn norm(&self, key: &str) -> Result<Option<Norm>, WeightsError> {
        let (name, epsilon) = match self.fields.value(key) {
            None => return Ok(None),
            Some(Value::String(name)) if name.is_empty() => return Ok(None),
            Some(Value::String(name)) => (name.as_str(), None),
            Some(_) => match self.fields.object(key)? {
                Some(layer) => (layer.text("name")?.unwrap_or_default(), layer.number("eps")?),
                None => return Ok(None),
            },
        };
        // Names are matched as in timm: ignoring underscores and case.
        let plain = name.replace('_', "").to_lowercase();
        let kind = match plain.as_str() {
            "layernorm" | "layernormfp32" => NormKind::Layer,
            "rmsnorm" | "rmsnormfp32" => NormKind::Rms,
            _ => return Err(self.unsupported(key, name)),
        };
        Ok(Some((kind, epsilon.unwrap_or(1e-6) as f32)))
    }

    fn pooling(&self) -> Result<(Pooling, bool), WeightsError> {
        let prefix = self.fields.truth("pool_include_prefix")?.unwrap_or(false);
        Ok(match self.fields.text("global_pool")?.unwrap_or("token") {
            "token" => (Pooling::Class, false),
            "avg" if prefix => (Pooling::MeanAll, false),
            "avg" => (Pooling::Mean, false),
            "max" => (Pooling::Max, prefix),
            "avgmax" => (Pooling::AverageMax, prefix),
            "map" => (Pooling::Attention, prefix),
            "" => (Pooling::None, false),
            other => return Err(self.unsupported("global_pool", other)),
        })
    }

    /// The MLP's kind and width; a packed gate shares the hidden width with the values it gates.
    fn mlp(&self, hidden: usize) -> Result<(MlpKind, usize), WeightsError> {
        let name = match self.fields.value("mlp_layer") {
            None => "Mlp",
            Some(Value::String(name)) => name,
            Some(Value::Object(layer)) if layer.get("gate_last") == Some(&Value::Bool(false)) => "SwiGLUPacked",
            Some(_) => "GluMlp",
        };
        match name {
            "Mlp" => Ok((MlpKind::Plain, hidden)),
            "SwiGLU" => Ok((MlpKind::Gated, hidden)),
            "SwiGLUPacked" => Ok((MlpKind::Gated, hidden / 2)),
            other => Err(self.unsupported("mlp_layer", other)),
        }
    }

    fn block(&self) -> Result<BlockKind, WeightsError> {
        match self.fields.text("block_fn")?.unwrap_or("Block") {
            "Block" => Ok(BlockKind::PreNorm),
            "ResPostBlock" => Ok(BlockKind::ResidualPostNorm),
            "ParallelScalingBlock" => Ok(BlockKind::ParallelScaling),
            "ParallelThingsBlock" => Ok(BlockKind::ParallelPairs),
            other => Err(self.unsupported("block_fn", other)),
        }
    }

    fn activation(&self) -> Result<Activation, WeightsError> {
        match self.fields.text("act_layer")? {
            None | Some("") => Ok(Activation::Gelu),
            Some(_) => Ok(self.fields.activation("act_layer")?.unwrap_or(Activation::Gelu)),
        }
    }

    /// `ResPostBlock` only initializes its norms with the value; other blocks treat 0 as absent, except the parallel
    /// one.
    fn layer_scale(&self, block: BlockKind) -> Result<Option<f32>, WeightsError> {
        let value = self.fields.number("init_values")?.map(|value| value as f32);
        Ok(match block {
            BlockKind::ResidualPostNorm => None,
            BlockKind::ParallelScaling => value,
            _ => value.filter(|value| *value != 0.0),
        })
    }
}
