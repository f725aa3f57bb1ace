//! The paths of Hugging Face's inference clients: an image to labels.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vitral::config::Problem;
use vitral::labels::{Ranked, top};

use crate::app::App;
use crate::body;
use crate::fault::{Fault, Kind};
use crate::job::{Answer, Input, Task};
use crate::oip::describe::SERVER;
use crate::statuses::PlainFaults;
use crate::trace::Served;
use crate::wire::encoded;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", post(first).get(super::service::page))
        .route("/models/{model}", post(named))
        .route("/health", get(health))
        .route("/info", get(info))
}

/// An image with parameters.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ImageBody {
    /// The image in base64.
    inputs: String,
    #[serde(default)]
    parameters: Option<ImageParameters>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
struct ImageParameters {
    /// Labels, at most; 5 if absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    top_k: Option<usize>,
    /// What becomes of the logits; the model's own if absent.
    #[serde(default)]
    function_to_apply: Option<Apply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Apply {
    Softmax,
    Sigmoid,
    None,
}

/// One label.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Scored {
    label: String,
    score: f32,
}

/// Labels of an image, by the first model
///
/// The body is the image, or JSON with the image in base64.
#[utoipa::path(post, path = "/", tag = "Hugging Face",
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (ImageBody = "application/json"))),
    responses((status = 200, description = "Labels, the best first", body = Vec<Scored>), PlainFaults))]
pub(crate) async fn first(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    classify(&app, None, request).await
}

/// Labels of an image
#[utoipa::path(post, path = "/models/{model}", tag = "Hugging Face",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (ImageBody = "application/json"))),
    responses((status = 200, description = "Labels, the best first", body = Vec<Scored>), PlainFaults))]
pub(crate) async fn named(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, Fault> {
    classify(&app, Some(&model), request).await
}

async fn classify(app: &App, name: Option<&str>, request: Request) -> Result<Response, Fault> {
    let runner = app.model(name)?;
    let model = runner.model();
    model.check_classifies()?;
    let received = body::read(app, request).await?;
    let (image, parameters) = if received.media_type() == "application/json" {
        let body: ImageBody = serde_json::from_slice(&received.body)
            .map_err(|fault| Fault::bad(format!("expected an image in base64 in `inputs`: {fault}")))?;
        (encoded::image(&body.inputs)?, body.parameters.unwrap_or_default())
    } else {
        (received.body.clone(), ImageParameters::default())
    };
    let count = match parameters.top_k {
        Some(0) => return Err(Fault::bad("expected a `top_k` of at least 1, found 0")),
        top => top.unwrap_or(5),
    };
    let mut answers = runner.run(vec![Input::Encoded(image)], Task::Outputs, None).await?;
    let Some(Answer::Outputs { logits: Some(logits), .. }) = answers.pop() else {
        return Err(Fault::new(Kind::Internal, "the model gave no logits; please report it"));
    };
    let problem = match parameters.function_to_apply {
        None => model.vit().config().problem,
        Some(Apply::Softmax) => Problem::SingleLabel,
        Some(Apply::Sigmoid) => Problem::MultiLabel,
        Some(Apply::None) => Problem::Regression,
    };
    let scored = |Ranked { label, probability: score, .. }| Scored { label, score };
    let labels: Vec<Scored> = top(&logits.values, count, model.labels(), problem).into_iter().map(scored).collect();
    let mut response = Json(labels).into_response();
    response.extensions_mut().insert(Served { model: runner.name().to_owned(), images: 1 });
    Ok(response)
}

/// Whether the server takes requests
#[utoipa::path(get, path = "/health", tag = "Hugging Face",
    responses((status = 200, description = "It does"), PlainFaults))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<(), Fault> {
    match app.is_ready() {
        true => Ok(()),
        false => Err(Fault::new(Kind::Unavailable, "models are being loaded, or the server is ending")),
    }
}

/// What is served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    /// The first model.
    model_id: String,
    /// `image-classification` or `image-feature-extraction`
    pipeline_tag: &'static str,
    /// What products are computed in.
    model_dtype: &'static str,
    max_batch_size: usize,
    /// Images in a request, at most.
    max_client_batch_size: usize,
    server: &'static str,
    version: &'static str,
}

/// What is served
#[utoipa::path(get, path = "/info", tag = "Hugging Face",
    responses((status = 200, description = "The first model and the server", body = Info), PlainFaults))]
pub(crate) async fn info(State(app): State<Arc<App>>) -> Result<Json<Info>, Fault> {
    let runner = app.registry.get(None)?;
    let classifies = runner.model().check_classifies().is_ok();
    Ok(Json(Info {
        model_id: runner.name().to_owned(),
        pipeline_tag: if classifies { "image-classification" } else { "image-feature-extraction" },
        model_dtype: runner.model().precision().name(),
        max_batch_size: app.options.max_batch_size.get(),
        max_client_batch_size: runner.capacity(),
        server: SERVER,
        version: env!("CARGO_PKG_VERSION"),
    }))
}
