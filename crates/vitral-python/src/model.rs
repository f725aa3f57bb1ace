//! A loaded model.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{PyReadonlyArray3, PyReadonlyArray4, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};
use vitral::config::{Problem, Size};
use vitral::features::FeatureKind;
use vitral::image::preprocess::Channels;
use vitral::image::{Backend, DecodeOptions, Limits};
use vitral::info::Info;
use vitral::model::variants;
use vitral::text::TextLabels;
use vitral::trace::TraceOptions;
use vitral::weights::adapt::{Adaptation, HeadChoice};
use vitral::{LoadOptions, Model as Vitral, Precision, Tensor};

use crate::answers::{array, json};
use crate::device;
use crate::explain::{self, Explained, Wanted};
use crate::faults::Fault;
use crate::interrupt::{Ending, Teller, run, run_telling};
use crate::loaded::{Loaded, about, load};
use crate::log::{Level, log};
use crate::measure;
use crate::sources::Source;
use crate::stream::{Stream, Task};

/// The compiled side of `vitral.Model`.
#[pyclass(frozen, module = "vitral._native")]
pub(crate) struct Model {
    loaded: Arc<Loaded>,
}

#[pymethods]
impl Model {
    #[staticmethod]
    #[pyo3(signature = (path, *, config, ignore, precision, device, threads, cuda_path, image_size, without_head, backend, max_pixels, sample_range, labels, template))]
    #[allow(clippy::too_many_arguments)]
    fn load(
        py: Python<'_>,
        path: Option<PathBuf>,
        config: Option<PathBuf>,
        ignore: Vec<String>,
        precision: Option<&str>,
        device: &str,
        threads: usize,
        cuda_path: Option<PathBuf>,
        image_size: Option<usize>,
        without_head: bool,
        backend: Option<&str>,
        max_pixels: Option<u64>,
        sample_range: &str,
        labels: Option<Vec<String>>,
        template: Vec<String>,
    ) -> PyResult<Self> {
        let precision: Option<Precision> =
            precision.map(str::parse).transpose().map_err(|fault| Fault::config(format!("`precision`: {fault}")))?;
        let backend: Option<Backend> =
            backend.map(str::parse).transpose().map_err(|fault| Fault::config(format!("`backend`: {fault}")))?;
        let range = sample_range.parse().map_err(|fault| Fault::config(format!("`sample_range`: {fault}")))?;
        let limits = max_pixels.map_or(Limits::DEFAULT, Limits::of_pixels);
        let decoding = DecodeOptions::default().limits(limits).sample_range(range);
        let opened = device::open(py, device, threads, cuda_path)?;
        if let Some(precision) = precision {
            opened.device.clone().with_precision(precision).map_err(Fault::from)?;
        }
        let head = if without_head { HeadChoice::Drop } else { HeadChoice::Keep };
        let adapt = Adaptation { image_size: image_size.map(Size::square), head, ..Adaptation::default() };
        let options = LoadOptions::default().config(config.clone()).ignore(ignore).precision(precision).adapt(adapt);
        let labels = labels.map(|labels| TextLabels::new(labels).templates(template));
        if labels.is_some() && path.is_none() {
            return Err(
                Fault::config("`labels`: the built-in model has no text tower; load one of CLIP or SigLIP").into()
            );
        }
        let options = options.backend(backend).labels(labels);
        let given = path.clone();
        let work =
            move |_: &_, teller: &Teller<_>| -> Result<Vitral, Fault> { load(path, &options, &opened.device, teller) };
        let threads = opened.threads;
        let model = run_telling(py, Ending::Abandoned, work)??;
        log(py, Level::Info, &about(&model))?;
        Ok(Model { loaded: Arc::new(Loaded { model, threads, decoding, given, config }) })
    }

    /// The batches of a task: `classify`, `embed` or `preprocess`.
    #[pyo3(signature = (images, task, *, top_k = 0, apply = None, pool = "pooled", batch_size = None, in_step = false))]
    #[allow(clippy::too_many_arguments)]
    fn stream(
        &self,
        images: Bound<'_, PyIterator>,
        task: &str,
        top_k: usize,
        apply: Option<&str>,
        pool: &str,
        batch_size: Option<usize>,
        in_step: bool,
    ) -> PyResult<Stream> {
        let loaded = &self.loaded;
        let task = match task {
            "classify" => {
                loaded.model.check_classifies().map_err(Fault::from)?;
                Task::Classify(top_k, applied(apply, &loaded.model)?)
            }
            "embed" => Task::Embed(kind(pool)?),
            _ => Task::Preprocess,
        };
        Ok(Stream::new(loaded, images, task, loaded.batch(batch_size)?, in_step)?)
    }

