//! Reading a request's body within the limits.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::app::App;
use crate::budget::Held;
use crate::fault::{Fault, Kind};

/// How long a body that is too large is still read and thrown away, so that its client gets to read the answer.
const DISCARDING: Duration = Duration::from_secs(10);

/// A request whose body has arrived.
pub(crate) struct Received {
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    /// Counts against the memory for bodies until the request is answered.
    _held: Held,
}

impl Received {
    /// The media type without its parameters, in lower case.
    pub(crate) fn media_type(&self) -> String {
        media_type(&self.parts.headers)
    }
}

/// The media type of a body without its parameters, in lower case; empty if it is not stated.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a request to its end.
pub(crate) async fn read(app: &App, request: Request) -> Result<Received, Fault> {
    let (parts, mut body) = request.into_parts();
    let time = app.options.body_time;
    match tokio::time::timeout(time, collect(app, &parts.headers, &mut body)).await {
        Ok(Ok((bytes, held))) => Ok(Received { parts, body: bytes, _held: held }),
        Ok(Err(fault)) => {
            if matches!(fault.kind(), Kind::TooLarge | Kind::Full { .. }) {
                discard(body);
            }
            Err(fault)
        }
        Err(_) => Err(late_body(time)),
    }
}

/// The fault of a request whose body does not arrive in time.
pub(crate) fn late_body(time: Duration) -> Fault {
    let message = format!("expected the whole body within {} s; send it faster, or in parts", time.as_secs_f64());
    Fault::new(Kind::SlowBody, message)
}

/// The fault of a request for whose body there is no room.
pub(crate) fn held_too_much() -> Fault {
    let message = "the server holds as many bytes of requests as it may; try again later";
    Fault::new(Kind::Full { retry_after: Duration::from_secs(1) }, message)
}

/// Refuses JSON of very many values: in memory, each takes many times its own bytes. No request with as many images as a queue
/// has places needs so many.
pub(crate) fn check_values(json: &[u8]) -> Result<(), Fault> {
    const MOST: usize = 100_000;
    let (mut values, mut in_text, mut escaped) = (0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' | b',' | b':' if !in_text => values += 1,
            _ => {}
        }
    }
    match values > MOST {
        true => Err(Fault::new(Kind::TooLarge, format!("expected JSON of at most {MOST} values, found {values}"))),
        false => Ok(()),
    }
}

async fn collect(app: &App, headers: &HeaderMap, body: &mut Body) -> Result<(Bytes, Held), Fault> {
    let limit = app.options.max_body;
    let large = |found: &dyn std::fmt::Display| {
        Fault::new(Kind::TooLarge, format!("expected a body of at most {limit} bytes, found {found}"))
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = announced.filter(|&length| length > limit as u64) {
        return Err(large(&length));
    }
    let mut held = Held::nothing(&app.bodies);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::bad(format!("the body cannot be read: {}", root(&error))))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(large(&"more"));
        }
        if !held.grow(data.len()) {
            return Err(held_too_much());
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), held))
}

/// The cause behind an error of the layers below: a broken connection, or bytes that cannot be decompressed.
fn root(error: &axum::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// Reads on without keeping anything.
fn discard(mut body: Body) {
    tokio::spawn(tokio::time::timeout(DISCARDING, async move { while let Some(Ok(_)) = body.frame().await {} }));
}
