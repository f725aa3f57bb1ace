//! Hugging Face transformers: `config.json` of ViT, DeiT, DINOv2, DINOv3, BEiT, CLIP, SigLIP and related models.
//!
//! A saved file may omit defaults, which are those of the library's configuration classes.

use std::path::{Path, PathBuf};

use super::contents::{Description, PreprocessSource};
use super::fields::{Fields, read_json};
use crate::config::{
    Activation, DropRates, MlpKind, ModelConfig, OtherSizes, Pooling, PositionResample, Positions, Problem,
    RelativePositions, RelativeResample, Rotary, Size,
};
use crate::weights::{Container, WeightsError};

/// What follows the encoder in a model class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// The encoder with its own pooling.
    Base,
    /// A classifier.
    Classifier,
    /// DeiT's classifier with two heads.
    Teacher,
    /// CLIP's image embedding.
    Projection,
}

/// Every `model_type` that can be read.
pub(crate) const MODEL_TYPES: [&str; 15] = [
    "vit",
    "vit_msn",
    "vit_mae",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "beit",
    "data2vec-vision",
    "clip",
    "clip_vision_model",
    "siglip",
    "siglip_vision_model",
    "siglip2",
    "siglip2_vision_model",
];

/// Reads a folder's `config.json`, and its processor's file.
pub(super) fn folder(
    fields: &Fields<'_>,
    folder: &Path,
    stem: String,
    files: Vec<PathBuf>,
) -> Result<Description, WeightsError> {
    let named = fields.value("architectures").and_then(|value| value.as_array()?.first()?.as_str());
    let class = match named {
        Some(class) => class,
        None => by_tensors(&files),
    };
    let kind = fields.text("model_type")?.unwrap_or_default();
    // Models of image and text nest the vision tower's settings; class counts stay outside.
    let nested = nested(fields, "vision_config", "vision_config_dict")?;
    let vision = nested.as_ref().unwrap_or(fields);
    let task = match class {
        _ if class.ends_with("ForImageClassificationWithTeacher") => Task::Teacher,
        _ if class.ends_with("ForImageClassification") => Task::Classifier,
        "CLIPVisionModelWithProjection" | "CLIPModel" => Task::Projection,
        _ => Task::Base,
    };
    let (mut config, dialect) = match kind {
        "vit" | "vit_msn" | "vit_mae" => (vit(vision, class, kind)?, "huggingface-vit"),
        "deit" => (deit(vision, class, task)?, "huggingface-deit"),
        "dinov2" | "dinov2_with_registers" => (dinov2(vision, kind, task)?, "huggingface-dinov2"),
        "dinov3_vit" => (dinov3(vision, class)?, "huggingface-dinov3"),
        "beit" | "data2vec-vision" => (beit(vision, class)?, "huggingface-beit"),
        "clip" | "clip_vision_model" => (clip(fields, vision, class, task)?, "huggingface-clip"),
        "siglip" | "siglip_vision_model" => (siglip(vision, task)?, "huggingface-siglip"),
        "siglip2" | "siglip2_vision_model" => (siglip2(vision, task)?, "huggingface-siglip2"),
        "" => {
            return Err(
                fields.fault("model_type", "missing, so the architecture is not known; add it, for example `vit`")
            );
        }
        other => {
            return Err(fields.fault(
                "model_type",
                format!("`{other}` is not a known Vision Transformer; expected one of {}", MODEL_TYPES.join(", ")),
            ));
        }
    };
    let labels = labels(fields)?;
    if matches!(task, Task::Classifier | Task::Teacher) {
        config.classes = match &labels {
            Some(labels) => labels.len(),
            None => fields.count("num_labels")?.unwrap_or(2),
        };
        config.problem = problem(fields)?;
    }
    let preprocess = processor(fields, folder, kind)?;
    let name = fields.text("_name_or_path")?.filter(|name| !name.is_empty()).map_or(stem, str::to_owned);
    let labels = labels.filter(|labels| labels.len() == config.classes);
    let mut description = Description {
        name,
        config,
        preprocess,
        labels,
        license: fields.text("license")?.map(str::to_owned),
        precision: None,
        dialect: Some(dialect.into()),
        names: Vec::new(),
        files,
    };
    without_absent_pooler(&mut description)?;
    Ok(description)
}

