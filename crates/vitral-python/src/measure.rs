//! Evaluations of a model on labeled images.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use serde::Serialize;
use vitral::features::FeatureKind;
use vitral_ranks::Ranks;
use vitral_train::data::Split;
use vitral_train::evaluate::{Evaluation, ModelEvaluation, ProbeOptions, Watcher, evaluate_model};

use crate::answers::json;
use crate::device::beside;
use crate::faults::Fault;
use crate::interrupt::{Ending, Stop, Teller, run_telling};
use crate::loaded::Loaded;
use crate::log::{Level, Report};

/// Logs what there is to say, and stops when asked to.
struct Follower<'a, R> {
    stop: &'a Stop,
    teller: &'a Teller<R>,
}

impl<R> Watcher for Follower<'_, R> {
    fn note(&mut self, note: &str) {
        self.teller.tell(Report(Level::Info, note.to_owned()));
    }

    fn advance(&mut self, _: usize) -> ControlFlow<()> {
        if self.stop.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn unreadable(&mut self, fault: &str) {
        self.teller.tell(Report(Level::Warning, format!("skipped: {fault}")));
    }
}

/// A report, and the precision that it was computed in.
#[derive(Serialize)]
struct Computed {
    precision: &'static str,
    #[serde(flatten)]
    report: Evaluation,
}

pub(crate) fn evaluate(
    py: Python<'_>,
    loaded: &Arc<Loaded>,
    data: PathBuf,
    split: &str,
    batch: usize,
    mirror: bool,
    five_crops: bool,
) -> PyResult<String> {
    let split = match split {
        "train" | "training" => Split::Train,
        "validation" | "val" | "valid" | "dev" => Split::Validation,
        "test" => Split::Test,
        other => {
            let fault = format!("`split`: expected `train`, `validation` or `test`, found `{other}`");
            return Err(Fault::config(fault).into());
        }
    };
    let options = ModelEvaluation { split, batch: positive(batch)?, mirror, five_crops };
    let loaded = Arc::clone(loaded);
    let work = move |stop: &Stop, teller: &Teller<_>| -> Result<Computed, Fault> {
        let model = &loaded.model;
        beside(loaded.threads, || {
            let report = evaluate_model(model, &data, &options, &Ranks::alone(), &mut Follower { stop, teller })?;
            Ok(Computed { precision: model.precision().name(), report })
        })
    };
    json(&run_telling(py, Ending::Abandoned, work)??)
}

pub(crate) fn probe(
    py: Python<'_>,
    loaded: &Arc<Loaded>,
    data: PathBuf,
    (test, pool, neighbors, shots, batch): (Option<PathBuf>, FeatureKind, Vec<usize>, Vec<usize>, usize),
) -> PyResult<String> {
    let mut options = ProbeOptions::default();
    (options.test, options.pool, options.batch) = (test, pool, positive(batch)?);
    (options.neighbors, options.shots) = (neighbors, shots);
    let loaded = Arc::clone(loaded);
    let work = move |stop: &Stop, teller: &Teller<_>| -> Result<_, Fault> {
        let model = &loaded.model;
        beside(loaded.threads, || {
            Ok(vitral_train::evaluate::probe(model, &data, &options, &Ranks::alone(), &mut Follower { stop, teller })?)
        })
    };
    json(&run_telling(py, Ending::Abandoned, work)??)
}

fn positive(batch: usize) -> Result<usize, Fault> {
    match batch {
        0 => Err(Fault::config("`batch_size`: expected at least 1, found 0")),
        batch => Ok(batch),
    }
}
