//! The protocol over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::Value;

use super::json::{
    BatchStatisticsBody, BatchingBody, ConfigBody, ConfigTensorBody, DataBody, DurationBody, IndexBody, IndexEntryBody,
    InferAnswer, InferBody, InferStatisticsBody, InputBody, LiveBody, ModelBody, ModelReadyBody, ModelStatisticsBody,
    OutputBody, Parameters, PolicyBody, ReadyBody, Scalar, ServerBody, StatisticsBody, TensorBody,
};
use super::{IMAGES, InferRequest, InputData, InputTensor, OutputData, OutputTensor, WantedOutput, describe, infer};
use crate::app::App;
use crate::body;
use crate::fault::Fault;
use crate::metrics::{Total, VERSION};
use crate::options::Options;
use crate::runner::Runner;
use crate::statuses::PlainFaults;
use crate::trace::Served;
use crate::wire::numbers::Elements;
use crate::wire::{encoded, tensors};

/// Length of the JSON in front of binary tensors.
const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The routes under `/v2`.
pub(crate) fn routes() -> Router<Arc<App>> {
    let versioned = |path: &str| format!("/v2/models/{{model}}/versions/{{version}}{path}");
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/infer", post(infer_latest))
        .route(&versioned(""), get(metadata_of))
        .route(&versioned("/ready"), get(model_ready_of))
        .route(&versioned("/config"), get(config_of))
        .route(&versioned("/stats"), get(statistics_of))
        .route(&versioned("/infer"), post(infer_version))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
}

type AppState = State<Arc<App>>;
/// A model and its version.
type Version = Path<(String, String)>;

/// What the server is
#[utoipa::path(get, path = "/v2", tag = "Open Inference Protocol",
    responses((status = 200, description = "Name, version and extensions", body = ServerBody), PlainFaults))]
pub(crate) async fn server() -> Json<ServerBody> {
    let extensions = describe::EXTENSIONS.to_vec();
    Json(ServerBody { name: describe::SERVER, version: env!("CARGO_PKG_VERSION"), extensions })
}

/// Whether the server is alive
#[utoipa::path(get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses((status = 200, description = "It is", body = LiveBody), PlainFaults))]
pub(crate) async fn live() -> Json<LiveBody> {
    Json(LiveBody { live: true })
}

/// Whether every model has answered a warm-up, and the server takes requests
#[utoipa::path(get, path = "/v2/health/ready", tag = "Open Inference Protocol",
    responses(PlainFaults, (status = 200, description = "It is ready", body = ReadyBody),
              (status = 503, description = "It is not", body = ReadyBody)))]
pub(crate) async fn ready(State(app): AppState) -> Response {
    let ready = app.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyBody { ready })).into_response()
}

/// Inputs and outputs of a model
#[utoipa::path(get, path = "/v2/models/{model}", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    responses((status = 200, description = "Its tensors", body = ModelBody), PlainFaults))]
pub(crate) async fn metadata(state: AppState, Path(model): Path<String>) -> Result<Json<ModelBody>, Fault> {
    metadata_of(state, Path((model, String::new()))).await
}

async fn metadata_of(State(app): AppState, Path((model, version)): Version) -> Result<Json<ModelBody>, Fault> {
    let runner = app.registry.version(&model, &version)?;
    let bodies = |all: Vec<describe::TensorShape>| {
        let body = |one: describe::TensorShape| TensorBody { name: one.name, datatype: one.datatype, shape: one.shape };
        all.into_iter().map(body).collect()
    };
    Ok(Json(ModelBody {
        name: model,
        versions: vec![VERSION],
        platform: describe::PLATFORM,
        inputs: bodies(describe::inputs(&runner)),
        outputs: bodies(describe::outputs(&runner)),
    }))
}

/// Whether a model takes requests
#[utoipa::path(get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    responses((status = 200, description = "It does", body = ModelReadyBody), PlainFaults))]
pub(crate) async fn model_ready(state: AppState, Path(model): Path<String>) -> Result<Json<ModelReadyBody>, Fault> {
    model_ready_of(state, Path((model, String::new()))).await
}

async fn model_ready_of(State(app): AppState, Path((model, version)): Version) -> Result<Json<ModelReadyBody>, Fault> {
    app.check_open()?;
    app.registry.version(&model, &version)?;
    Ok(Json(ModelReadyBody { name: model, ready: true }))
}

