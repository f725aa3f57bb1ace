//! What a request asks for, as it stands in a query, in a form or in JSON.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Deserialize as Read, Serialize as Write};
use utoipa::{IntoParams, ToSchema};
use vitral::features::FeatureKind;

use crate::fault::Fault;

/// A number, or text that is one: in a query and in a form everything is text.
fn number<'de, D: Deserializer<'de>, T: FromStr<Err: Display> + Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Read)]
    #[serde(untagged)]
    enum Either {
        Number(serde_json::Number),
        Text(String),
    }
    let text = match Option::<Either>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Either::Number(number)) => number.to_string(),
        Some(Either::Text(text)) => text,
    };
    text.trim()
        .parse()
        .map(Some)
        .map_err(|fault| D::Error::custom(format!("expected a number, found `{text}`: {fault}")))
}

/// A word, or a number as one.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Read)]
    #[serde(untagged, expecting = "expected a text or a number")]
    enum Either {
        Number(serde_json::Number),
        Text(String),
    }
    Ok(Option::<Either>::deserialize(deserializer)?.map(|either| match either {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

/// Checks a time in seconds.
pub(crate) fn timeout(seconds: Option<f64>) -> Result<Option<Duration>, Fault> {
    let Some(seconds) = seconds else { return Ok(None) };
    if !(0.1..=3600.0).contains(&seconds) {
        return Err(Fault::bad(format!("expected a `timeout` from 0.1 to 3600 seconds, found {seconds}")));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// What `/v1/classify` takes.
#[derive(Debug, Default, Read, Write, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClassifyOptions {
    /// Name of the model; the first if absent
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(example = "cifar10")]
    pub(crate) model: Option<String>,
    /// Labels for each image, at most; 5 if absent
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub(crate) top: Option<u32>,
    /// Seconds that the request may take
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0.1, maximum = 3600)]
    pub(crate) timeout: Option<f64>,
}

/// Which features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Read, Write, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pool {
    /// The model's own pooling: what its classifier sees
    #[default]
    Pooled,
    /// The class token after the final norm
    #[serde(alias = "cls")]
    Class,
    /// The mean of the patch tokens after the final norm
    #[serde(alias = "avg")]
    Mean,
    /// Both, side by side
    ClassAndMean,
    /// All tokens after the final norm
    Tokens,
}

impl Pool {
    pub(crate) fn kind(self) -> FeatureKind {
        match self {
            Pool::Pooled => FeatureKind::Pooled,
            Pool::Class => FeatureKind::Class,
            Pool::Mean => FeatureKind::Mean,
            Pool::ClassAndMean => FeatureKind::ClassAndMean,
            Pool::Tokens => FeatureKind::Tokens,
        }
    }
}

/// What `/v1/embed` takes.
#[derive(Debug, Default, Read, Write, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct EmbedOptions {
    /// Name of the model; the first if absent
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(example = "cifar10")]
    pub(crate) model: Option<String>,
    /// Which features: `pooled`, `class`, `mean`, `class-and-mean` or `tokens`
    #[param(inline)]
    pub(crate) pool: Pool,
    /// Seconds that the request may take
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0.1, maximum = 3600)]
    pub(crate) timeout: Option<f64>,
}

/// The form of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Read, Write, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MapFormat {
    /// The map over the image, as PNG
    #[default]
    Png,
    /// The values
    Json,
}

/// What `/v1/explain` takes.
#[derive(Debug, Default, Read, Write, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainOptions {
    /// Name of the model; the first if absent
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(example = "cifar10")]
    pub(crate) model: Option<String>,
    /// The map, such as `attention`, `rollout`, `chefer` or `gradcam`; if absent, one that suits the model
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// The class to explain, by name or number; the most likely if absent
    #[serde(deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<String>,
    /// The layer, from 0 at the input or from -1 at the output; the last if absent
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<i64>,
    /// The head, from 0 or from -1 at the end; the mean of all if absent
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<i64>,
    /// Column and row, as `X,Y`, of the pixel whose patch `patch` and `similarity` are about; the center if absent
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// The same patch by its number, row by row from 0
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub(crate) patch: Option<usize>,
    /// Masks of `rise`, steps of `integrated-gradients`, images of `smoothgrad`
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 2000)]
    pub(crate) passes: Option<usize>,
    /// `png` or `json`
    #[param(inline)]
    pub(crate) format: MapFormat,
    /// Opacity of the map over the image, from 0 to 1
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 1)]
    pub(crate) opacity: Option<f32>,
    /// Seconds that the request may take
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0.1, maximum = 3600)]
    pub(crate) timeout: Option<f64>,
}

/// Column and row of a pixel.
pub(crate) fn pixel(text: &str) -> Result<[usize; 2], Fault> {
    let parsed = text.split_once(',').and_then(|(x, y)| Some([x.trim().parse().ok()?, y.trim().parse().ok()?]));
    parsed.ok_or_else(|| {
        Fault::bad(format!("expected `at` as two integers, column and row, such as `120,80`, found `{text}`"))
    })
}
