//! The thread that computes batches with the model and answers.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitral::config::Size;
use vitral::explain::Progress;
use vitral::explain::{Aim, InputImage, Options, PreparedImage, Target};
use vitral::features::FeatureKind;
use vitral::{Model, Tensor};

use crate::batcher::Rule;
use crate::fault::{Fault, Kind};
use crate::job::{Answer, Content, Explained, Prepared, Row, Task, Ticket, Wanted};
use crate::metrics::{BatchTimes, ModelMetrics};
use crate::pace::Pace;
use crate::queue::Queue;
use crate::turns::Turns;

/// Computes for one model.
pub(crate) struct Worker {
    pub(crate) model: Arc<Model>,
    pub(crate) rule: Rule,
    pub(crate) turns: Arc<Turns>,
    pub(crate) pace: Arc<Pace>,
}

impl Worker {
    /// Computes until the queue is closed and empty.
    pub(crate) fn run(&self, queue: &Queue, metrics: &ModelMetrics) {
        while let Some(batch) = queue.next_batch(&self.rule) {
            let turn = self.turns.take();
            let images = batch.len();
            let started = Instant::now();
            let mut times = BatchTimes {
                images,
                decoding: batch.iter().map(|prepared| prepared.decoding).sum(),
                queued: batch.iter().map(|one| one.ticket.waited().saturating_sub(one.decoding)).collect(),
                ..BatchTimes::default()
            };
            let Some((task, contents, tickets)) = parts(batch) else { continue };
            // A fault in one batch must not end the server.
            let found =
                catch_unwind(AssertUnwindSafe(|| self.compute(&task, contents, &tickets, &mut times.computing)))
                    .unwrap_or_else(|_| Err(Fault::new(Kind::Internal, "the model failed; please report it")));
            drop(turn);
            self.pace.add(started.elapsed() / images.max(1) as u32);
            match found {
                Ok(answers) => {
                    times.splitting = started.elapsed().saturating_sub(times.computing);
                    // Counted before they are answered: whoever has an answer finds it in the metrics.
                    metrics.computed(&times, matches!(task, Task::Explain(_)));
                    tickets.into_iter().zip(answers).for_each(|(ticket, answer)| ticket.answer(Ok(answer)));
                }
                Err(fault) => tickets.into_iter().for_each(|ticket| ticket.answer(Err(fault.clone()))),
            }
        }
    }

