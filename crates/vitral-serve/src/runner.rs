//! A loaded model at work: its queue, the threads that decode for it, and the thread that computes with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vitral::Model;
use vitral::config::Problem;
use vitral::image::Limits;
use vitral::text::{TextClasses, TextModel};

use crate::batcher::Rule;
use crate::decoder::Decoder;
use crate::fault::{Fault, Kind};
use crate::job::{Answer, Input, Job, Task, Ticket, late};
use crate::metrics::ModelMetrics;
use crate::options::Options;
use crate::pace::Pace;
use crate::queue::{Queue, Refusal};
use crate::texts::{TextVectors, Texts};
use crate::turns::Turns;
use crate::worker::Worker;

/// A loaded model and its threads, which end once this is dropped and everything that waits is answered.
pub(crate) struct Runner {
    name: String,
    model: Arc<Model>,
    queue: Arc<Queue>,
    metrics: Arc<ModelMetrics>,
    pace: Arc<Pace>,
    capacity: usize,
    timeout: Duration,
    /// Shape of the pooled features of an image of the model's own size.
    features: Vec<usize>,
    tower: Tower,
}

/// What takes the texts of a model.
enum Tower {
    /// The model is of images alone, or has classes of its own.
    None,
    /// There is one that cannot be used; the log says why.
    Unusable,
    Loaded(Arc<Texts>),
}

