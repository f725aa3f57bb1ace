//! The text tower beside a vision tower: its configuration, and where its tokenizer is.

use std::path::{Path, PathBuf};

use super::fields::{Fields, read_json};
use super::huggingface::nested;
use super::{load_description, weight_files};
use crate::config::{Activation, Problem, TextConfig, TextPooling};
use crate::weights::{Container, WeightsError};

/// What a folder says about its text tower.
#[derive(Clone, Debug)]
pub struct TextDescription {
    /// The architecture.
    pub config: TextConfig,
    /// The dialect of its tensors.
    pub dialect: &'static str,
    /// How similarities become probabilities: a softmax over texts (CLIP), or a sigmoid of each (SigLIP).
    pub problem: Problem,
    /// Weight files, with those of the vision tower.
    pub files: Vec<PathBuf>,
    /// The folder with the tokenizer's files.
    pub folder: PathBuf,
    /// The token that fills a text up, for towers that take texts of one length, if the tokenizer names none.
    pub padding: u32,
}

/// Reads the text tower of a Hugging Face folder of CLIP or SigLIP, or of an OpenAI or OpenCLIP checkpoint that `config`
/// describes.
///
/// # Errors
/// If there is no text tower, or its files contradict each other.
pub fn load_text_description(path: &Path, config: Option<&Path>) -> Result<TextDescription, WeightsError> {
    let no_tower = |fault: &str| WeightsError::NoTextTower { path: path.to_owned(), fault: fault.to_owned() };
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let description = load_description(path, config)?;
    if description.dialect.as_deref() == Some("openai-clip") {
        return openai(path, description.config.activation, description.files, folder);
    }
    let file = config.map_or_else(|| path.join("config.json"), Path::to_owned);
    if !file.is_file() {
        return Err(no_tower("expected the Hugging Face folder of a CLIP or SigLIP model"));
    }
    let json = read_json(&file)?;
    let fields = Fields::new(&file, &json)?;
    let nested = nested(&fields, "text_config", "text_config_dict")?;
    let kind = fields.text("model_type")?.unwrap_or_default();
    let files = if path.is_dir() { weight_files(path)? } else { vec![path.to_owned()] };
    let Some(text) = nested else {
        return Err(no_tower(match kind {
            "clip_vision_model" | "siglip_vision_model" | "siglip2_vision_model" => {
                "this is the vision tower alone; use the folder of the whole model"
            }
            _ => "`config.json` has no `text_config`",
        }));
    };
    let (config, dialect) = match kind {
        "clip" => (clip(&fields, &text)?, "huggingface-clip-text"),
        "siglip" | "siglip2" => (siglip(&text)?, "huggingface-siglip-text"),
        other => {
            let fault = format!("`{other}` has no text tower that is known; expected clip, siglip or siglip2");
            return Err(fields.fault("model_type", fault));
        }
    };
    let clip = kind == "clip";
    let padding = text.count("pad_token_id")?.and_then(|token| u32::try_from(token).ok());
    Ok(TextDescription {
        config,
        dialect,
        problem: if clip { Problem::SingleLabel } else { Problem::MultiLabel },
        files,
        folder: folder.to_owned(),
        padding: padding.unwrap_or(1),
    })
}

/// The part common to all towers.
fn common(fields: &Fields<'_>, usual: TextConfig) -> Result<TextConfig, WeightsError> {
    let width = fields.count("hidden_size")?.unwrap_or(usual.width);
    let heads = fields.count("num_attention_heads")?.unwrap_or(usual.heads);
    if heads == 0 || !width.is_multiple_of(heads) {
        let fault = format!("the width {width} is not a multiple of {heads} heads");
        return Err(fields.fault("num_attention_heads", fault));
    }
    Ok(TextConfig {
        vocabulary: fields.count("vocab_size")?.unwrap_or(usual.vocabulary),
        context: fields.count("max_position_embeddings")?.unwrap_or(usual.context),
        width,
        depth: fields.count("num_hidden_layers")?.unwrap_or(usual.depth),
        heads,
        mlp_width: fields.count("intermediate_size")?.unwrap_or(usual.mlp_width),
        activation: fields.activation("hidden_act")?.unwrap_or(usual.activation),
        norm_epsilon: fields.number("layer_norm_eps")?.map_or(usual.norm_epsilon, |epsilon| epsilon as f32),
        ..usual
    })
}