/// How a model is served
#[utoipa::path(get, path = "/v2/models/{model}/config", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    responses((status = 200, description = "Batching and queue, under Triton's names", body = ConfigBody), PlainFaults))]
pub(crate) async fn config(state: AppState, Path(model): Path<String>) -> Result<Json<ConfigBody>, Fault> {
    config_of(state, Path((model, String::new()))).await
}

async fn config_of(State(app): AppState, Path((model, version)): Version) -> Result<Json<ConfigBody>, Fault> {
    let runner = app.registry.version(&model, &version)?;
    Ok(Json(config_body(&runner, &app.options)))
}

/// The configuration of a model in Triton's form.
pub(super) fn config_body(runner: &Runner, options: &Options) -> ConfigBody {
    let tensor = |one: describe::TensorShape, optional| ConfigTensorBody {
        name: one.name,
        data_type: if one.datatype == "BYTES" { "TYPE_STRING" } else { "TYPE_FP32" },
        // Triton has no empty shapes: one image is one element.
        dims: if one.name == IMAGES { vec![1] } else { one.shape[1..].to_vec() },
        optional,
    };
    let max = options.max_batch_size.get();
    ConfigBody {
        name: runner.name().to_owned(),
        platform: describe::PLATFORM,
        backend: describe::SERVER,
        max_batch_size: runner.capacity(),
        input: describe::inputs(runner).into_iter().map(|one| tensor(one, true)).collect(),
        output: describe::outputs(runner).into_iter().map(|one| tensor(one, false)).collect(),
        dynamic_batching: BatchingBody {
            preferred_batch_size: vec![options.preferred_batch_size.map_or(max, |size| size.get())],
            max_queue_delay_microseconds: options.max_queue_delay.as_micros() as u64,
            default_queue_policy: PolicyBody {
                default_timeout_microseconds: options.timeout.as_micros() as u64,
                allow_timeout_override: true,
                max_queue_size: runner.capacity(),
            },
        },
    }
}

/// What has happened so far, with all models
#[utoipa::path(get, path = "/v2/models/stats", tag = "Open Inference Protocol",
    responses((status = 200, description = "Counts and times", body = StatisticsBody), PlainFaults))]
pub(crate) async fn all_statistics(State(app): AppState) -> Json<StatisticsBody> {
    Json(StatisticsBody { model_stats: app.registry.running().iter().map(|runner| statistics_body(runner)).collect() })
}

/// What has happened so far, with one model
#[utoipa::path(get, path = "/v2/models/{model}/stats", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    responses((status = 200, description = "Counts and times", body = StatisticsBody), PlainFaults))]
pub(crate) async fn statistics(state: AppState, Path(model): Path<String>) -> Result<Json<StatisticsBody>, Fault> {
    statistics_of(state, Path((model, String::new()))).await
}

async fn statistics_of(State(app): AppState, Path((model, version)): Version) -> Result<Json<StatisticsBody>, Fault> {
    let runner = app.registry.version(&model, &version)?;
    Ok(Json(StatisticsBody { model_stats: vec![statistics_body(&runner)] }))
}

/// The statistics of a model in Triton's form.
pub(super) fn statistics_body(runner: &Runner) -> ModelStatisticsBody {
    let (found, last) = runner.metrics().statistics();
    let of = |total: Total| DurationBody { count: total.count, ns: total.nanoseconds };
    ModelStatisticsBody {
        name: runner.name().to_owned(),
        version: VERSION,
        last_inference: last,
        inference_count: found.images,
        execution_count: found.batches,
        inference_stats: InferStatisticsBody {
            success: of(found.success),
            fail: of(found.fail),
            queue: of(found.queue),
            compute_input: of(found.input),
            compute_infer: of(found.infer),
            compute_output: of(found.output),
        },
        batch_stats: found
            .by_size
            .iter()
            .map(|(&batch_size, totals)| BatchStatisticsBody {
                batch_size,
                compute_input: of(totals.input),
                compute_infer: of(totals.infer),
                compute_output: of(totals.output),
            })
            .collect(),
    }
}

/// Run a model
///
/// `images` are encoded images: in base64 in JSON, or in binary form after the JSON, whose length the header
/// `Inference-Header-Content-Length` then states. `pixel_values` are preprocessed images.
#[utoipa::path(post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model", example = "cifar10")),
    request_body(content((InferBody = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "Its outputs", content((InferAnswer = "application/json"), (Vec<u8> = "application/octet-stream"))), PlainFaults))]
