//! The Open Inference Protocol (KServe's version 2, with Triton's extensions), over HTTP in [`http`] and over gRPC in
//! [`grpc`]. What both share is here and in [`describe`].

pub(crate) mod admission;
pub(crate) mod describe;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod json;

use std::time::Duration;

use bytes::Bytes;
use vitral::config::{Problem, Size};
use vitral::labels::{Ranked, probabilities, top};

use crate::fault::Fault;
use crate::job::{Answer, Input, Row, Task};
use crate::runner::Runner;

/// The input of encoded images.
pub(crate) const IMAGES: &str = "images";
/// The input of preprocessed images.
pub(crate) const PIXELS: &str = "pixel_values";

/// An output of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputName {
    Logits,
    Probabilities,
    Features,
}

impl OutputName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            OutputName::Logits => "logits",
            OutputName::Probabilities => "probabilities",
            OutputName::Features => "features",
        }
    }

    /// What a model has.
    pub(crate) fn of(runner: &Runner) -> Vec<OutputName> {
        let config = runner.model().vit().config();
        let mut outputs = Vec::new();
        if config.classes > 0 {
            outputs.push(OutputName::Logits);
            if matches!(config.problem, Problem::SingleLabel | Problem::MultiLabel) {
                outputs.push(OutputName::Probabilities);
            }
        }
        outputs.push(OutputName::Features);
        outputs
    }
}

/// A tensor that a client sends.
#[derive(Debug)]
pub(crate) struct InputTensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: InputData,
}

/// Its elements.
#[derive(Debug)]
pub(crate) enum InputData {
    Numbers(Vec<f32>),
    Elements(Vec<Bytes>),
}

/// An output that a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct WantedOutput {
    pub(crate) name: String,
    /// Whether it is sent in binary form.
    pub(crate) binary: bool,
    /// The best classes instead of all numbers; 0 is all numbers.
    pub(crate) classes: usize,
}

/// A request, whatever it came by.
#[derive(Debug)]
pub(crate) struct InferRequest {
    pub(crate) inputs: Vec<InputTensor>,
    /// All that the model has if empty.
    pub(crate) outputs: Vec<WantedOutput>,
    /// Whether outputs are binary if they do not say so.
    pub(crate) binary: bool,
    pub(crate) timeout: Option<Duration>,
}

/// A tensor that the server sends.
#[derive(Debug)]
pub(crate) struct OutputTensor {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: OutputData,
    pub(crate) binary: bool,
}

/// Its elements.
#[derive(Debug)]
pub(crate) enum OutputData {
    Numbers(Vec<f32>),
    /// `score:class:label`
    Texts(Vec<String>),
}

impl OutputData {
    pub(crate) fn datatype(&self) -> &'static str {
        match self {
            OutputData::Numbers(_) => "FP32",
            OutputData::Texts(_) => "BYTES",
        }
    }
}

/// A timeout in microseconds, as the protocol states it; 0 is the server's own.
pub(crate) fn timeout(microseconds: u64) -> Option<Duration> {
    (microseconds > 0).then(|| Duration::from_micros(microseconds))
}

/// Answers a request.
pub(crate) async fn infer(runner: &Runner, request: InferRequest) -> Result<(Vec<OutputTensor>, usize), Fault> {
    let has = OutputName::of(runner);
    let wanted = if request.outputs.is_empty() {
        let all = |name: &OutputName| (*name, WantedOutput { name: String::new(), binary: request.binary, classes: 0 });
        has.iter().map(all).collect()
    } else {
        let find = |wanted: WantedOutput| {
            let found = has.iter().find(|name| name.name() == wanted.name).copied();
            found.map(|name| (name, wanted.clone())).ok_or_else(|| {
                let names: Vec<&str> = has.iter().map(|name| name.name()).collect();
                Fault::bad(format!("expected an output among `{}`, found `{}`", names.join("`, `"), wanted.name))
            })
        };
        let found = request.outputs.into_iter().map(find).collect::<Result<Vec<(OutputName, _)>, _>>()?;
        // Each is a copy of all its numbers.
        if let Some(name) = has.iter().find(|name| found.iter().filter(|(one, _)| one == *name).count() > 1) {
            return Err(Fault::bad(format!("expected each output once, found `{}` twice", name.name())));
        }
        found
    };
    let inputs = inputs(runner, request.inputs)?;
    let images = inputs.len();
    let answers = runner.run(inputs, Task::Outputs, request.timeout).await?;
    let outputs = wanted.iter().map(|(name, wanted)| output(runner, &answers, *name, wanted)).collect();
    Ok((outputs, images))
}

