//! Maps over images.

use std::ops::ControlFlow;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use vitral::Model;
use vitral::explain::attention::{self, Fusion};
use vitral::explain::{Aim, InputImage, Method, Options, paint};
use vitral::image::RgbImage;

use crate::answers::{array, pixels};
use crate::device::beside;
use crate::faults::Fault;
use crate::interrupt::Stop;
use crate::loaded::Loaded;
use crate::sources::{Notes, Source};

/// Number of classes to show.
const SHOWN: usize = 5;

/// The names of all methods.
#[pyfunction]
pub(crate) fn methods() -> Vec<(&'static str, &'static str, &'static str)> {
    Method::ALL.iter().map(|method| method.about()).map(|about| (about.name, about.title, about.meaning)).collect()
}

/// What is to be explained, as Python gives it.
#[derive(FromPyObject)]
enum Sought {
    /// A class by its number, whatever the names are.
    Number(i64),
    /// A class by its name, or by its number as a text; or the pooled features.
    Word(String),
}

/// The options of `Model.explain`, as Python gives them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Given {
    method: String,
    target: Option<Sought>,
    layer: Option<i64>,
    head: Option<i64>,
    at: Option<[usize; 2]>,
    fusion: String,
    discard: f32,
    identity: bool,
    mass: f32,
    steps: usize,
    samples: usize,
    noise: f32,
    masks: usize,
    window: usize,
    seed: u64,
    opacity: f32,
}

/// What to make.
pub(crate) struct Wanted {
    method: Method,
    target: Option<Sought>,
    layer: Option<i64>,
    head: Option<i64>,
    at: Option<[usize; 2]>,
    opacity: f32,
    options: Options,
}

impl Wanted {
    /// Reads the options of `Model.explain`.
    pub(crate) fn of(given: &Bound<'_, PyDict>) -> PyResult<Self> {
        let given: Given = given.extract()?;
        let name = &given.method;
        let method = Method::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| {
            let known = Method::ALL.map(Method::name).join("`, `");
            Fault::config(format!("`method`: expected one of `{known}`, found `{name}`"))
        })?;
        let mut options = Options::default();
        options.fusion = match given.fusion.as_str() {
            "mean" => Fusion::Mean,
            "max" => Fusion::Max,
            "min" => Fusion::Min,
            other => {
                let fault = format!("`fusion`: expected `mean`, `max` or `min`, found `{other}`");
                return Err(Fault::config(fault).into());
            }
        };
        options.rollout.discard = share("discard", given.discard)?;
        options.rollout.identity = given.identity;
        options.mass = share("mass", given.mass)?;
        options.noise = share("noise", given.noise)?;
        options.steps = count("steps", given.steps)?;
        options.samples = count("samples", given.samples)?;
        options.window = count("window", given.window)?;
        options.rise.masks = count("masks", given.masks)?;
        options.seed = given.seed;
        let Given { target, layer, head, at, .. } = given;
        Ok(Wanted { method, target, layer, head, at, opacity: share("opacity", given.opacity)?, options })
    }
}

fn share(name: &str, share: f32) -> Result<f32, Fault> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(Fault::config(format!("`{name}`: expected a fraction from 0 to 1, found {share}"))),
    }
}

fn count(name: &str, count: usize) -> Result<usize, Fault> {
    match count {
        0 => Err(Fault::config(format!("`{name}`: expected at least 1, found 0"))),
        count => Ok(count),
    }
}

/// A map, and how it is drawn.
#[pyclass(frozen, module = "vitral._native")]
pub(crate) struct Explained {
    size: [usize; 2],
    values: Vec<f32>,
    overlay: RgbImage,
    shown: RgbImage,
    explained: String,
    ranked: Vec<(String, f32, usize, f32)>,
}

#[pymethods]
impl Explained {
    /// `[rows, columns]`.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        array(py, &self.size, self.values.clone())
    }

    /// The map over its image, `[height, width, 3]`.
    fn overlay<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pixels(py, &self.overlay)
    }

    /// What the model sees of the image, `[height, width, 3]`.
    fn image<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pixels(py, &self.shown)
    }

    /// The map over its image, as PNG.
    fn png<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &py.detach(|| paint::png(&self.overlay)).map_err(Fault::from)?))
    }

    #[getter]
    fn explained(&self) -> &str {
        &self.explained
    }

    #[getter]
    fn ranked(&self) -> Vec<(String, f32, usize, f32)> {
        self.ranked.clone()
    }
}

/// Makes a map.
pub(crate) fn explain(loaded: &Loaded, source: Source, wanted: &Wanted, stop: &Stop) -> Result<Explained, Fault> {
    let model = &loaded.model;
    beside(loaded.threads, || {
        let name = match &source {
            Source::File(path) => path.display().to_string(),
            Source::Encoded(_) | Source::Samples { .. } | Source::Pixels { .. } => "the image".to_owned(),
        };
        let image = source.read(model.channels(), &loaded.decoding, &Notes::default())?;
        let input = InputImage::new(model, &name, &image)?;
        let mut options = wanted.options;
        options.layer = place("layer", wanted.layer, model.vit().config().depth)?;
        options.head = place("head", wanted.head, attention::heads(model))?;
        options.patch = wanted.at.map(|at| input.patch_at(model, at)).transpose()?;
        options.check(model)?;
        let prediction = model.explained(&input, aim(model, wanted.target.as_ref())?, SHOWN)?;
        let mut progress = |_| if stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let map = model.explain(&input, wanted.method, prediction.target.as_ref(), &options, &mut progress)?;
        let mut overlay = paint::overlay(&input.shown, &wanted.method.painted(&map), wanted.opacity)?;
        if wanted.method.needs_patch() {
            overlay = paint::outlined(&overlay, &input.layout, options.patch_in(&input.layout));
        }
        let ranked = prediction.ranked.into_iter().map(|r| (r.label, r.probability, r.class, r.logit)).collect();
        let size = [map.size.height, map.size.width];
        let explained = prediction.explained;
        Ok(Explained { size, values: map.values, overlay, shown: input.shown, explained, ranked })
    })
}

/// What is explained: a class by its name or number, the pooled features, or the most likely class.
fn aim(model: &Model, target: Option<&Sought>) -> Result<Aim, Fault> {
    match target {
        None => Ok(Aim::Predicted),
        Some(Sought::Word(word)) if word == "feature" => Ok(Aim::Feature),
        Some(Sought::Word(class)) => Ok(Aim::Class(model.class(class)?)),
        Some(Sought::Number(number)) => {
            model.check_classifies()?;
            let classes = model.vit().config().classes;
            let class = usize::try_from(*number).ok().filter(|&class| class < classes);
            class.map(Aim::Class).ok_or_else(|| {
                Fault::config(format!("`target`: expected a class from 0 to {}, found {number}", classes - 1))
            })
        }
    }
}

/// A number from 0, or from the end if negative. One that does not exist is refused by the library.
fn place(what: &str, asked: Option<i64>, count: usize) -> Result<Option<usize>, Fault> {
    let Some(asked) = asked else { return Ok(None) };
    let from_end = i64::try_from(count).ok().and_then(|count| asked.checked_add(count));
    let place = if asked < 0 { from_end } else { Some(asked) };
    let place = place.and_then(|place| usize::try_from(place).ok());
    place.map(Some).ok_or_else(|| {
        Fault::config(format!(
            "`{what}`: expected 0 to {}, or -1 to -{count} from the end, found {asked}",
            count.max(1) - 1
        ))
    })
}
