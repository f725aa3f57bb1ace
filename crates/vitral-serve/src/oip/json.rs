//! The protocol's messages in JSON.

use std::fmt;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::wire::numbers::Elements;

/// Parameters of an answer.
pub(crate) type Parameters = Map<String, Value>;

/// The parameters that mean something: `timeout` (microseconds) and `binary_data_output` of a request, `binary_data_size` of an
/// input, `binary_data` and `classification` of an output. Others are read and thrown away.
#[derive(Debug, Default)]
pub(crate) struct GivenParameters {
    pub(crate) timeout: Option<Scalar>,
    pub(crate) binary_data_output: Option<Scalar>,
    pub(crate) binary_data_size: Option<Scalar>,
    pub(crate) binary_data: Option<Scalar>,
    pub(crate) classification: Option<Scalar>,
}

impl<'de> Deserialize<'de> for GivenParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;

        impl<'de> Visitor<'de> for Named {
            type Value = GivenParameters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenParameters, A::Error> {
                let mut given = GivenParameters::default();
                while let Some(name) = map.next_key::<String>()? {
                    let value = match name.as_str() {
                        "timeout" => &mut given.timeout,
                        "binary_data_output" => &mut given.binary_data_output,
                        "binary_data_size" => &mut given.binary_data_size,
                        "binary_data" => &mut given.binary_data,
                        "classification" => &mut given.classification,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *value = map.next_value()?;
                }
                Ok(given)
            }
        }

        deserializer.deserialize_map(Named)
    }
}

/// A boolean or a whole number; anything else takes no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Truth(bool),
    Count(u64),
    Other,
}

impl Scalar {
    pub(crate) fn truth(self) -> Option<bool> {
        if let Scalar::Truth(truth) = self { Some(truth) } else { None }
    }

    pub(crate) fn count(self) -> Option<u64> {
        if let Scalar::Count(count) = self { Some(count) } else { None }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar::Truth(truth))
            }

            fn visit_u64<E>(self, count: u64) -> Result<Scalar, E> {
                Ok(Scalar::Count(count))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_str<E>(self, _: &str) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// A list of tensors or of sides, of which a request has only a few: a long one would take many times its bytes.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            const MOST: usize = 16;
            let mut found = Vec::new();
            while let Some(one) = list.next_element()? {
                if found.len() == MOST {
                    return Err(de::Error::custom(format!("expected a list of at most {MOST}, found more")));
                }
                found.push(one);
            }
            Ok(found)
        }
    }

    deserializer.deserialize_seq(Few(std::marker::PhantomData))
}

/// A request for inference.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InferBody {
    /// Comes back in the answer.
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) parameters: GivenParameters,
    /// One input: `images` or `pixel_values`.
    #[serde(deserialize_with = "few")]
    pub(crate) inputs: Vec<InputBody>,
    /// The outputs that are wanted; all if absent.
    #[serde(default, deserialize_with = "few")]
    pub(crate) outputs: Vec<WantedBody>,
}

/// An input.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct InputBody {
    /// `images` or `pixel_values`.
    #[schema(examples("images"))]
    pub(crate) name: String,
    /// `[images]`, or `[images, channels, height, width]`.
    #[serde(deserialize_with = "few")]
    pub(crate) shape: Vec<i64>,
    /// `BYTES` for `images`, `FP32` for `pixel_values`.
    #[schema(examples("BYTES"))]
    pub(crate) datatype: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) parameters: GivenParameters,
    /// Numbers, or encoded images in base64; absent if the input follows in binary form.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Value>>)]
    pub(crate) data: Option<Elements>,
}

/// An output that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct WantedBody {
    /// `logits`, `probabilities` or `features`.
    #[schema(examples("probabilities"))]
    pub(crate) name: String,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(crate) parameters: GivenParameters,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferAnswer {
    pub(crate) model_name: String,
    pub(crate) model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    pub(crate) outputs: Vec<OutputBody>,
}

