//! Which protocol a path belongs to, and how that protocol says that something is wrong.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::fault::{Fault, Kind};

/// The protocols, each with its own form of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Inference,
    HuggingFace,
    OpenAi,
    Vitral,
}

impl Protocol {
    fn of(path: &str) -> Self {
        let within = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if within("/v2") {
            Protocol::Inference
        } else if within("/v1/embeddings") || within("/v1/models") {
            Protocol::OpenAi
        } else if path == "/" || within("/models") || within("/health") || within("/info") {
            Protocol::HuggingFace
        } else {
            Protocol::Vitral
        }
    }
}

/// An error of the Open Inference Protocol, and of Hugging Face's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlainError {
    /// What was expected, what was found, and what to do.
    pub(crate) error: String,
}

/// An error of the paths that are this server's own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VitralError {
    error: VitralErrorBody,
}

#[derive(Debug, Serialize, ToSchema)]
struct VitralErrorBody {
    /// A short name for programs, such as `not_an_image`.
    code: &'static str,
    /// What was expected, what was found, and what to do.
    message: String,
}

/// An error in OpenAI's form.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: OpenAiErrorBody,
}

#[derive(Debug, Serialize, ToSchema)]
struct OpenAiErrorBody {
    /// What was expected, what was found, and what to do.
    message: String,
    /// `invalid_request_error`, `authentication_error`, `rate_limit_error` or `server_error`.
    r#type: &'static str,
    /// Always null: the message names the parameter.
    param: Option<String>,
    /// A short name for programs.
    code: &'static str,
}

fn openai(fault: &Fault) -> OpenAiError {
    let kind = match fault.kind() {
        Kind::Unauthorized => "authentication_error",
        Kind::Full { .. } => "rate_limit_error",
        Kind::Internal | Kind::Unavailable | Kind::Deadline => "server_error",
        _ => "invalid_request_error",
    };
    let error = OpenAiErrorBody { message: fault.message().to_owned(), r#type: kind, param: None, code: fault.code() };
    OpenAiError { error }
}

/// Writes the fault that a response carries in the form of the request's protocol.
pub(crate) async fn write_faults(request: Request, next: Next) -> Response {
    let protocol = Protocol::of(request.uri().path());
    let mut response = next.run(request).await;
    let Some(fault) = response.extensions_mut().remove::<Fault>() else { return response };
    let message = || fault.message().to_owned();
    let mut written = match protocol {
        Protocol::Inference | Protocol::HuggingFace => Json(PlainError { error: message() }).into_response(),
        Protocol::OpenAi => Json(openai(&fault)).into_response(),
        Protocol::Vitral => {
            Json(VitralError { error: VitralErrorBody { code: fault.code(), message: message() } }).into_response()
        }
    };
    *written.status_mut() = fault.status();
    // A 405 names the methods that there are.
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        written.headers_mut().insert(header::ALLOW, allow);
    }
    if let Some(seconds) = fault.retry_after() {
        written.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault.kind() == Kind::Unauthorized {
        written.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // The log wants it, too.
    written.extensions_mut().insert(fault);
    written
}
