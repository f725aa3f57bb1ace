//! What a server allows and how it batches.

use std::num::NonZero;
use std::time::Duration;

/// What a server allows, and how it batches. The default suits a CPU and strangers: small batches, no waiting for more
/// images, and a limit on everything that a client can make large or slow.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    pub(crate) max_batch_size: NonZero<usize>,
    pub(crate) preferred_batch_size: Option<NonZero<usize>>,
    pub(crate) max_queue_delay: Duration,
    pub(crate) max_queue_size: NonZero<usize>,
    pub(crate) timeout: Duration,
    pub(crate) decode_threads: NonZero<usize>,
    pub(crate) max_body: usize,
    pub(crate) max_bodies: usize,
    pub(crate) max_pixels: u64,
    pub(crate) header_time: Duration,
    pub(crate) body_time: Duration,
    pub(crate) grace: Duration,
    pub(crate) max_connections: NonZero<usize>,
    pub(crate) api_keys: Vec<String>,
    pub(crate) cors: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let some = |n| NonZero::new(n).unwrap_or(NonZero::<usize>::MIN);
        Options {
            max_batch_size: some(8),
            preferred_batch_size: None,
            max_queue_delay: Duration::ZERO,
            max_queue_size: some(128),
            timeout: Duration::from_secs(30),
            decode_threads: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
            max_body: 32 << 20,
            max_bodies: 512 << 20,
            max_pixels: 64_000_000,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            max_connections: some(8192),
            api_keys: Vec::new(),
            cors: Vec::new(),
        }
    }
}

impl Options {
    /// Images in a batch, at most.
    #[must_use]
    pub fn max_batch_size(mut self, images: NonZero<usize>) -> Self {
        self.max_batch_size = images;
        self
    }

    /// A batch of this many images is run without waiting for more; `None` is the maximum.
    #[must_use]
    pub fn preferred_batch_size(mut self, images: impl Into<Option<NonZero<usize>>>) -> Self {
        self.preferred_batch_size = images.into();
        self
    }

    /// How long a batch waits for more images. Without any, a batch is what has arrived while the one before it was
    /// computed.
    #[must_use]
    pub fn max_queue_delay(mut self, delay: Duration) -> Self {
        self.max_queue_delay = delay;
        self
    }

    /// Images that may wait, for each model; the next request is refused.
    #[must_use]
    pub fn max_queue_size(mut self, images: NonZero<usize>) -> Self {
        self.max_queue_size = images;
        self
    }

    /// How long a request may take, if it does not say so itself.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Threads that decode and preprocess images, for each model.
    #[must_use]
    pub fn decode_threads(mut self, threads: NonZero<usize>) -> Self {
        self.decode_threads = threads;
        self
    }

    /// Bytes of a request's body, after decompression.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Bytes of all bodies that are held at the same time; beyond, requests are refused as if the queue were full.
    #[must_use]
    pub fn max_bodies(mut self, bytes: usize) -> Self {
        self.max_bodies = bytes;
        self
    }

    /// Pixels of an image, width times height.
    #[must_use]
    pub fn max_pixels(mut self, pixels: u64) -> Self {
        self.max_pixels = pixels;
        self
    }

    /// How long a client may take to send a request's header, and then how long to send its body. A connection that
    /// sends nothing for the first of the two is closed, and so is one that takes nothing of an answer for the second.
    #[must_use]
    pub fn sending_times(mut self, header: Duration, body: Duration) -> Self {
        self.header_time = header;
        self.body_time = body;
        self
    }

    /// How long the server may take to finish what it has accepted, once it is told to end.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Connections that are open at the same time, over HTTP and over gRPC each; others wait.
    #[must_use]
    pub fn max_connections(mut self, connections: NonZero<usize>) -> Self {
        self.max_connections = connections;
        self
    }

    /// Keys of which a request must have one, as `Authorization: Bearer KEY`. Without any, none is asked for.
    #[must_use]
    pub fn api_keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.api_keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Origins whose pages may call the server from a browser, such as `https://example.org`; `*` is any.
    #[must_use]
    pub fn cors(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cors.extend(origins.into_iter().map(Into::into));
        self
    }
}