/// An output.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputBody {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<usize>,
    /// `binary_data_size`, if the output follows in binary form.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub(crate) parameters: Parameters,
    /// Elements in row-major order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Value>>)]
    pub(crate) data: Option<DataBody>,
}

/// Elements of an output.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum DataBody {
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

/// What the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServerBody {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) extensions: Vec<&'static str>,
}

/// Whether the server is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LiveBody {
    pub(crate) live: bool,
}

/// Whether the server takes requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadyBody {
    pub(crate) ready: bool,
}

/// Whether a model takes requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelReadyBody {
    pub(crate) name: String,
    pub(crate) ready: bool,
}

/// Inputs and outputs of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelBody {
    pub(crate) name: String,
    pub(crate) versions: Vec<&'static str>,
    pub(crate) platform: &'static str,
    pub(crate) inputs: Vec<TensorBody>,
    pub(crate) outputs: Vec<TensorBody>,
}

/// A tensor of a model; -1 is any number.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TensorBody {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: Vec<i64>,
}

/// How a model is served, under Triton's names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigBody {
    pub(crate) name: String,
    pub(crate) platform: &'static str,
    pub(crate) backend: &'static str,
    pub(crate) max_batch_size: usize,
    pub(crate) input: Vec<ConfigTensorBody>,
    pub(crate) output: Vec<ConfigTensorBody>,
    pub(crate) dynamic_batching: BatchingBody,
}

/// A tensor without the dimension of the images.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigTensorBody {
    pub(crate) name: &'static str,
    /// `TYPE_FP32` or `TYPE_STRING`.
    pub(crate) data_type: &'static str,
    pub(crate) dims: Vec<i64>,
    /// Of the inputs, a request has one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) optional: bool,
}

/// How batches are made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchingBody {
    pub(crate) preferred_batch_size: Vec<usize>,
    pub(crate) max_queue_delay_microseconds: u64,
    pub(crate) default_queue_policy: PolicyBody,
}

/// What the queue allows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyBody {
    pub(crate) default_timeout_microseconds: u64,
    pub(crate) allow_timeout_override: bool,
    pub(crate) max_queue_size: usize,
}

/// What has happened so far.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatisticsBody {
    pub(crate) model_stats: Vec<ModelStatisticsBody>,
}

/// What has happened with one model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelStatisticsBody {
    pub(crate) name: String,
    pub(crate) version: &'static str,
    /// Milliseconds since 1970; 0 if never.
    pub(crate) last_inference: u64,
    /// Images.
    pub(crate) inference_count: u64,
    /// Batches.
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferStatisticsBody,
    pub(crate) batch_stats: Vec<BatchStatisticsBody>,
}

/// Times, summed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferStatisticsBody {
    /// Requests that were answered.
    pub(crate) success: DurationBody,
    /// Requests that were refused or failed.
    pub(crate) fail: DurationBody,
    /// Images in the queue.
    pub(crate) queue: DurationBody,
    /// Decoding and preprocessing of images.
    pub(crate) compute_input: DurationBody,
    /// The model.
    pub(crate) compute_infer: DurationBody,
    /// Making the answers.
    pub(crate) compute_output: DurationBody,
}

/// Times of the batches of one size, summed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchStatisticsBody {
    pub(crate) batch_size: u64,
    pub(crate) compute_input: DurationBody,
    pub(crate) compute_infer: DurationBody,
    pub(crate) compute_output: DurationBody,
}

/// How often, and how long together.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct DurationBody {
    pub(crate) count: u64,
    /// Nanoseconds.
    pub(crate) ns: u64,
}

/// What is asked of the repository's index.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct IndexBody {
    /// Only the models that are ready.
    #[serde(default)]
    pub(crate) ready: bool,
}

/// A model in the repository.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexEntryBody {
    pub(crate) name: String,
    pub(crate) version: &'static str,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    pub(crate) state: &'static str,
    pub(crate) reason: &'static str,
}