pub(crate) async fn infer_latest(
    state: AppState,
    Path(model): Path<String>,
    request: Request,
) -> Result<Response, Fault> {
    infer_version(state, Path((model, String::new())), request).await
}

async fn infer_version(
    State(app): AppState,
    Path((model, version)): Version,
    request: Request,
) -> Result<Response, Fault> {
    app.registry.check_version(&model, &version)?;
    let runner = app.model(Some(&model))?;
    let received = body::read(&app, request).await?;
    let length = received.parts.headers.get(HEADER_LENGTH).map(HeaderValue::as_bytes);
    let (id, request) = parsed(length, received.body.clone())?;
    let (outputs, images) = infer(&runner, request).await?;
    let mut response = written(&model, id, outputs)?;
    response.extensions_mut().insert(Served { model, images });
    Ok(response)
}

/// A message of JSON, and perhaps of tensors in binary form after it; `length` is the header that says how long the JSON is.
pub(crate) fn parsed(length: Option<&[u8]>, message: Bytes) -> Result<(Option<String>, InferRequest), Fault> {
    let whole = message.len();
    let length = match length {
        None => whole,
        Some(text) => {
            let length = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
            length.filter(|&length| length <= whole).ok_or_else(|| {
                let found = String::from_utf8_lossy(text);
                Fault::bad(format!("expected `Inference-Header-Content-Length` of at most {whole}, found `{found}`"))
            })?
        }
    };
    let body: InferBody = serde_json::from_slice(&message[..length])
        .map_err(|fault| Fault::bad(format!("expected a request for inference in JSON: {fault}")))?;
    let mut rest = message.slice(length..);
    let inputs = body.inputs.into_iter().map(|input| tensor(input, &mut rest)).collect::<Result<_, _>>()?;
    if !rest.is_empty() {
        return Err(Fault::bad(format!(
            "expected the request to end after its inputs, found {} more bytes",
            rest.len()
        )));
    }
    let binary = body.parameters.binary_data_output.and_then(Scalar::truth).unwrap_or(false);
    let wanted = |wanted: super::json::WantedBody| WantedOutput {
        binary: wanted.parameters.binary_data.and_then(Scalar::truth).unwrap_or(binary),
        classes: wanted.parameters.classification.and_then(Scalar::count).unwrap_or(0) as usize,
        name: wanted.name,
    };
    let outputs = body.outputs.into_iter().map(wanted).collect();
    let timeout = super::timeout(body.parameters.timeout.and_then(Scalar::count).unwrap_or(0));
    Ok((body.id, InferRequest { inputs, outputs, binary, timeout }))
}

/// An input, whose elements are in the JSON or next in `rest`.
fn tensor(input: InputBody, rest: &mut Bytes) -> Result<InputTensor, Fault> {
    let InputBody { name, shape, datatype, parameters, data } = input;
    let size = parameters.binary_data_size.map(|size| size.count().unwrap_or(u64::MAX));
    let found = match (size, data) {
        (Some(_), Some(_)) => Err(Fault::bad("expected `data` or `binary_data_size`, found both")),
        (None, None) => Err(Fault::bad("expected `data` or `binary_data_size`, found neither")),
        (Some(size), None) => match usize::try_from(size).ok().filter(|&size| size <= rest.len()) {
            None => Err(Fault::bad(format!("expected {size} more bytes, found {}", rest.len()))),
            Some(size) => {
                let bytes = rest.split_to(size);
                match datatype.as_str() {
                    "BYTES" => tensors::elements(bytes).map(InputData::Elements),
                    "FP32" => tensors::floats(&bytes).map(InputData::Numbers),
                    other => Err(Fault::bad(format!("expected datatype `BYTES` or `FP32`, found `{other}`"))),
                }
            }
        },
        (None, Some(Elements::Texts(texts))) if datatype == "BYTES" => {
            texts.iter().map(|text| encoded::image(text)).collect::<Result<_, _>>().map(InputData::Elements)
        }
        (None, Some(Elements::Numbers(numbers))) if datatype == "FP32" => Ok(InputData::Numbers(numbers)),
        // An empty list says nothing of what it is a list of.
        (None, Some(Elements::Numbers(numbers))) if datatype == "BYTES" && numbers.is_empty() => {
            Ok(InputData::Elements(Vec::new()))
        }
        (None, Some(_)) => Err(Fault::bad(format!(
            "expected strings of datatype `BYTES` or numbers of datatype `FP32`, found other elements of `{datatype}`"
        ))),
    };
    let data = found.map_err(|fault| fault.at(&format!("input `{name}`")))?;
    Ok(InputTensor { name, datatype, shape, data })
}