    /// Runs the model on a tensor.
    #[pyo3(signature = (pixel_values, *, mask, hidden_states, attentions, batch_size))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        pixel_values: PyReadonlyArray4<'py, f32>,
        mask: Option<PyReadonlyArray3<'py, u8>>,
        hidden_states: bool,
        attentions: bool,
        batch_size: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let loaded = &self.loaded;
        let &[count, channels, height, width] = pixel_values.shape() else { unreachable!("four dimensions") };
        let expected = loaded.model.vit().config().channels;
        if channels != expected || count == 0 {
            let found = pixel_values.shape();
            return Err(Fault::config(format!(
                "expected `pixel_values` of shape [images, {expected}, height, width] with at least one image, found {found:?}"
            ))
            .into());
        }
        let grid = loaded.model.vit().grid(Size { height, width });
        let grid = grid.map_err(|fault| Fault::from(vitral::Error::from(fault)))?;
        let of_mask = [count, grid.height, grid.width];
        if let Some(found) = mask.as_ref().map(|mask| mask.shape().to_vec()).filter(|found| *found != of_mask) {
            return Err(Fault::config(format!("expected `mask` of shape {of_mask:?}, found {found:?}")).into());
        }
        let contiguous = |_| Fault::config("expected arrays whose values are in order in memory (C-contiguous)");
        let values = pixel_values.as_slice().map_err(contiguous)?;
        let mask = mask.as_ref().map(|mask| mask.as_slice()).transpose().map_err(contiguous)?;
        let options = TraceOptions::default().hidden_states(hidden_states).attentions(attentions);
        let (image, batch) = (channels * height * width, loaded.batch(batch_size)?.get());
        let mut found: Vec<Named> = Vec::new();
        for first in (0..count).step_by(batch) {
            let size = batch.min(count - first);
            let device = loaded.model.parameters().device();
            let pixels = device.upload([size, channels, height, width], &values[first * image..][..size * image]);
            let pixels = pixels.map_err(Fault::from)?;
            let mask = mask.map(|mask| mask[first * grid.area()..][..size * grid.area()].to_vec());
            let loaded = Arc::clone(loaded);
            let traced = run(py, move |_| traced(&loaded.model, &pixels, mask.as_deref(), options))??;
            for (place, mut new) in traced.into_iter().enumerate() {
                match found.get_mut(place) {
                    Some(known) => known.values.extend(new.values),
                    None => {
                        new.shape[0] = count;
                        let whole = new.shape.iter().product::<usize>();
                        new.values.reserve_exact(whole.saturating_sub(new.values.len()));
                        found.push(new);
                    }
                }
            }
        }
        let answer = PyDict::new(py);
        for Named { name, shape, values } in found {
            answer.set_item(name, array(py, &shape, values)?)?;
        }
        Ok(answer)
    }

    /// Whether images are of bands, not in color.
    fn takes_bands(&self) -> bool {
        matches!(self.loaded.model.channels(), Channels::Bands(_))
    }

    /// A map over an image.
    fn explain(&self, py: Python<'_>, image: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Explained> {
        let (source, loaded) = (Source::of(image)?, Arc::clone(&self.loaded));
        let wanted = Wanted::of(options)?;
        Ok(run(py, move |stop| explain::explain(&loaded, source, &wanted, stop))??)
    }

    /// The measures of `vitral evaluate --json`.
    #[pyo3(signature = (data, *, split, batch_size, mirror, five_crops))]
    fn evaluate(
        &self,
        py: Python<'_>,
        data: PathBuf,
        split: &str,
        batch_size: usize,
        mirror: bool,
        five_crops: bool,
    ) -> PyResult<String> {
        measure::evaluate(py, &self.loaded, data, split, batch_size, mirror, five_crops)
    }

    /// The measures of `vitral probe --json`.
    #[pyo3(signature = (data, *, test, pool, neighbors, shots, batch_size))]
    #[allow(clippy::too_many_arguments)]
    fn probe(
        &self,
        py: Python<'_>,
        data: PathBuf,
        test: Option<PathBuf>,
        pool: &str,
        neighbors: Vec<usize>,
        shots: Vec<usize>,
        batch_size: usize,
    ) -> PyResult<String> {
        measure::probe(py, &self.loaded, data, (test, kind(pool)?, neighbors, shots, batch_size))
    }

    /// What `vitral info --json` prints.
    fn info(&self, py: Python<'_>) -> PyResult<String> {
        let loaded = Arc::clone(&self.loaded);
        let info = run(py, move |_| Info::of_model(&loaded.model, loaded.given.as_deref(), loaded.config.as_deref()))?;
        json(&info.map_err(Fault::from)?)
    }

    /// Fails unless the architecture has the size of this name.
    fn check_named(&self, name: &str) -> PyResult<()> {
        let Some(named) = variants::find(name) else {
            let fault =
                format!("`{name}`: unknown name of an architecture; `vitral models` lists them, or use `Model.load`");
            return Err(Fault::config(fault).into());
        };
        let own = self.loaded.model.vit().config();
        for (what, expected, found) in [
            ("width", named.width.to_string(), own.width.to_string()),
            ("depth", named.depth.to_string(), own.depth.to_string()),
            ("heads", named.heads.to_string(), own.heads.to_string()),
            ("patch size", named.patch_size.to_string(), own.patch_size.to_string()),
        ] {
            if expected != found {
                return Err(Fault::config(format!(
                    "`{name}`: expected a model of {what} {expected}, found {found} in `{}`; correct the name or the path",
                    self.loaded.model.path().display()
                ))
                .into());
            }
        }
        Ok(())
    }

    #[getter]
    fn name(&self) -> &str {
        self.loaded.model.name()
    }

    #[getter]
    fn path(&self) -> Option<PathBuf> {
        self.loaded.given.as_ref().map(|_| self.loaded.model.path().to_owned())
    }

    #[getter]
    fn labels(&self) -> Option<Vec<String>> {
        self.loaded.model.labels().names().map(<[String]>::to_vec)
    }

    #[getter]
    fn classes(&self) -> usize {
        let config = self.loaded.model.vit().config();
        if config.problem == Problem::Embedding { 0 } else { config.classes }
    }

    #[getter]
    fn image_size(&self) -> (usize, usize) {
        let size = self.loaded.model.vit().config().image_size;
        (size.height, size.width)
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.loaded.model.precision().name()
    }

    #[getter]
    fn device(&self) -> &'static str {
        self.loaded.model.parameters().device().name()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.loaded.threads.get()
    }
}

