//! One line in the log for each request, with an identifier that the client gets, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::fault::Fault;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a handler wants the log to say.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) model: String,
    pub(crate) images: usize,
}

/// Gives each request an identifier, unless it has one; logs and counts it.
pub(crate) async fn trace(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers()).unwrap_or_else(new_id);
    let parent = request.headers().get(TRACEPARENT).cloned();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|matched| matched.as_str().to_owned());
    let mut response = next.run(request).await;
    let took = started.elapsed();
    let status = response.status().as_u16();
    // Paths that match no route are not counted apart: anybody can make them up.
    app.metrics.request(route.as_deref().unwrap_or("none"), status, took);
    // What a request does not have is left out.
    let trace_id = parent.as_ref().and_then(trace_id);
    let trace_id = trace_id.as_deref();
    let fault = response.extensions().get::<Fault>().map(|fault| fault.message().to_owned());
    let fault = fault.as_deref();
    let served = response.extensions().get::<Served>().cloned();
    let (model, images) = (served.as_ref().map(|served| &*served.model), served.as_ref().map(|served| served.images));
    let milliseconds = milliseconds(took);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                %method, path, status, milliseconds, request_id = %id.to_str().unwrap_or_default(), trace_id, model,
                images, fault, "request"
            )
        };
    }
    match status {
        // Those who watch the server ask all the time.
        _ if path.starts_with("/v2/health") || path == "/health" || path == "/metrics" => line!(debug),
        500.. => line!(warn),
        _ => line!(info),
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if let Some(parent) = parent {
        headers.insert(TRACEPARENT, parent);
    }
    if app.is_draining() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// To the microsecond.
pub(crate) fn milliseconds(took: std::time::Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// The client's own identifier, if it is one that can stand in a log.
fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(REQUEST_ID)?;
    let text = value.to_str().ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+=".contains(c);
    ((1..=128).contains(&text.len()) && text.chars().all(plain)).then(|| value.clone())
}

/// An identifier that no other request has, of this server or of another behind the same proxy.
fn new_id() -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let random = getrandom::u64().unwrap_or_else(|_| {
        // No random numbers at all: the time still tells servers apart.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
    });
    let text = format!("{random:016x}{:08x}", NEXT.fetch_add(1, Relaxed) & 0xffff_ffff);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// The trace's identifier in a `traceparent` (W3C Trace Context): version, trace, parent and flags.
fn trace_id(parent: &HeaderValue) -> Option<String> {
    let mut parts = parent.to_str().ok()?.split('-');
    let id = parts.nth(1)?;
    (id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())).then(|| id.to_owned())
}
