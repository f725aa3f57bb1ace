//! Fine-tuning, epoch by epoch.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use vitral::{LoadOptions, Model};
use vitral_train::fit::{Outcome, RunSize, Watcher};
use vitral_train::journal::Entry;
use vitral_train::recipe::{Finetuning, Recipe, Setting};
use vitral_train::run::{Models, RunOn, run as train};
use vitral_train::sets::open_sets;
use vitral_train::step::StepReport;

use crate::answers::json;
use crate::device::{self, beside};
use crate::faults::{Fault, Kind};
use crate::interrupt::{Ending, Event, Stop, Teller, run_telling};
use crate::loaded::located;
use crate::log::{Level, Report};

/// An epoch that is done.
struct Epoch {
    callback: Arc<Py<PyAny>>,
    entry: String,
    best: bool,
}

impl Event for Epoch {
    fn tell(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        self.callback.bind(py).call1((self.entry, self.best)).map(|_| ())
    }
}

/// Follows a run for Python.
struct Follower<'a, R> {
    teller: &'a Teller<R>,
    callback: Option<Arc<Py<PyAny>>>,
    epochs: u64,
}

impl<R> Watcher for Follower<'_, R> {
    fn begin(&mut self, size: &RunSize) {
        let RunSize { trained, parameters, steps, images, .. } = *size;
        self.note(&format!("{trained} of {parameters} parameters are trained, in {steps} steps of {images} images"));
    }

    fn note(&mut self, note: &str) {
        self.teller.tell(Report(Level::Info, note.to_owned()));
    }

    fn step(&mut self, _: &StepReport, _: usize, _: usize) {}

    fn epoch(&mut self, entry: &Entry, best: bool) {
        let Entry { epoch, train_loss, validation_accuracy, images_per_second, .. } = entry;
        let validation = validation_accuracy.map_or(String::new(), |share| format!(", validation {share:.4}"));
        let epochs = self.epochs;
        self.note(&format!(
            "epoch {epoch} of {epochs}: loss {train_loss:.4}{validation}, {images_per_second:.0} images/s"
        ));
        if let (Some(callback), Ok(entry)) = (&self.callback, serde_json::to_string(entry)) {
            self.teller.tell(Epoch { callback: Arc::clone(callback), entry, best });
        }
    }

    fn unreadable(&mut self, faults: &[String]) {
        for fault in faults {
            self.teller.tell(Report(Level::Warning, format!("skipped: {fault}")));
        }
    }
}

/// Fine-tunes a model, or goes on with a run; the result is what `vitral finetune --json` prints last.
#[pyfunction]
#[pyo3(signature = (model, data, out, *, test, recipe, lora, image_size, settings, callback, device, threads, cuda_path))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn finetune(
    py: Python<'_>,
    model: String,
    data: PathBuf,
    out: PathBuf,
    test: Option<PathBuf>,
    recipe: Option<PathBuf>,
    lora: Option<u32>,
    image_size: Option<u32>,
    settings: Vec<String>,
    callback: Option<Py<PyAny>>,
    device: &str,
    threads: usize,
    cuda_path: Option<PathBuf>,
) -> PyResult<String> {
    let settings: Vec<Setting> =
        settings.iter().map(|setting| Setting::parse(setting).map_err(Fault::config)).collect::<Result<_, _>>()?;
    let mut wanted = Finetuning::new(model, data);
    (wanted.test, wanted.recipe, wanted.lora, wanted.image_size) = (test, recipe, lora, image_size);
    let recipe = Recipe::finetuning(&wanted, &settings).map_err(Fault::from)?;
    let opened = device::open(py, device, threads, cuda_path)?;
    let callback = callback.map(Arc::new);
    let work = move |stop: &Stop, teller: &Teller<_>| -> Result<Option<serde_json::Value>, Fault> {
        beside(opened.threads, || {
            let mut sets = open_sets(&recipe)?;
            let load = |name: &str, options: &LoadOptions| -> Result<Model, Fault> {
                Ok(Model::load(located(name.as_ref(), teller)?, options, &opened.device)?)
            };
            let models = Models::load(&recipe, &mut sets, load)?;
            let mut watcher = Follower { teller, callback, epochs: recipe.run.epochs };
            sets.notes.iter().for_each(|note| watcher.note(note));
            match train(&recipe, &sets, models, &out, RunOn::alone(&opened.device, stop.flag()), &mut watcher)? {
                Outcome::Finished { best, epoch, test } => Ok(Some(serde_json::json!({
                    "best_accuracy": best,
                    "epoch": epoch,
                    "chosen_on": sets.chosen_on,
                    "test_accuracy": test,
                    "model": out.join("best"),
                    "report": out.join("report.html"),
                }))),
                Outcome::Interrupted { step } => {
                    watcher.note(&format!("stopped after step {step}; the same call resumes the run"));
                    Ok(None)
                }
            }
        })
    };
    let found = run_telling(py, Ending::Awaited, work)??;
    let stopped = || Fault { kind: Kind::Stopped, text: "stopped; the same call resumes the run".to_owned() };
    json(&found.ok_or_else(stopped)?)
}
