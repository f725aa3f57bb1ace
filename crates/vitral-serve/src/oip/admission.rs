//! What a gRPC request must have before it is read, and what it may hold until it is answered: the same as over HTTP.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The memory of a request's message, in the request's extensions: whoever answers keeps it until then.
#[derive(Clone)]
pub(crate) struct Holding(Arc<Mutex<Held>>);

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

/// The messages of a request as they arrive. Of a stream, a message counts until the next one is asked for.
struct Arriving {
    body: Body,
    holding: Holding,
    time: Duration,
    /// Runs while a message is not complete.
    deadline: Option<Pin<Box<Sleep>>>,
    streams: bool,
    messages: Messages,
}

impl Arriving {
    fn new(body: Body, holding: Holding, time: Duration, streams: bool) -> Self {
        let deadline = (!streams).then(|| Box::pin(tokio::time::sleep(time)));
        Arriving { body, holding, time, deadline, streams, messages: Messages::default() }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.streams && this.messages.are_whole() {
            this.deadline = None;
            this.holding.0.lock().unwrap_or_else(PoisonError::into_inner).release();
        }
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.messages.add(data);
            if !this.holding.0.lock().unwrap_or_else(PoisonError::into_inner).grow(data.len()) {
                return Poll::Ready(Some(Err(held_too_much().into())));
            }
            if this.streams && this.deadline.is_none() {
                this.deadline = Some(Box::pin(tokio::time::sleep(this.time)));
            }
        }
        if frame.is_pending()
            && let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err(late_body(this.time).into())));
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
    /// Bytes of the prefix that have arrived.
    begun: usize,
    /// Bytes of the message that have not.
    rest: usize,
}

impl Messages {
    fn are_whole(&self) -> bool {
        self.begun == 0 && self.rest == 0
    }

    fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(data.len());
                self.rest -= taken;
                data = &data[taken..];
                continue;
            }
            self.prefix[self.begun] = data[0];
            self.begun += 1;
            data = &data[1..];
            if self.begun == PREFIX {
                let [_, length @ ..] = self.prefix;
                (self.begun, self.rest) = (0, u32::from_be_bytes(length) as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_their_bytes_are_cut() {
        let bytes = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 9]].concat();
        for size in 1..=bytes.len() {
            let mut messages = Messages::default();
            let mut whole = Vec::new();
            for (index, part) in bytes.chunks(size).enumerate() {
                messages.add(part);
                if messages.are_whole() {
                    whole.push((index + 1) * size);
                }
            }
            let expected: Vec<usize> = [8, 13, 19].into_iter().filter(|end| end % size == 0 || *end == 19).collect();
            let found: Vec<usize> = whole.into_iter().map(|end| end.min(19)).collect();
            assert_eq!(found, expected, "parts of {size}");
        }
    }
}
