//! The threads that decode and preprocess, ahead of the model.

use std::time::Instant;

use vitral::explain::PreparedImage;
use vitral::image::{DecodeOptions, Limits, Preprocess, decode_for};

use crate::fault::{Fault, Kind};
use crate::job::{Content, Input, Job, Prepared, Task};
use crate::metrics::ModelMetrics;
use crate::queue::Queue;

/// What decoding needs to know about the model.
pub(crate) struct Decoder {
    /// What the model's own files describe; without it, images cannot be taken.
    pub(crate) preprocess: Result<Preprocess, Fault>,
    pub(crate) limits: Limits,
}

impl Decoder {
    /// Decodes until the queue is closed and empty.
    pub(crate) fn run(&self, queue: &Queue, metrics: &ModelMetrics) {
        while let Some(Job { input, task, ticket }) = queue.next_to_decode() {
            let started = Instant::now();
            // Our decoders do not panic; one of other people's must not end the thread.
            let content = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.content(input, &task)))
                .unwrap_or_else(|_| Err(Fault::new(Kind::Internal, "decoding the image failed; please report it")));
            match content {
                Ok(content) => {
                    let decoding = started.elapsed();
                    metrics.decoded(decoding);
                    queue.decoded(Some(Prepared { content, task, ticket, decoding, ready_since: Instant::now() }));
                }
                Err(fault) => {
                    queue.decoded(None);
                    ticket.answer(Err(fault));
                }
            }
        }
    }

    fn content(&self, input: Input, task: &Task) -> Result<Content, Fault> {
        let bytes = match input {
            Input::Pixels { size, values } => return Ok(Content::Pixels { size, values }),
            Input::Encoded(bytes) => bytes,
        };
        let preprocess = self.preprocess.as_ref().map_err(Clone::clone)?;
        let options = DecodeOptions::default().limits(self.limits);
        let image = decode_for(&bytes, preprocess.channels, &options)?.into_image();
        if matches!(task, Task::Explain(_)) {
            return Ok(Content::Image(PreparedImage::new(preprocess, &image)?));
        }
        Ok(Content::Pixels { size: preprocess.output_size_for(image.size()), values: preprocess.apply(&image)? })
    }
}