/// The images of a request: encoded, or preprocessed.
fn inputs(runner: &Runner, tensors: Vec<InputTensor>) -> Result<Vec<Input>, Fault> {
    let count = tensors.len();
    let Ok([tensor]) = <[InputTensor; 1]>::try_from(tensors) else {
        return Err(Fault::bad(format!("expected one input, `{IMAGES}` or `{PIXELS}`, found {count}")));
    };
    let InputTensor { name, datatype, shape, data } = tensor;
    let wrong =
        |expected: &str, found: String| Fault::bad(format!("input `{name}`: expected {expected}, found {found}"));
    match name.as_str() {
        IMAGES => {
            let InputData::Elements(images) = data else { return Err(wrong("datatype `BYTES`", datatype)) };
            let fits = matches!(shape[..], [n] | [n, 1] if n == images.len() as i64);
            if !fits {
                return Err(wrong("shape [images]", format!("{shape:?} for {} images", images.len())));
            }
            Ok(images.into_iter().map(Input::Encoded).collect())
        }
        PIXELS => {
            let InputData::Numbers(values) = data else { return Err(wrong("datatype `FP32`", datatype)) };
            let channels = runner.model().vit().config().channels;
            let sides = |side: i64| usize::try_from(side).ok().filter(|side| (1..=1 << 20).contains(side));
            let expected = format!("shape [images, {channels}, height, width]");
            let [n, c, h, w] = shape[..] else { return Err(wrong(&expected, format!("{shape:?}"))) };
            let (Some(n), Some(height), Some(width)) = (sides(n), sides(h), sides(w)) else {
                return Err(wrong(&expected, format!("{shape:?}")));
            };
            if c != channels as i64 {
                return Err(wrong(&expected, format!("{shape:?}")));
            }
            let size = Size { height, width };
            runner.model().vit().grid(size).map_err(|fault| Fault::bad(format!("input `{name}`: {fault}")))?;
            let image = channels.saturating_mul(height).saturating_mul(width);
            let needed = image.saturating_mul(n);
            if needed != values.len() {
                return Err(wrong(&format!("{needed} numbers for shape {shape:?}"), values.len().to_string()));
            }
            Ok(values.chunks(image).map(|values| Input::Pixels { size, values: values.to_vec() }).collect())
        }
        _ => Err(Fault::bad(format!("expected an input `{IMAGES}` or `{PIXELS}`, found `{name}`"))),
    }
}

/// One output of all images.
fn output(runner: &Runner, answers: &[Answer], name: OutputName, wanted: &WantedOutput) -> OutputTensor {
    let model = runner.model();
    let problem = model.vit().config().problem;
    let row = |answer: &Answer| -> Option<Row> {
        let Answer::Outputs { logits, features } = answer else { return None };
        match name {
            OutputName::Features => Some(features.clone()),
            OutputName::Logits => logits.clone(),
            OutputName::Probabilities => logits.as_ref().map(|logits| {
                // A model that does not pool has one ranking for each token.
                let classes = logits.shape.last().copied().unwrap_or(1).max(1);
                let values = logits.values.chunks(classes).flat_map(|row| probabilities(row, problem)).collect();
                Row { shape: logits.shape.clone(), values }
            }),
        }
    };
    let rows: Vec<Row> = answers.iter().filter_map(row).collect();
    let mut shape = vec![rows.len()];
    shape.extend(rows.first().map(|row| row.shape.clone()).unwrap_or_default());
    let ranks = wanted.classes > 0 && name != OutputName::Features && shape.len() == 2;
    let data = if ranks {
        let classes = wanted.classes.min(shape[1]);
        shape[1] = classes;
        let logits = answers.iter().filter_map(|answer| match answer {
            Answer::Outputs { logits, .. } => logits.as_ref(),
            _ => None,
        });
        let text = |ranked: Ranked| {
            let score = if name == OutputName::Logits { ranked.logit } else { ranked.probability };
            format!("{score}:{}:{}", ranked.class, ranked.label)
        };
        OutputData::Texts(logits.flat_map(|row| top(&row.values, classes, model.labels(), problem)).map(text).collect())
    } else {
        OutputData::Numbers(rows.into_iter().flat_map(|row| row.values).collect())
    };
    OutputTensor { name: name.name(), shape, data, binary: wanted.binary }
}
