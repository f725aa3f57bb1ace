//! What waits in a queue: one image, what to compute from it, and whom to answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use vitral::config::Size;
use vitral::explain::{Map, Method, PreparedImage};
use vitral::features::FeatureKind;
use vitral::image::RgbImage;

use crate::fault::{Fault, Kind};

/// One image, as it came.
pub(crate) enum Input {
    /// A file: JPEG, PNG…
    Encoded(Bytes),
    /// Preprocessed by the client: `[channels, height, width]`.
    Pixels { size: Size, values: Vec<f32> },
}

/// What to compute from an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// Logits and pooled features, in one pass.
    Outputs,
    /// Features of another kind.
    Features(FeatureKind),
    /// A map.
    Explain(Wanted),
}

/// The map that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) method: Method,
    /// The class, by name or number; the most likely if absent.
    pub(crate) class: Option<String>,
    /// Layer and head; negative ones count from the end.
    pub(crate) layer: Option<i64>,
    pub(crate) head: Option<i64>,
    /// Column and row of a pixel of the image as it was sent.
    pub(crate) at: Option<[usize; 2]>,
    /// The same patch by its number, row by row.
    pub(crate) patch: Option<usize>,
    /// Masks of RISE, steps of integrated gradients, samples of SmoothGrad.
    pub(crate) passes: Option<usize>,
}

/// Values of one image, without the batch's dimension.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A map and what it is of.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) map: Map,
    /// The image as the model sees it.
    pub(crate) shown: RgbImage,
    /// The target in words.
    pub(crate) target: String,
    /// The class that is explained, if it is one.
    pub(crate) class: Option<usize>,
}

/// The answer to one job.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Logits, if the model has a head, and pooled features.
    Outputs { logits: Option<Row>, features: Row },
    /// Features of another kind.
    Features(Row),
    /// A map.
    Explained(Box<Explained>),
}

/// Whom to answer, and until when.
pub(crate) struct Ticket {
    reply: oneshot::Sender<Result<Answer, Fault>>,
    deadline: Instant,
    submitted: Instant,
}

impl Ticket {
    pub(crate) fn new(reply: oneshot::Sender<Result<Answer, Fault>>, deadline: Instant) -> Self {
        Ticket { reply, deadline, submitted: Instant::now() }
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || self.deadline <= Instant::now()
    }

    pub(crate) fn waited(&self) -> Duration {
        self.submitted.elapsed()
    }

    /// Answers; if the client is gone, nobody hears it.
    pub(crate) fn answer(self, answer: Result<Answer, Fault>) {
        let _ = self.reply.send(answer);
    }

    /// Ends a job that nobody waits for.
    pub(crate) fn abandon(self) {
        self.answer(Err(late()));
    }
}

/// The fault of a request whose deadline has passed.
pub(crate) fn late() -> Fault {
    Fault::new(
        Kind::Deadline,
        "the answer did not come before the request's deadline; try again later, or allow more time",
    )
}

/// One image that waits to be decoded.
pub(crate) struct Job {
    pub(crate) input: Input,
    pub(crate) task: Task,
    pub(crate) ticket: Ticket,
}

/// What a task needs of an image.
pub(crate) enum Content {
    /// The model's input, `[channels, height, width]`.
    Pixels { size: Size, values: Vec<f32> },
    /// The same with what the model sees of the image, for tasks that show it.
    Image(PreparedImage),
}

/// One image that waits for the model.
pub(crate) struct Prepared {
    pub(crate) content: Content,
    pub(crate) task: Task,
    pub(crate) ticket: Ticket,
    /// How long decoding and preprocessing took.
    pub(crate) decoding: Duration,
    /// When it was decoded.
    pub(crate) ready_since: Instant,
}

impl Prepared {
    /// Whether two images can be computed in one batch.
    pub(crate) fn fits(&self, other: &Prepared) -> bool {
        match (&self.content, &other.content) {
            (Content::Pixels { size, .. }, Content::Pixels { size: other_size, .. }) => {
                size == other_size && self.task == other.task
            }
            _ => false,
        }
    }
}