/// The defaults are those of transformers' `CLIPTextConfig`.
fn clip(all: &Fields<'_>, text: &Fields<'_>) -> Result<TextConfig, WeightsError> {
    let usual = TextConfig {
        vocabulary: 49_408,
        context: 77,
        width: 512,
        depth: 12,
        heads: 8,
        mlp_width: 2048,
        activation: Activation::QuickGelu,
        norm_epsilon: 1e-5,
        causal: true,
        pooling: TextPooling::Largest,
        space: Some(512),
        space_bias: false,
    };
    let end = text.count("eos_token_id")?.unwrap_or(49_407);
    let pooling = match u32::try_from(end) {
        // Older files say 2, which was never the token that ends a text.
        Ok(2) | Err(_) => TextPooling::Largest,
        Ok(end) => TextPooling::First { end },
    };
    let space = match all.count("projection_dim")? {
        Some(space) => space,
        None => text.count("projection_dim")?.unwrap_or(512),
    };
    Ok(TextConfig { pooling, space: Some(space), ..common(text, usual)? })
}

/// The defaults are those of transformers' `SiglipTextConfig`.
fn siglip(text: &Fields<'_>) -> Result<TextConfig, WeightsError> {
    let usual = TextConfig {
        vocabulary: 32_000,
        context: 64,
        width: 768,
        depth: 12,
        heads: 12,
        mlp_width: 3072,
        activation: Activation::GeluTanh,
        norm_epsilon: 1e-6,
        causal: false,
        pooling: TextPooling::Last,
        space: None,
        space_bias: true,
    };
    let config = common(text, usual)?;
    let space = text.count("projection_size")?.unwrap_or(config.width);
    Ok(TextConfig { space: Some(space), ..config })
}

/// OpenAI's and OpenCLIP's files: only tensors. Heads are 64 wide in all of their text towers.
fn openai(
    path: &Path,
    activation: Activation,
    files: Vec<PathBuf>,
    folder: &Path,
) -> Result<TextDescription, WeightsError> {
    const HEAD_WIDTH: usize = 64;
    let container = Container::open_files(&files, None)?;
    let shape = |name: &str| {
        let spellings = [name.to_owned(), format!("text.{name}"), format!("module.{name}")];
        spellings.iter().find_map(|name| container.shape(name)).unwrap_or_default()
    };
    let block = |index: usize, name: &str| format!("transformer.resblocks.{index}.{name}");
    let (&[vocabulary, width], &[context, _], &[_, space], &[mlp_width, _]) = (
        shape("token_embedding.weight"),
        shape("positional_embedding"),
        shape("text_projection"),
        shape(&block(0, "mlp.c_fc.weight")),
    ) else {
        let fault = "expected `token_embedding.weight`, `positional_embedding`, `text_projection` and \
                     `transformer.resblocks.0.…` in its weights";
        return Err(WeightsError::NoTextTower { path: path.to_owned(), fault: fault.to_owned() });
    };
    let config = TextConfig {
        vocabulary,
        context,
        width,
        depth: (0..).take_while(|&index| !shape(&block(index, "ln_1.weight")).is_empty()).count(),
        heads: width.div_ceil(HEAD_WIDTH),
        mlp_width,
        activation,
        norm_epsilon: 1e-5,
        causal: true,
        pooling: TextPooling::Largest,
        space: Some(space),
        space_bias: false,
    };
    Ok(TextDescription {
        config,
        dialect: "openai-clip-text",
        problem: Problem::SingleLabel,
        files,
        folder: folder.to_owned(),
        padding: 0,
    })
}
