//! What a gRPC request must have before it is read, and what it may hold until it is answered: the same as over HTTP.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::app::App;
use crate::body::{held_too_much, late_body};
use crate::budget::Held;
use crate::fault::Fault;

/// Methods that are open to everybody, as their paths over HTTP are.
const OPEN: [&str; 2] = ["/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"];
/// A method whose messages come one after the other.
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// A message's compression and length.
const PREFIX: usize = 5;

/// Adds [`Admission`] to a service.
#[derive(Clone)]
pub(crate) struct AdmissionLayer(pub(crate) Arc<App>);

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, app: Arc::clone(&self.0) }
    }
}

/// Refuses requests without a key before their messages are read, and counts what they hold.
#[derive(Clone)]
pub(crate) struct Admission<S> {
    inner: S,
    app: Arc<App>,
}

/// The memory of a request's messages, in the request's extensions: whoever answers keeps it until then.
#[derive(Clone)]
pub(crate) struct Holding(Arc<Mutex<Held>>);

impl Holding {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a message as large as it is once it is unpacked.
    pub(crate) fn count(&self, bytes: usize) -> Result<(), Fault> {
        if self.held().grow_to(bytes) { Ok(()) } else { Err(held_too_much()) }
    }

    /// Counts a message no longer, once it is answered.
    pub(crate) fn answered(&self) {
        self.held().shrink_to(0);
    }
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if !OPEN.contains(&path)
            && let Err(fault) = self.app.keys.check_headers(request.headers())
        {
            let refusal = Status::from(fault).into_http();
            return Box::pin(async { Ok(refusal) });
        }
        let streams = path == STREAM;
        let holding = Holding(Arc::new(Mutex::new(Held::nothing(&self.app.bodies))));
        let time = self.app.options.body_time;
        let mut request = request.map(|body| Body::new(Arriving::new(body, holding.clone(), time, streams)));
        request.extensions_mut().insert(holding);
        Box::pin(self.inner.call(request))
    }
}

/// The messages of a request as they arrive. Of a stream, whole messages count until they are answered, and until the next one is
/// asked for at the latest.
struct Arriving {
    body: Body,
    holding: Holding,
    time: Duration,
    /// Runs while the client is waited for in the middle of a message.
    deadline: Option<Pin<Box<Sleep>>>,
    streams: bool,
    messages: Messages,
}

impl Arriving {
    fn new(body: Body, holding: Holding, time: Duration, streams: bool) -> Self {
        Arriving { body, holding, time, deadline: None, streams, messages: Messages::default() }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.streams {
            // Whoever asks for more has taken every whole message before.
            this.holding.held().shrink_to(this.messages.arrived);
        }
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            if this.messages.add(data) {
                this.deadline = None;
            }
            if !this.holding.held().grow(data.len()) {
                return Poll::Ready(Some(Err(held_too_much().into())));
            }
        }
        // Between the messages of a stream a client may be silent.
        if frame.is_pending() && (!this.streams || this.messages.arrived > 0) {
            let time = this.time;
            let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(late_body(time).into())));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where one message ends and the next begins.
#[derive(Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes that have arrived of a message that is not whole, with its prefix.
    arrived: usize,
    /// Bytes that a message has after its prefix; only once that has arrived.
    length: usize,
}

impl Messages {
    /// Takes down bytes; whether a message is whole with them.
    fn add(&mut self, mut data: &[u8]) -> bool {
        let mut completed = false;
        while !data.is_empty() {
            if self.arrived < PREFIX {
                self.prefix[self.arrived] = data[0];
                self.arrived += 1;
                data = &data[1..];
                let [_, length @ ..] = self.prefix;
                self.length = u32::from_be_bytes(length) as usize;
            } else {
                let taken = (PREFIX + self.length - self.arrived).min(data.len());
                self.arrived += taken;
                data = &data[taken..];
            }
            if self.arrived >= PREFIX && self.arrived == PREFIX + self.length {
                self.arrived = 0;
                completed = true;
            }
        }
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_their_bytes_are_cut() {
        let bytes = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 9]].concat();
        // Where a message ends, from the beginning.
        let ends = [8, 13, 19];
        for size in 1..=bytes.len() {
            let mut messages = Messages::default();
            let mut at = 0;
            for part in bytes.chunks(size) {
                let completed = messages.add(part);
                let before = at;
                at += part.len();
                assert_eq!(
                    completed,
                    ends.iter().any(|end| (before + 1..=at).contains(end)),
                    "parts of {size} at {at}"
                );
                let begin = ends.iter().rev().find(|end| **end <= at).copied().unwrap_or(0);
                assert_eq!(messages.arrived, at - begin, "parts of {size} at {at}");
            }
        }
    }
}
