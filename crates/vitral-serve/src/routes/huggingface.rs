//! The paths of Hugging Face's inference clients: an image to labels, the model's own or those of the request.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vitral::config::Problem;
use vitral::labels::{Labels, Ranked, top};

use super::vitral::features;
use crate::app::App;
use crate::body;
use crate::fault::{Fault, Kind};
use crate::job::{Answer, Input, Task};
use crate::oip::describe::SERVER;
use crate::runner::Runner;
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
    /// Labels in words, for a model of images and texts (zero-shot classification).
    #[serde(default)]
    candidate_labels: Option<CandidateLabels>,
    /// The text that each label becomes part of, in place of `{}`; `This is a photo of {}.` if absent.
    #[serde(default)]
    hypothesis_template: Option<String>,
}

/// A list, or one text with commas.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected `candidate_labels` as a list of texts, or as one text with commas")]
enum CandidateLabels {
    List(Vec<String>),
    Commas(String),
}

/// The template of transformers' pipeline.
const TEMPLATE: &str = "This is a photo of {}.";

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
/// The body is the image, or JSON with the image in base64. With `candidate_labels`, a model of images and texts says which of them
/// fits.
#[utoipa::path(post, path = "/", tag = "Hugging Face",
    params(ParametersInQuery),
    request_body(content((Vec<u8> = "image/*"), (Vec<u8> = "application/octet-stream"), (ImageBody = "application/json"))),
    responses((status = 200, description = "Labels, the best first", body = Vec<Scored>), PlainFaults))]
pub(crate) async fn first(State(app): State<Arc<App>>, request: Request) -> Result<Response, Fault> {
    classify(&app, None, request).await
}

/// Labels of an image
///
/// As by the first model.
#[utoipa::path(post, path = "/models/{model}", tag = "Hugging Face",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10"), ParametersInQuery),
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
    let query = parameters_of_query(request.uri().query().unwrap_or_default())?;
    let received = body::read(app, request).await?;
    let (image, parameters) = if received.media_type() == "application/json" {
        body::check_values(&received.body)?;
        let body: ImageBody = serde_json::from_slice(&received.body)
            .map_err(|fault| Fault::bad(format!("expected an image in base64 in `inputs`: {fault}")))?;
        let own = body.parameters.unwrap_or_default();
        let parameters = ImageParameters {
            top_k: own.top_k.or(query.top_k),
            function_to_apply: own.function_to_apply.or(query.function_to_apply),
            candidate_labels: own.candidate_labels.or(query.candidate_labels),
            hypothesis_template: own.hypothesis_template.or(query.hypothesis_template),
        };
        (encoded::image(&body.inputs)?, parameters)
    } else {
        (received.body.clone(), query)
    };
    if parameters.top_k == Some(0) {
        return Err(Fault::bad("expected a `top_k` of at least 1, found 0"));
    }
    let image = Input::Encoded(image);
    let ranked = match parameters.candidate_labels {
        Some(labels) => {
            if parameters.function_to_apply.is_some() {
                return Err(Fault::bad("`function_to_apply` is for the model's own labels; leave it out"));
            }
            let labels = match labels {
                CandidateLabels::List(labels) => labels,
                CandidateLabels::Commas(text) => text.split(',').map(|label| label.trim().to_owned()).collect(),
            };
            let template = parameters.hypothesis_template.unwrap_or_else(|| TEMPLATE.to_owned());
            compare(&runner, image, labels, template, parameters.top_k).await?
        }
        None if parameters.hypothesis_template.is_some() => {
            return Err(Fault::bad("`hypothesis_template` is for `candidate_labels`; give them, or leave it out"));
        }
        None if runner.takes_texts() => {
            return Err(runner.without_labels());
        }
        None => rank(&runner, image, parameters.function_to_apply, parameters.top_k).await?,
    };
    let scored = |Ranked { label, probability: score, .. }| Scored { label, score };
    let mut response = Json(ranked.into_iter().map(scored).collect::<Vec<Scored>>()).into_response();
    response.extensions_mut().insert(Served { model: runner.name().to_owned(), images: 1 });
    Ok(response)
}