impl Runner {
    /// Runs the model once, which also shows that it can be run, and starts its threads. `texts` is its text tower, or why there
    /// is none that can be used.
    pub(crate) fn start(
        name: &str,
        model: Model,
        texts: Option<Result<TextModel, vitral::Error>>,
        options: &Options,
        metrics: Arc<ModelMetrics>,
        turns: Arc<Turns>,
    ) -> Result<Self, vitral::Error> {
        let features = warm_up(&model, &turns)?;
        let tower = Tower::of(name, &model, &features, texts, options, &turns);
        let model = Arc::new(model);
        let max = options.max_batch_size.get();
        let threads = options.decode_threads.get();
        let queue = Arc::new(Queue::new(options.max_queue_size.get(), 2 * max + threads));
        let pace = Arc::new(Pace::default());
        let preprocess = model.preprocess().map_err(Fault::from);
        let decoder = Arc::new(Decoder { preprocess, limits: Limits::of_pixels(options.max_pixels) });
        for number in 0..threads {
            let (decoder, queue, metrics) = (Arc::clone(&decoder), Arc::clone(&queue), Arc::clone(&metrics));
            spawn(format!("decode-{number}"), move || decoder.run(&queue, &metrics));
        }
        let rule = Rule {
            max,
            preferred: options.preferred_batch_size.map_or(max, |preferred| preferred.get()),
            delay: options.max_queue_delay,
        };
        let worker = Worker { model: Arc::clone(&model), rule, turns, pace: Arc::clone(&pace) };
        let (its_queue, its_metrics) = (Arc::clone(&queue), Arc::clone(&metrics));
        spawn("compute".to_owned(), move || worker.run(&its_queue, &its_metrics));
        let capacity = options.max_queue_size.get();
        let timeout = options.timeout;
        Ok(Runner { name: name.to_owned(), model, queue, metrics, pace, capacity, timeout, features, tower })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// Publishes how many images wait.
    pub(crate) fn measure(&self) {
        self.metrics.waiting(self.queue.waiting());
    }

    /// Shape of the pooled features of an image of the model's own size: `[width]`, or `[tokens, width]` of a model that
    /// does not pool.
    pub(crate) fn features(&self) -> &[usize] {
        &self.features
    }

    /// Width of the vectors of images, and of texts if the model takes any.
    pub(crate) fn width(&self) -> usize {
        width(&self.model, &self.features)
    }

    /// Whether the model has vectors of texts.
    pub(crate) fn takes_texts(&self) -> bool {
        matches!(self.tower, Tower::Loaded(_))
    }

    /// Images in a request, at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether the head projects to an embedding, which is then what `embed` gives.
    pub(crate) fn projects(&self) -> bool {
        self.model.vit().config().problem == Problem::Embedding
    }

    /// Answers all images of a request, in their order, or none.
    pub(crate) async fn run(
        &self,
        inputs: Vec<Input>,
        task: Task,
        timeout: Option<Duration>,
    ) -> Result<Vec<Answer>, Fault> {
        let deadline = Instant::now() + timeout.unwrap_or(self.timeout);
        self.run_until(deadline, inputs, task).await
    }

    /// When a request that comes now, and does not say, has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// As [`Runner::run`], until a deadline.
    pub(crate) async fn run_until(
        &self,
        deadline: Instant,
        inputs: Vec<Input>,
        task: Task,
    ) -> Result<Vec<Answer>, Fault> {
        let started = Instant::now();
        let found = self.answers(inputs, task, deadline).await;
        self.metrics.finished(started.elapsed(), found.as_ref().err().map(Fault::code));
        found
    }

    /// Classes in words: labels, each in place of `{}` in the template.
    pub(crate) async fn classes(
        &self,
        labels: Vec<String>,
        template: String,
        deadline: Instant,
    ) -> Result<Arc<TextClasses>, Fault> {
        let started = Instant::now();
        let found = match self.texts() {
            Ok(texts) => texts.classes(labels, template, deadline).await,
            Err(fault) => Err(fault),
        };
        // What follows is counted with the images.
        found.inspect_err(|fault| self.metrics.finished(started.elapsed(), Some(fault.code())))
    }

    /// The vectors of texts, in their order. `alone` is whether the request has no images, with which it would be counted.
    pub(crate) async fn embed(&self, texts: Vec<String>, alone: bool, deadline: Instant) -> Result<TextVectors, Fault> {
        let started = Instant::now();
        let found = match self.texts() {
            Ok(tower) => tower.embed(texts, deadline).await,
            Err(fault) => Err(fault),
        };
        if alone || found.is_err() {
            self.metrics.finished(started.elapsed(), found.as_ref().err().map(Fault::code));
        }
        found
    }

    fn texts(&self) -> Result<&Arc<Texts>, Fault> {
        match &self.tower {
            Tower::Loaded(texts) => Ok(texts),
            Tower::None => Err(Fault::bad(format!(
                "the model `{}` takes no texts: expected one of images and texts (CLIP, SigLIP) with its text tower and without \
                 classes of its own",
                self.name
            ))),
            Tower::Unusable => Err(Fault::bad(format!(
                "the text tower of the model `{}` cannot be used; the server's log says why",
                self.name
            ))),
        }
    }

    /// Refuses a model that gives no ranking of classes for an image.
    pub(crate) fn check_classifies(&self) -> Result<(), Fault> {
        match self.model.check_classifies() {
            Err(vitral::Error::Projects { .. }) if self.takes_texts() => Err(self.without_labels()),
            checked => Ok(checked?),
        }
    }

    /// What to do with a model of images and texts where labels are asked for.
    pub(crate) fn without_labels(&self) -> Fault {
        Fault::bad(format!(
            "the model `{}` has no labels of its own; send some with `POST /?candidate_labels=a+cat,a+dog`, or as \
             `candidate_labels` in `parameters`",
            self.name
        ))
    }

    /// Refuses more images than a request may have.
    pub(crate) fn check_count(&self, images: usize) -> Result<(), Fault> {
        if images <= self.capacity {
            return Ok(());
        }
        let message = format!("expected at most {} images, found {images}; split the request", self.capacity);
        Err(Fault::new(Kind::TooLarge, message))
    }

    async fn answers(&self, inputs: Vec<Input>, task: Task, deadline: Instant) -> Result<Vec<Answer>, Fault> {
        let count = inputs.len();
        if count == 0 {
            return Err(Fault::bad("expected at least one image, found none"));
        }
        self.check_count(count)?;
        let mut replies = Vec::with_capacity(count);
        let mut jobs = Vec::with_capacity(count);
        for input in inputs {
            let (reply, answer) = oneshot::channel();
            jobs.push(Job { input, task: task.clone(), ticket: Ticket::new(reply, deadline) });
            replies.push(answer);
        }
        self.queue.submit(jobs).map_err(|refusal| match refusal {
            Refusal::Full => Fault::new(
                Kind::Full { retry_after: self.pace.of(self.queue.waiting()) },
                format!("the queue of the model `{}` is full; try again later", self.name),
            ),
            Refusal::Closed => Fault::new(Kind::Unavailable, format!("the model `{}` is being unloaded", self.name)),
        })?;
        let all = async {
            let mut answers = Vec::with_capacity(count);
            for (index, reply) in replies.into_iter().enumerate() {
                let lost = || Fault::new(Kind::Internal, "the model ended before it answered; please report it");
                let answer = reply.await.map_err(|_| lost())?;
                // Where there is one image only, its place says nothing.
                answers.push(answer.map_err(|fault| match count {
                    1 => fault,
                    _ => fault.at(&format!("image {index}")),
                })?);
            }
            Ok(answers)
        };
        tokio::time::timeout_at(deadline.into(), all).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Tower {
    /// Runs the tower once, which also shows that it can be run.
    fn of(
        name: &str,
        model: &Model,
        features: &[usize],
        texts: Option<Result<TextModel, vitral::Error>>,
        options: &Options,
        turns: &Arc<Turns>,
    ) -> Self {
        let Some(texts) = texts else { return Tower::None };
        let tried = texts.map_err(|fault| fault.to_string()).and_then(|texts| {
            let [found, expected] = [texts.config().feature_width(), width(model, features)];
            if found != expected || features.len() != 1 {
                return Err(format!("expected vectors of {expected} numbers, as those of images, found {found}"));
            }
            let _turn = turns.take();
            texts.embed(&["a"]).map_err(|fault| fault.to_string())?;
            Ok(texts)
        });
        match tried {
            Ok(texts) => {
                let capacity = options.max_queue_size.get();
                Tower::Loaded(Arc::new(Texts::new(texts, Arc::clone(turns), capacity)))
            }
            Err(fault) => {
                tracing::warn!(model = name, "its text tower is not used: {fault}");
                Tower::Unusable
            }
        }
    }
}

/// Width of the vectors of images.
fn width(model: &Model, features: &[usize]) -> usize {
    let config = model.vit().config();
    match config.problem == Problem::Embedding {
        true => config.classes,
        false => features.last().copied().unwrap_or(0),
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    // A system that refuses a thread has other problems than a name for this one.
    std::thread::Builder::new().name(name).spawn(body).expect("the system gives the server its threads");
}

/// Runs the model on a gray image, so that the first request does not pay for what is made only once.
/// Returns the shape of its features.
fn warm_up(model: &Model, turns: &Turns) -> Result<Vec<usize>, vitral::Error> {
    let config = model.vit().config();
    let shape = [1, config.channels, config.image_size.height, config.image_size.width];
    let pixels = vec![0.0; shape.iter().product()];
    let _turn = turns.take();
    let output = model.run(&model.parameters().device().upload(shape, &pixels)?, None)?;
    output.features.to_vec()?;
    Ok(output.features.shape()[1..].to_vec())
}
