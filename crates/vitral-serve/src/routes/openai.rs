//! OpenAI's paths: embeddings of images and texts, and the list of models.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use vitral::explain::Method;
use vitral::image::Format;

use super::upload::kind;
use super::vitral::features;
use crate::app::App;
use crate::body;
use crate::fault::{Fault, Kind};
use crate::job::{Input, Task};
use crate::runner::Runner;
use crate::statuses::OpenAiFaults;
use crate::texts::TextVectors;
use crate::trace::Served;
use crate::wire::{encoded, tensors};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
}

/// A request for embeddings.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingsBody {
    /// Name of a model; the first if absent.
    #[serde(default)]
    model: Option<String>,
    /// One image as a data URI, or in base64 by itself for a model that takes no texts; one text for a model that takes texts; or
    /// a list of them.
    #[schema(examples("data:image/png;base64,iVBORw0KGgo…"))]
    input: Value,
    /// `float` or `base64`: four bytes a number, little-endian.
    #[serde(default)]
    encoding_format: Option<Encoding>,
    /// The width of the vectors; only the model's own.
    #[serde(default)]
    dimensions: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// Embeddings.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Embeddings {
    /// `list`
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize, ToSchema)]
struct Embedding {
    /// `embedding`
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// Numbers, or their bytes in base64.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Text(String),
}

/// Tokens of the texts; images have none.
#[derive(Debug, Serialize, ToSchema)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Embeddings of images and texts
///
/// Texts are for models of images and texts (CLIP, SigLIP), whose vectors are compared by the cosine.
#[utoipa::path(post, path = "/v1/embeddings", tag = "OpenAI", request_body = EmbeddingsBody,
    responses((status = 200, description = "A vector for each image or text", body = Embeddings), OpenAiFaults))]
pub(crate) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    app.check_open()?;
    let received = body::read(&app, request).await?;
    body::check_values(&received.body)?;
    let body: EmbeddingsBody = serde_json::from_slice(&received.body)
        .map_err(|fault| Fault::bad(format!("expected a request for embeddings in JSON: {fault}")))?;
    let runner = app.model(body.model.as_deref())?;
    runner.model().check_pools("feature")?;
    let width = runner.width();
    if let Some(asked) = body.dimensions.filter(|&asked| asked != width) {
        return Err(Fault::bad(format!("expected `dimensions` of {width}, the model's own, found {asked}")));
    }
    let texts = match body.input {
        Value::String(text) => vec![text],
        Value::Array(list) => {
            let text = |(index, element)| match element {
                Value::String(text) => Ok(text),
                other => {
                    let found = kind(&other);
                    Err(Fault::bad(format!("input {index}: expected an image as a data URI or a text, found {found}")))
                }
            };
            list.into_iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?
        }
        other => {
            return Err(Fault::bad(format!(
                "expected images as data URIs or texts in `input`, found {}",
                kind(&other)
            )));
        }
    };
    let is_plain = texts.iter().any(|text| !encoded::is_uri(text));
    let pieces = texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| piece(&runner, text).map_err(|fault| fault.at(&format!("input {index}"))));
    let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
    let Vectors { vectors, images, tokens } = vectors(&runner, pieces).await.map_err(|fault| {
        // A word may be base64, too.
        match fault.kind() == Kind::NotAnImage && is_plain {
            true => not_a_text(&runner, fault),
            false => fault,
        }
    })?;
    let format = body.encoding_format.unwrap_or_default();
    let embedding = |(index, values): (usize, Vec<f32>)| {
        let embedding = match format {
            Encoding::Float => Vector::Numbers(values),
            Encoding::Base64 => Vector::Text(encoded::base64(&tensors::from_floats(&values))),
        };
        Embedding { object: "embedding", index, embedding }
    };
    let data = vectors.into_iter().enumerate().map(embedding).collect();
    let model = runner.name().to_owned();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    let mut response = Json(Embeddings { object: "list", data, model: model.clone(), usage }).into_response();
    response.extensions_mut().insert(Served { model, images });
    Ok(response)
}

/// What is to be embedded.
enum Piece {
    Image(Input),
    Text(String),
}

/// What a string of a request stands for. Images are data URIs; for models of images alone, base64 by itself is enough.
fn piece(runner: &Runner, text: String) -> Result<Piece, Fault> {
    let is_uri = encoded::is_uri(&text);
    if runner.takes_texts() && !is_uri {
        // An image that was meant as one would be a text of nonsense.
        if encoded::image(&text).is_ok_and(|bytes| Format::of(&bytes).is_some()) {
            return Err(Fault::bad(format!(
                "the model `{}` takes texts, so an image has to be a data URI: put `data:image/png;base64,` before it",
                runner.name()
            )));
        }
        return Ok(Piece::Text(text));
    }
    let image = encoded::image(&text).map(|image| Piece::Image(Input::Encoded(image)));
    image.map_err(|fault| if is_uri { fault } else { not_a_text(runner, fault) })
}