/// The settings of a tower. CLIP's files of 2021 have them under another name, which counts where both are there, as in
/// transformers.
pub(super) fn nested<'a>(fields: &Fields<'a>, name: &str, before: &str) -> Result<Option<Fields<'a>>, WeightsError> {
    match fields.object(before)? {
        Some(settings) => Ok(Some(settings)),
        None => fields.object(name),
    }
}

/// The class whose head the files hold, where `config.json` names none. The library's pipelines choose the class by their
/// task, and only the tensors show which task the model was saved for.
fn by_tensors(files: &[PathBuf]) -> &'static str {
    // A file that cannot be read is reported where its weights are.
    let Ok(container) = Container::open_files(files, None) else { return "" };
    let has = |part: &str| {
        container.names().any(|name| {
            let at = name.rfind(part);
            at.is_some_and(|at| at == 0 || name.as_bytes()[at - 1] == b'.')
        })
    };
    match () {
        () if has("cls_classifier.weight") => "ForImageClassificationWithTeacher",
        () if has("classifier.weight") || (0..4).any(|place| has(&format!("classifier.{place}.weight"))) => {
            "ForImageClassification"
        }
        () if has("visual_projection.weight") && has("logit_scale") => "CLIPModel",
        () if has("visual_projection.weight") => "CLIPVisionModelWithProjection",
        () => "",
    }
}

/// The processor's settings: `image_processor` in `processor_config.json` as transformers 5 writes it, or else
/// `preprocessor_config.json`. The class may also be named by `config.json`.
fn processor(fields: &Fields<'_>, folder: &Path, kind: &str) -> Result<PreprocessSource, WeightsError> {
    let read = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { read_json(&path).map(Some) } else { Ok(None) }
    };
    let nested = read("processor_config.json")?.and_then(|mut value| Some(value.get_mut("image_processor")?.take()));
    let found = match nested.filter(|value| value.is_object()) {
        Some(nested) => Some(nested),
        None => read("preprocessor_config.json")?,
    };
    let Some(mut processor) = found else { return Ok(PreprocessSource::Absent) };
    if let (Some(class), Some(settings)) = (fields.text("image_processor_type")?, processor.as_object_mut())
        && !["image_processor_type", "feature_extractor_type"].iter().any(|key| settings.contains_key(*key))
    {
        settings.insert("image_processor_type".into(), class.into());
    }
    Ok(PreprocessSource::HuggingFace { processor, model_type: Some(kind.to_owned()).filter(|kind| !kind.is_empty()) })
}

/// `ViTModel` may be saved with or without its pooler, and Data2Vec's model has none. Only the weights show which, not
/// the configuration. Without a pooler, the class token is the feature vector.
fn without_absent_pooler(description: &mut Description) -> Result<(), WeightsError> {
    let of_beit = description.dialect.as_deref() == Some("huggingface-beit") && description.config.pooled_norm;
    if description.config.pre_logits.is_some() || of_beit {
        let container = description.open()?;
        let last = if of_beit { "pooler.layernorm.weight" } else { "pooler.dense.weight" };
        if !container.names().any(|name| name.ends_with(last)) {
            description.config.pre_logits = None;
            description.config.pre_logits_activation = Activation::Tanh;
            if of_beit {
                description.config.pooled_norm = false;
                description.config.pooling = Pooling::Class;
            }
        }
    }
    Ok(())
}

/// The part common to all models.
fn common(
    fields: &Fields<'_>,
    patch: usize,
    epsilon: f64,
    activation: Activation,
) -> Result<ModelConfig, WeightsError> {
    let width = fields.count("hidden_size")?.unwrap_or(768);
    let heads = fields.count("num_attention_heads")?.unwrap_or(12);
    sized(fields, (patch, epsilon), activation, [width, heads, 3072])
}