/// Parameters for a body that is the image.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `parameters_of_query` reads")]
struct ParametersInQuery {
    /// Labels, at most; 5 if absent.
    #[param(minimum = 1)]
    top_k: Option<usize>,
    /// What becomes of the logits; the model's own if absent.
    #[param(inline)]
    function_to_apply: Option<Apply>,
    /// A label, several times for several, or all with commas.
    candidate_labels: Option<Vec<String>>,
    /// The text that each label becomes part of, in place of `{}`.
    hypothesis_template: Option<String>,
}

fn parameters_of_query(query: &str) -> Result<ImageParameters, Fault> {
    let mut parameters = ImageParameters::default();
    let mut labels = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "candidate_labels" => labels.push(value.into_owned()),
            "hypothesis_template" => parameters.hypothesis_template = Some(value.into_owned()),
            "top_k" => {
                let wrong = || Fault::bad(format!("expected a `top_k` of at least 1, found `{value}`"));
                parameters.top_k = Some(value.parse().map_err(|_| wrong())?);
            }
            "function_to_apply" => {
                let apply = Apply::deserialize(IntoDeserializer::<de::value::Error>::into_deserializer(&*value));
                let wrong = |fault| Fault::bad(format!("`function_to_apply`: {fault}"));
                parameters.function_to_apply = Some(apply.map_err(wrong)?);
            }
            _ => {}
        }
    }
    parameters.candidate_labels = match labels.len() {
        0 => None,
        1 => labels.pop().map(CandidateLabels::Commas),
        _ => Some(CandidateLabels::List(labels)),
    };
    Ok(parameters)
}

/// The model's own labels of an image, five unless told otherwise.
async fn rank(runner: &Runner, image: Input, apply: Option<Apply>, top_k: Option<usize>) -> Result<Vec<Ranked>, Fault> {
    let model = runner.model();
    model.check_classifies()?;
    let mut answers = runner.run(vec![image], Task::Outputs, None).await?;
    let Some(Answer::Outputs { logits: Some(logits), .. }) = answers.pop() else {
        return Err(Fault::new(Kind::Internal, "the model gave no logits; please report it"));
    };
    let problem = match apply {
        None => model.vit().config().problem,
        Some(Apply::Softmax) => Problem::SingleLabel,
        Some(Apply::Sigmoid) => Problem::MultiLabel,
        Some(Apply::None) => Problem::Regression,
    };
    Ok(top(&logits.values, top_k.unwrap_or(5), model.labels(), problem))
}

/// How well labels in words fit an image, all of them unless told otherwise.
async fn compare(
    runner: &Runner,
    image: Input,
    labels: Vec<String>,
    template: String,
    top_k: Option<usize>,
) -> Result<Vec<Ranked>, Fault> {
    let deadline = runner.deadline();
    let classes = runner.classes(labels, template, deadline).await?;
    let mut answers = runner.run_until(deadline, vec![image], Task::Outputs).await?;
    let lost = || Fault::new(Kind::Internal, "the model gave no vector; please report it");
    let logits = classes.logits(&features(runner, answers.pop().ok_or_else(lost)?)?.values);
    let labels = Labels::new(Some(classes.labels().to_vec()));
    Ok(top(&logits, top_k.unwrap_or(logits.len()), &labels, classes.problem()))
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
    /// `image-classification`, `zero-shot-image-classification` or `image-feature-extraction`
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
        pipeline_tag: match (classifies, runner.takes_texts()) {
            (true, _) => "image-classification",
            (false, true) => "zero-shot-image-classification",
            (false, false) => "image-feature-extraction",
        },
        model_dtype: runner.model().precision().name(),
        max_batch_size: app.options.max_batch_size.get(),
        max_client_batch_size: runner.capacity(),
        server: SERVER,
        version: env!("CARGO_PKG_VERSION"),
    }))
}