/// The answer, with binary outputs after the JSON.
fn written(model: &str, id: Option<String>, outputs: Vec<OutputTensor>) -> Result<Response, Fault> {
    let mut tail = Vec::new();
    let mut bodies = Vec::with_capacity(outputs.len());
    for OutputTensor { name, shape, data, binary } in outputs {
        let datatype = data.datatype();
        let mut parameters = Parameters::new();
        let data = match data {
            _ if binary => {
                let bytes = match &data {
                    OutputData::Numbers(numbers) => tensors::from_floats(numbers),
                    OutputData::Texts(texts) => tensors::from_texts(texts),
                };
                parameters.insert("binary_data_size".to_owned(), bytes.len().into());
                tail.extend(bytes);
                None
            }
            OutputData::Numbers(numbers) => Some(DataBody::Numbers(numbers)),
            OutputData::Texts(texts) => Some(DataBody::Texts(texts)),
        };
        bodies.push(OutputBody { name, datatype, shape, parameters, data });
    }
    let answer = InferAnswer { model_name: model.to_owned(), model_version: VERSION, id, outputs: bodies };
    if tail.is_empty() {
        return Ok(Json(answer).into_response());
    }
    let unwritable = |fault: serde_json::Error| Fault::new(crate::fault::Kind::Internal, fault.to_string());
    let mut bytes = serde_json::to_vec(&answer).map_err(unwritable)?;
    let length = HeaderValue::from(bytes.len());
    bytes.extend(tail);
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, kind), (HEADER_LENGTH, length)], bytes).into_response())
}

/// The models that there are
#[utoipa::path(post, path = "/v2/repository/index", tag = "Open Inference Protocol",
    request_body = Option<IndexBody>,
    responses((status = 200, description = "Names and states", body = Vec<IndexEntryBody>), PlainFaults))]
pub(crate) async fn index(State(app): AppState, request: Request) -> Result<Json<Vec<IndexEntryBody>>, Fault> {
    let received = body::read(&app, request).await?;
    let asked: IndexBody = optional(&received.body)?;
    Ok(Json(index_bodies(&app, asked.ready)))
}

/// The index of the repository.
pub(super) fn index_bodies(app: &App, only_ready: bool) -> Vec<IndexEntryBody> {
    let all = app.registry.index().into_iter();
    let body = |(name, status): (&str, crate::registry::Status)| IndexEntryBody {
        name: name.to_owned(),
        version: VERSION,
        state: status.name(),
        reason: status.reason(),
    };
    all.map(body).filter(|entry| !only_ready || entry.state == "READY").collect()
}

/// A body in JSON that may be missing.
fn optional<T: serde::de::DeserializeOwned + Default>(body: &[u8]) -> Result<T, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|fault| Fault::bad(format!("expected an object in JSON: {fault}")))
}

/// Load a model, or load it again from its files
///
/// Until it has run once, the one that was loaded before answers. The body may be empty.
#[utoipa::path(post, path = "/v2/repository/models/{model}/load", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model that the server was started with")),
    responses((status = 200, description = "It is loaded", body = Object), PlainFaults))]
pub(crate) async fn load(
    State(app): AppState,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Parameters>, Fault> {
    app.check_open()?;
    let received = body::read(&app, request).await?;
    let asked: Parameters = optional(&received.body)?;
    let parameters = asked.get("parameters").and_then(Value::as_object);
    if let Some(name) = parameters.and_then(|parameters| parameters.keys().next()) {
        return Err(Fault::bad(format!(
            "expected no parameters, found `{name}`: models are loaded as the server was started with them"
        )));
    }
    app.registry.load(&model).await?;
    Ok(Json(Parameters::new()))
}

/// Unload a model
///
/// What it has accepted is answered. The body may be empty.
#[utoipa::path(post, path = "/v2/repository/models/{model}/unload", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of a model")),
    responses((status = 200, description = "It is unloaded", body = Object), PlainFaults))]
pub(crate) async fn unload(
    State(app): AppState,
    Path(model): Path<String>,
    request: Request,
) -> Result<Json<Parameters>, Fault> {
    app.check_open()?;
    body::read(&app, request).await?;
    app.registry.unload(&model).await?;
    Ok(Json(Parameters::new()))
}