/// A fault of a string that may have been meant as a text.
fn not_a_text(runner: &Runner, fault: Fault) -> Fault {
    let expected = "expected an image as a data URI or in base64, found a text";
    Fault::new(fault.kind(), format!("{expected}; the model `{}` takes no texts", runner.name()))
}

/// Vectors of images and texts in the order of a request.
struct Vectors {
    vectors: Vec<Vec<f32>>,
    images: usize,
    /// Tokens of all texts.
    tokens: u64,
}

async fn vectors(runner: &Runner, pieces: Vec<Piece>) -> Result<Vectors, Fault> {
    let are_texts: Vec<bool> = pieces.iter().map(|piece| matches!(piece, Piece::Text(_))).collect();
    let (mut inputs, mut texts) = (Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Image(input) => inputs.push(input),
            Piece::Text(text) => texts.push(text),
        }
    }
    let images = inputs.len();
    runner.check_count(images)?;
    let deadline = runner.deadline();
    // Texts first: they are the shorter work.
    let embedded = match texts.is_empty() {
        true => TextVectors::default(),
        false => runner.embed(texts, inputs.is_empty(), deadline).await?,
    };
    let answers = match inputs.is_empty() && !embedded.vectors.is_empty() {
        true => Vec::new(),
        false => runner.run_until(deadline, inputs, Task::Outputs).await?,
    };
    let (mut of_texts, mut of_images) = (embedded.vectors.into_iter(), answers.into_iter());
    let mut vectors = Vec::with_capacity(are_texts.len());
    for is_text in are_texts {
        let lost = || Fault::new(Kind::Internal, "a vector is missing; please report it");
        vectors.push(match is_text {
            true => of_texts.next().ok_or_else(lost)?,
            false => features(runner, of_images.next().ok_or_else(lost)?)?.values,
        });
    }
    Ok(Vectors { vectors, images, tokens: embedded.tokens as u64 })
}

/// All models that can be used.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`
    object: &'static str,
    data: Vec<ModelEntry>,
}

/// A model; beside OpenAI's fields, what it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelEntry {
    id: String,
    /// `model`
    object: &'static str,
    /// Always 0: weights do not say when they were made.
    created: u64,
    owned_by: &'static str,
    /// Whether it gives labels.
    classifies: bool,
    /// Whether it takes texts, too: as `input` of embeddings, and as candidate labels.
    texts: bool,
    classes: usize,
    /// Width of its vectors.
    width: usize,
    /// Height and width of its input.
    image_size: [usize; 2],
    /// Blocks.
    depth: usize,
    /// Heads of each block.
    heads: usize,
    /// What products are computed in.
    precision: &'static str,
    /// The maps that it has.
    methods: Vec<MapEntry>,
}

/// A kind of map, and what it depends on.
#[derive(Debug, Serialize, ToSchema)]
struct MapEntry {
    name: &'static str,
    title: &'static str,
    /// Whether there is one for each layer.
    layer: bool,
    /// Whether there is one for each head.
    head: bool,
    /// Whether it is about one patch.
    patch: bool,
}

fn map_entry(method: &Method) -> MapEntry {
    MapEntry {
        name: method.name(),
        title: method.about().title,
        layer: method.uses_layer(),
        head: method.uses_head(),
        patch: method.needs_patch(),
    }
}

fn entry(runner: &Runner) -> ModelEntry {
    let model = runner.model();
    let config = model.vit().config();
    let classifies = model.check_classifies().is_ok();
    let pools = model.check_pools("map").is_ok();
    let has = |method: &Method| (!method.needs_attention() || config.depth > 0) && (!method.needs_target() || pools);
    ModelEntry {
        id: runner.name().to_owned(),
        object: "model",
        created: 0,
        owned_by: "vitral",
        classifies,
        texts: runner.takes_texts(),
        classes: if classifies { config.classes } else { 0 },
        width: runner.width(),
        image_size: [config.image_size.height, config.image_size.width],
        depth: config.depth,
        heads: if config.depth == 0 { 0 } else { config.heads },
        precision: model.precision().name(),
        methods: Method::ALL.iter().filter(|method| has(method)).map(map_entry).collect(),
    }
}

/// The models that can be used
#[utoipa::path(get, path = "/v1/models", tag = "OpenAI",
    responses((status = 200, description = "All models", body = ModelList), OpenAiFaults))]
pub(crate) async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: app.registry.running().iter().map(|runner| entry(runner)).collect() })
}

/// One model
#[utoipa::path(get, path = "/v1/models/{model}", tag = "OpenAI",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    responses((status = 200, description = "The model", body = ModelEntry), OpenAiFaults))]
pub(crate) async fn model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<ModelEntry>, Fault> {
    Ok(Json(entry(&*app.registry.get(Some(&name))?)))
}