/// A tensor as `vitral forward` writes it.
struct Named {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Runs the model, and keeps what `vitral forward` writes.
fn traced(model: &Vitral, pixels: &Tensor, mask: Option<&[u8]>, options: TraceOptions) -> Result<Vec<Named>, Fault> {
    let trace = model.trace(pixels, mask, options)?;
    let mut found = vec![("features".to_owned(), trace.output.features)];
    found.extend(trace.output.logits.map(|logits| ("logits".to_owned(), logits)));
    let numbered =
        |name, all: Vec<Tensor>| all.into_iter().enumerate().map(move |(i, tensor)| (format!("{name}.{i}"), tensor));
    found.extend(numbered("hidden_states", trace.hidden_states));
    found.extend(numbered("attentions", trace.attentions));
    let named =
        |(name, tensor): (String, Tensor)| Ok(Named { name, shape: tensor.shape().to_vec(), values: tensor.to_vec()? });
    found.into_iter().map(named).collect()
}

/// What logits become: as the model's files say, unless a function is named.
fn applied(apply: Option<&str>, model: &Vitral) -> Result<Problem, Fault> {
    match apply {
        None => Ok(model.vit().config().problem),
        Some("softmax") => Ok(Problem::SingleLabel),
        Some("sigmoid") => Ok(Problem::MultiLabel),
        Some("none") => Ok(Problem::Regression),
        Some(other) => {
            Err(Fault::config(format!("`function_to_apply`: expected `softmax`, `sigmoid` or `none`, found `{other}`")))
        }
    }
}

/// Features by the names of `vitral embed --pool`.
pub(crate) fn kind(pool: &str) -> Result<FeatureKind, Fault> {
    match pool.replace('_', "-").as_str() {
        "pooled" => Ok(FeatureKind::Pooled),
        "class" | "cls" => Ok(FeatureKind::Class),
        "mean" | "avg" => Ok(FeatureKind::Mean),
        "class-and-mean" => Ok(FeatureKind::ClassAndMean),
        "tokens" => Ok(FeatureKind::Tokens),
        _ => Err(Fault::config(format!(
            "`pool`: expected `pooled`, `class`, `mean`, `class-and-mean` or `tokens`, found `{pool}`"
        ))),
    }
}
