//! All HTTP paths, and what surrounds them.

pub(crate) mod huggingface;
pub(crate) mod openai;
pub(crate) mod options;
pub(crate) mod service;
pub(crate) mod upload;
pub(crate) mod vitral;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::decompression::RequestDecompressionLayer;

use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::{keys, oip, openapi, protocol, trace};

/// The router: paths inside, and around them, from the outside: the log, CORS, the form of errors, keys, compression.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let routes = Router::new()
        .merge(oip::http::routes())
        .merge(huggingface::routes())
        .merge(openai::routes())
        .merge(vitral::routes())
        .merge(service::routes())
        .route("/openapi.json", get(openapi::describe))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(app));
    let panicked = |_: Box<dyn std::any::Any + Send>| {
        Fault::new(Kind::Internal, "the server made a mistake; please report the request").into_response()
    };
    let mut router = routes
        .layer(RequestDecompressionLayer::new())
        .layer(CompressionLayer::new())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), check_key));
    router = router.layer(from_fn(protocol::write_faults));
    // Around the faults, too: a page may read why it was refused.
    if let Some(cors) = cors(&app.options.cors) {
        router = router.layer(cors);
    }
    router.layer(from_fn_with_state(Arc::clone(app), trace::trace))
}

/// Lets pages of the named origins call the server; without any, browsers refuse.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let length = HeaderName::from_static("inference-header-content-length");
    Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, length.clone()])
            .expose_headers([length, header::RETRY_AFTER, HeaderName::from_static("x-request-id")]),
    )
}

async fn check_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !keys::is_open(request.method(), request.uri().path())
        && let Err(fault) = app.keys.check_headers(request.headers())
    {
        return fault.into_response();
    }
    let response = next.run(request).await;
    // Layers below answer without a body: an encoding that is not known.
    match response.status().is_client_error() && response.extensions().get::<Fault>().is_none() {
        true => refused(response),
        false => response,
    }
}

fn refused(response: Response) -> Response {
    use axum::http::StatusCode;
    let fault = match response.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Fault::new(
            Kind::NotAnImage,
            "expected a body as it is, or in gzip or deflate, found another content encoding",
        ),
        status => Fault::bad(format!("the request cannot be read ({status})")),
    };
    fault.into_response()
}

async fn missing(request: Request) -> Fault {
    let path: String = request.uri().path().chars().take(200).collect();
    Fault::new(Kind::NotFound, format!("there is no path `{path}`; GET /openapi.json lists them"))
}

async fn wrong_method(request: Request) -> Fault {
    let path = request.uri().path();
    Fault::new(
        Kind::WrongMethod,
        format!("`{path}` does not take {}; GET /openapi.json says what it takes", request.method()),
    )
}
