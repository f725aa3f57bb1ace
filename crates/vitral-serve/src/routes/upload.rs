//! The images of a request to the server's own paths, and what is asked about them.

use axum::extract::Request;
use axum::http::header;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::app::App;
use crate::body::{self, Received};
use crate::fault::Fault;
use crate::wire::{encoded, multipart};

/// One image, as it came.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The file's name, if it has one.
    pub(crate) name: Option<String>,
    pub(crate) bytes: Bytes,
}

/// Images, and options of the kind that the path takes.
pub(crate) struct Uploads<O> {
    pub(crate) images: Vec<Upload>,
    pub(crate) options: O,
    /// Holds the memory of the body.
    _received: Received,
}

/// Reads a request: one image as it is, a form with files, or JSON with `image` or `images` in base64. Options stand in
/// the query, in fields of the form, or in the JSON; what stands in the body is stronger.
pub(crate) async fn read<O: Serialize + DeserializeOwned>(app: &App, request: Request) -> Result<Uploads<O>, Fault> {
    let received = body::read(app, request).await?;
    let query = received.parts.uri.query().unwrap_or_default();
    let from_query = pairs(query)?;
    let (images, from_body) = match received.media_type().as_str() {
        "application/json" => json(&received.body)?,
        "multipart/form-data" => {
            let kind = received.parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let form = multipart::form(kind.unwrap_or_default(), received.body.clone()).await?;
            if form.files.is_empty() {
                return Err(Fault::bad("expected a form with at least one file, found none"));
            }
            let images = form.files.into_iter().map(|(name, bytes)| Upload { name, bytes }).collect();
            (images, form.fields.into_iter().map(|(name, text)| (name, Value::String(text))).collect())
        }
        _ => (vec![Upload { name: None, bytes: received.body.clone() }], Map::new()),
    };
    let mut all = from_query;
    all.extend(from_body);
    let options = serde_json::from_value(Value::Object(all)).map_err(|fault| Fault::bad(fault.to_string()))?;
    Ok(Uploads { images, options, _received: received })
}

/// The options of a query.
fn pairs(query: &str) -> Result<Map<String, Value>, Fault> {
    let mut all = Map::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        all.insert(name.into_owned(), Value::String(text.into_owned()));
    }
    Ok(all)
}

/// The images of a body in JSON, and what else is in it.
fn json(body: &[u8]) -> Result<(Vec<Upload>, Map<String, Value>), Fault> {
    body::check_values(body)?;
    let mut all: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|fault| Fault::bad(format!("expected an object in JSON with `image` or `images`: {fault}")))?;
    let texts = match (all.remove("image"), all.remove("images")) {
        (Some(Value::String(image)), None) => vec![image],
        (None, Some(Value::Array(images))) => {
            let text = |image| match image {
                Value::String(text) => Ok(text),
                other => Err(Fault::bad(format!("expected a list of strings in `images`, found {}", kind(&other)))),
            };
            images.into_iter().map(text).collect::<Result<_, _>>()?
        }
        (Some(_), Some(_)) => return Err(Fault::bad("expected `image` or `images`, found both")),
        (None, None) => return Err(Fault::bad("expected `image` or `images`, found neither")),
        (Some(other), None) => return Err(Fault::bad(format!("expected a string in `image`, found {}", kind(&other)))),
        (None, Some(other)) => return Err(Fault::bad(format!("expected a list in `images`, found {}", kind(&other)))),
    };
    let image = |(index, text): (usize, &String)| {
        let bytes = encoded::image(text).map_err(|fault| fault.at(&format!("image {index}")))?;
        Ok(Upload { name: None, bytes })
    };
    Ok((texts.iter().enumerate().map(image).collect::<Result<_, Fault>>()?, all))
}

/// The kind of a value in JSON.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
