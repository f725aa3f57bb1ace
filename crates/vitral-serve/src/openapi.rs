//! The description of all HTTP paths, made from the types.

use axum::Json;
use utoipa::OpenApi;

use crate::oip::{http, json};
use crate::protocol::{OpenAiError, PlainError, VitralError};
use crate::routes::{huggingface, openai, service, vitral};

#[derive(OpenApi)]
#[openapi(
    info(title = "Vitral", description = "Vision Transformers: labels, vectors and maps of images"),
    paths(
        vitral::classify,
        vitral::embed,
        vitral::explain,
        openai::embeddings,
        openai::models,
        openai::model,
        huggingface::first,
        huggingface::named,
        huggingface::health,
        huggingface::info,
        http::server,
        http::live,
        http::ready,
        http::metadata,
        http::model_ready,
        http::config,
        http::all_statistics,
        http::statistics,
        http::infer_latest,
        http::index,
        http::load,
        http::unload,
        service::metrics,
    ),
    components(schemas(PlainError, OpenAiError, VitralError, json::InferBody))
)]
struct Api;

/// The description.
pub(crate) async fn describe() -> Json<utoipa::openapi::OpenApi> {
    Json(Api::openapi())
}