/// The same with this width, number of heads, and width of the MLP if the file does not say.
fn sized(
    fields: &Fields<'_>,
    (patch, epsilon): (usize, f64),
    activation: Activation,
    [width, heads, mlp_width]: [usize; 3],
) -> Result<ModelConfig, WeightsError> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(
            fields.fault("num_attention_heads", format!("the width {width} is not a multiple of {heads} heads"))
        );
    }
    Ok(ModelConfig {
        image_size: fields.size("image_size")?.unwrap_or(Size::square(224)),
        patch_size: fields.size("patch_size")?.unwrap_or(Size::square(patch)),
        channels: fields.count("num_channels")?.unwrap_or(3),
        classes: 0,
        width,
        depth: fields.count("num_hidden_layers")?.unwrap_or(12),
        heads,
        head_width: fields.count("head_dim")?.unwrap_or(width / heads),
        mlp_width: fields.count("intermediate_size")?.unwrap_or(mlp_width),
        norm_epsilon: fields.number("layer_norm_eps")?.unwrap_or(epsilon) as f32,
        qkv_bias: fields.truth("qkv_bias")?.unwrap_or(true),
        activation: fields.activation("hidden_act")?.unwrap_or(activation),
        other_sizes: OtherSizes::Resample { kernel: PositionResample::Bicubic, pad: false },
        drop: DropRates {
            hidden: fields.number("hidden_dropout_prob")?.unwrap_or(0.0) as f32,
            positions: fields.number("hidden_dropout_prob")?.unwrap_or(0.0) as f32,
            attention: match fields.number("attention_probs_dropout_prob")? {
                Some(rate) => rate as f32,
                None => fields.number("attention_dropout")?.unwrap_or(0.0) as f32,
            },
            path: fields.number("drop_path_rate")?.unwrap_or(0.0) as f32,
            ..DropRates::default()
        },
        ..ModelConfig::default()
    })
}

/// The pooler of `ViTModel` and `DeiTModel`: a linear map of the class token, then an activation function.
fn pooler(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), WeightsError> {
    config.pre_logits = Some(fields.count("pooler_output_size")?.unwrap_or(config.width));
    config.pre_logits_activation = fields.activation("pooler_act")?.unwrap_or(Activation::Tanh);
    Ok(())
}

fn vit(fields: &Fields<'_>, class: &str, kind: &str) -> Result<ModelConfig, WeightsError> {
    let epsilon = if kind == "vit_msn" { 1e-6 } else { 1e-12 };
    let mut config = common(fields, 16, epsilon, Activation::Gelu)?;
    if kind == "vit" && matches!(class, "ViTModel" | "") {
        pooler(fields, &mut config)?;
    }
    Ok(config)
}

fn deit(fields: &Fields<'_>, class: &str, task: Task) -> Result<ModelConfig, WeightsError> {
    let mut config = common(fields, 16, 1e-12, Activation::Gelu)?;
    config.distillation_token = true;
    config.distillation_head = task == Task::Teacher;
    if matches!(class, "DeiTModel" | "") {
        pooler(fields, &mut config)?;
    }
    Ok(config)
}