    fn compute(
        &self,
        task: &Task,
        contents: Vec<Content>,
        tickets: &[Ticket],
        computing: &mut Duration,
    ) -> Result<Vec<Answer>, Fault> {
        let started = Instant::now();
        let images = tickets.len();
        match task {
            Task::Explain(wanted) => {
                let Ok([Content::Image(image)]) = <[Content; 1]>::try_from(contents) else {
                    return Err(Fault::bad("a map needs an image; `pixel_values` are none"));
                };
                let explained = explain(&self.model, image, wanted, &mut |_| {
                    // A map of many passes ends as soon as nobody waits for it.
                    if tickets.iter().all(Ticket::is_abandoned) {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                *computing = started.elapsed();
                Ok(vec![Answer::Explained(Box::new(explained))])
            }
            Task::Outputs => {
                let output = self.model.run(&self.upload(contents)?, None)?;
                let logits = output.logits.as_ref().map(|logits| rows(logits, images)).transpose()?;
                let features = rows(&output.features, images)?;
                *computing = started.elapsed();
                let mut logits = logits.map(Vec::into_iter);
                let answer = |features| Answer::Outputs { logits: logits.as_mut().and_then(Iterator::next), features };
                Ok(features.into_iter().map(answer).collect())
            }
            Task::Features(kind) => {
                let features = rows(&self.model.features(&self.upload(contents)?, *kind)?, images)?;
                *computing = started.elapsed();
                Ok(features.into_iter().map(Answer::Features).collect())
            }
        }
    }

    /// The images of a batch as one tensor on the model's device.
    fn upload(&self, contents: Vec<Content>) -> Result<Tensor, Fault> {
        let count = contents.len();
        let mut together = Vec::new();
        let mut shape = Size { height: 0, width: 0 };
        for content in contents {
            let Content::Pixels { size, values } = content else {
                return Err(Fault::new(Kind::Internal, "an image was not preprocessed; please report it"));
            };
            shape = size;
            if together.is_empty() {
                together = values;
                together.reserve_exact((count - 1) * together.len());
            } else {
                together.extend(values);
            }
        }
        let shape = [count, self.model.vit().config().channels, shape.height, shape.width];
        let device = self.model.parameters().device();
        device.upload(shape, &together).map_err(|fault| Fault::new(Kind::Internal, fault.to_string()))
    }
}

/// A batch has one task: what it is, and for each image its content and whom to answer.
fn parts(batch: Vec<Prepared>) -> Option<(Task, Vec<Content>, Vec<Ticket>)> {
    let task = batch.first()?.task.clone();
    let (contents, tickets) = batch.into_iter().map(|one| (one.content, one.ticket)).unzip();
    Some((task, contents, tickets))
}

/// A tensor `[batch, …]` as one row for each image.
fn rows(tensor: &Tensor, images: usize) -> Result<Vec<Row>, Fault> {
    let values = tensor.to_vec().map_err(|fault| Fault::new(Kind::Internal, fault.to_string()))?;
    let shape = tensor.shape()[1..].to_vec();
    let width = values.len() / images.max(1);
    Ok(values.chunks(width.max(1)).map(|row| Row { shape: shape.clone(), values: row.to_vec() }).collect())
}

/// The map of an image.
fn explain(model: &Model, image: PreparedImage, wanted: &Wanted, progress: Progress<'_>) -> Result<Explained, Fault> {
    let input = InputImage::from_prepared(model, "image", image)?;
    let config = model.vit().config();
    let mut options = Options::default();
    let heads = if config.depth == 0 { 0 } else { config.heads };
    options.layer = wanted.layer.map(|layer| place(layer, config.depth, "layer")).transpose()?;
    options.head = wanted.head.map(|head| place(head, heads, "head")).transpose()?;
    options.patch = match (wanted.at, wanted.patch) {
        (Some(pixel), _) => Some(input.patch_at(model, pixel)?),
        (None, patch) => patch,
    };
    let patches = input.layout.grid.area();
    if let Some(patch) = options.patch.filter(|&patch| patch >= patches) {
        return Err(Fault::bad(format!("expected a `patch` from 0 to {}, found {patch}", patches - 1)));
    }
    if let Some(passes) = wanted.passes {
        options.rise.masks = passes;
        options.steps = passes;
        options.samples = passes;
    }
    let aim = match &wanted.class {
        Some(class) => Aim::Class(model.class(class)?),
        // Without pooling there is no target, but methods without one still work.
        None if model.check_classifies().is_ok() || model.check_pools("target").is_err() => Aim::Predicted,
        None => Aim::Feature,
    };
    let prediction = model.explained(&input, aim, 1)?;
    let map = model.explain(&input, wanted.method, prediction.target.as_ref(), &options, progress)?;
    let (class, target) = match (&prediction.target, wanted.method.needs_target()) {
        (_, false) => (None, "no class: the map is the same for all".to_owned()),
        (Some(Target::Class(class)), true) => (Some(*class), prediction.explained),
        (_, true) => (None, prediction.explained),
    };
    Ok(Explained { map, shown: input.shown, target, class })
}

/// A layer or head, counted from 0, or from -1 at the end.
fn place(asked: i64, count: usize, what: &str) -> Result<usize, Fault> {
    let counted = if asked < 0 { asked + count as i64 } else { asked };
    usize::try_from(counted).ok().filter(|&found| found < count).ok_or_else(|| {
        Fault::bad(match count {
            0 => format!("expected no `{what}`, found {asked}: the model has no blocks with attention"),
            _ => format!("expected a `{what}` from {} to {}, found {asked}", -(count as i64), count - 1),
        })
    })
}

/// Features that come with the outputs need no pass of their own.
pub(crate) fn task_for(kind: FeatureKind) -> Task {
    if kind == FeatureKind::Pooled { Task::Outputs } else { Task::Features(kind) }
}
