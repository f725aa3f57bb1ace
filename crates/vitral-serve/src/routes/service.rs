//! What the server says about itself: metrics, its description, the page.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use vitral::explain::paint;

use crate::app::App;
use crate::fault::{Fault, Kind};
use crate::statuses::VitralFaults;

/// The page, with the colors of maps where it has a place for them.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let color = |i: u16| paint::color(f32::from(i) / f32::from(COLORS - 1));
    let colors: Vec<[u8; 3]> = (0..COLORS).map(color).collect();
    include_str!("../page/index.html").replace("['COLORS']", &format!("{colors:?}"))
});
const COLORS: u16 = 33;

/// The page uses nothing from anywhere else, and nobody may put it into a frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; \
                      base-uri 'none'";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

/// Metrics in Prometheus's text format
#[utoipa::path(get, path = "/metrics", tag = "Service",
    responses((status = 200, description = "Counters, gauges and histograms", body = String, content_type = "text/plain"), VitralFaults))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Fault> {
    for runner in app.registry.running() {
        runner.measure();
    }
    let text = app.metrics.text().map_err(|fault| Fault::new(Kind::Internal, fault.to_string()))?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The page: try a model with images of your own.
pub(crate) async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, Html(PAGE.as_str())).into_response()
}