fn dinov2(fields: &Fields<'_>, kind: &str, task: Task) -> Result<ModelConfig, WeightsError> {
    let with_registers = kind == "dinov2_with_registers";
    let mut config = common(fields, if with_registers { 16 } else { 14 }, 1e-6, Activation::Gelu)?;
    let ratio = fields.number("mlp_ratio")?.unwrap_or(4.0);
    config.mlp_width = (config.width as f64 * ratio) as usize;
    if fields.truth("use_swiglu_ffn")?.unwrap_or(false) {
        // Two thirds of the plain width, rounded up to a multiple of 8, as in DINOv2.
        config.mlp_width = ((config.mlp_width as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8;
        config.mlp = MlpKind::Gated;
        config.activation = Activation::Silu;
    }
    config.layer_scale = Some(fields.number("layerscale_value")?.unwrap_or(1.0) as f32);
    if with_registers {
        config.registers = fields.count("num_register_tokens")?.unwrap_or(4);
        config.positions = Positions::LearnedWithoutRegisters;
        config.other_sizes = OtherSizes::Resample { kernel: PositionResample::BicubicAntialias, pad: false };
    }
    if task == Task::Classifier {
        config.pooling = Pooling::ClassAndMean;
    }
    Ok(config)
}

fn dinov3(fields: &Fields<'_>, class: &str) -> Result<ModelConfig, WeightsError> {
    if !matches!(class, "" | "DINOv3ViTModel" | "DINOv3ViTBackbone") {
        return Err(fields.fault("architectures", format!("expected `DINOv3ViTModel`, found `{class}`")));
    }
    let width = fields.count("hidden_size")?.unwrap_or(384);
    let heads = fields.count("num_attention_heads")?.unwrap_or(6);
    let mut config = sized(fields, (16, 1e-5), Activation::Gelu, [width, heads, 1536])?;
    let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
    let biases = [truth("query_bias", true)?, truth("key_bias", false)?, truth("value_bias", true)?];
    (config.qkv_bias, config.key_bias) = match biases {
        [true, true, true] => (true, true),
        [true, false, true] => (true, false),
        [false, false, false] => (false, true),
        _ => return Err(fields.fault("query_bias", "expected a bias on both query and value, or on neither")),
    };
    config.projection_bias = truth("proj_bias", true)?;
    config.mlp_bias = truth("mlp_bias", true)?;
    if truth("use_gated_mlp", false)? {
        config.mlp = MlpKind::Gated;
    }
    config.layer_scale = Some(fields.number("layerscale_value")?.unwrap_or(1.0) as f32);
    config.registers = fields.count("num_register_tokens")?.unwrap_or(0);
    config.positions = Positions::None;
    config.rotary = Some(Rotary::Normalized { theta: fields.number("rope_theta")?.unwrap_or(100.0) as f32 });
    Ok(config)
}

fn beit(fields: &Fields<'_>, class: &str) -> Result<ModelConfig, WeightsError> {
    let task = class.strip_prefix("Beit").or_else(|| class.strip_prefix("Data2VecVision")).unwrap_or(class);
    if !matches!(task, "" | "Model" | "ForImageClassification" | "ForMaskedImageModeling") {
        let fault = format!("`{class}` is not supported; expected a model, a classifier or masked image modeling");
        return Err(fields.fault("architectures", fault));
    }
    let mut config = common(fields, 16, 1e-12, Activation::Gelu)?;
    let truth = |key: &str, default: bool| Ok::<_, WeightsError>(fields.truth(key)?.unwrap_or(default));
    (config.qkv_bias, config.key_bias) = (true, false);
    config.layer_scale =
        Some(fields.number("layer_scale_init_value")?.unwrap_or(0.1) as f32).filter(|&scale| scale > 0.0);
    config.positions =
        if truth("use_absolute_position_embeddings", false)? { Positions::LearnedAll } else { Positions::None };
    let tables = (truth("use_relative_position_bias", false)?, truth("use_shared_relative_position_bias", false)?);
    config.relative_positions = match tables {
        (false, false) => RelativePositions::None,
        (true, false) => RelativePositions::Blocks,
        (false, true) => RelativePositions::Shared,
        (true, true) => RelativePositions::Both,
    };
    config.relative_resample = RelativeResample::Linear;
    let squares = [("image_size", config.image_size), ("patch_size", config.patch_size)];
    if let Some((key, size)) = squares.into_iter().find(|(_, size)| size.height != size.width) {
        let fault = format!("{size}: transformers' BEiT swaps the sides of a grid; expected a square");
        return Err(fields.fault(key, fault));
    }
    config.drop.path = fields.number("drop_path_rate")?.unwrap_or(0.1) as f32;
    // Masked image modeling normalizes all tokens; with mean pooling, the pooler normalizes the mean.
    if task != "ForMaskedImageModeling" && truth("use_mean_pooling", true)? {
        config.pooling = Pooling::Mean;
        config.final_norm = false;
        config.pooled_norm = true;
    }
    Ok(config)
}

fn clip(all: &Fields<'_>, vision: &Fields<'_>, class: &str, task: Task) -> Result<ModelConfig, WeightsError> {
    let mut config = common(vision, 32, 1e-5, Activation::QuickGelu)?;
    config.patch_bias = false;
    config.pre_norm = true;
    config.final_norm = false;
    config.pooled_norm = true;
    match task {
        Task::Projection => {
            let given = if class == "CLIPModel" { all.count("projection_dim")? } else { None };
            config.classes = match given {
                Some(width) => width,
                None => vision.count("projection_dim")?.unwrap_or(512),
            };
            config.head_bias = false;
            config.problem = Problem::Embedding;
        }
        Task::Classifier => {
            config.pooling = Pooling::Mean;
            config.pooled_norm = false;
        }
        Task::Base | Task::Teacher => {}
    }
    Ok(config)
}

fn siglip(fields: &Fields<'_>, task: Task) -> Result<ModelConfig, WeightsError> {
    let mut config = common(fields, 16, 1e-6, Activation::GeluTanh)?;
    config.class_token = false;
    config.positions = Positions::LearnedPatches;
    config.pooling = match task {
        Task::Classifier => Pooling::Mean,
        _ if fields.truth("vision_use_head")?.unwrap_or(true) => Pooling::Attention,
        _ => Pooling::None,
    };
    Ok(config)
}

/// SigLIP 2 in the form that packs images of any proportions (NaFlex): its positions are a square grid, which is resampled
/// to each image's own.
fn siglip2(fields: &Fields<'_>, task: Task) -> Result<ModelConfig, WeightsError> {
    let patches = fields.count("num_patches")?.unwrap_or(256);
    let side = patches.isqrt();
    if side * side != patches {
        return Err(fields.fault("num_patches", format!("expected a square number, found {patches}")));
    }
    let mut config = siglip(fields, task)?;
    let patch = config.patch_size;
    let pixels = |patch: usize| {
        let pixels = side.checked_mul(patch).filter(|pixels| *pixels <= 1 << 20);
        pixels.ok_or_else(|| fields.fault("num_patches", format!("{patches} patches of {patch} pixels are too many")))
    };
    config.image_size = Size { height: pixels(patch.height)?, width: pixels(patch.width)? };
    config.other_sizes = OtherSizes::Resample { kernel: PositionResample::LinearAntialias, pad: false };
    Ok(config)
}

/// `problem_type`. Without one, the library's pipeline takes the sigmoid of a single class and the softmax of several, as we
/// do.
fn problem(fields: &Fields<'_>) -> Result<Problem, WeightsError> {
    match fields.text("problem_type")? {
        None | Some("single_label_classification") => Ok(Problem::SingleLabel),
        Some("multi_label_classification") => Ok(Problem::MultiLabel),
        Some("regression") => Ok(Problem::Regression),
        Some(other) => {
            let known = "single_label_classification, multi_label_classification or regression";
            Err(fields.fault("problem_type", format!("expected {known}, found `{other}`")))
        }
    }
}

/// `id2label`, in class order.
fn labels(fields: &Fields<'_>) -> Result<Option<Vec<String>>, WeightsError> {
    let Some(table) = fields.object("id2label")? else {
        return Ok(None);
    };
    let mut labels = vec![None; table.keys().count()];
    for key in table.keys() {
        let place = key.parse::<usize>().ok().and_then(|index| labels.get_mut(index));
        let place = place.ok_or_else(|| fields.fault("id2label", format!("class `{key}` is out of order")))?;
        // Some files have numbers as names.
        *place = table.value(key).map(|label| label.as_str().map_or_else(|| label.to_string(), str::to_owned));
    }
    Ok(Some(labels.into_iter().map(Option::unwrap_or_default).collect()))
}
