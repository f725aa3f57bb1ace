//! A server to test, in this process, and a client.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;
use ureq::http::Response;
use ureq::{Agent, Body};
use vitral::Device;
use vitral_serve::{ModelSource, Options, ServeError, Server};

/// A server that runs until this is dropped.
pub(crate) struct Started {
    pub(crate) address: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) server: Server,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Started {
    /// Serves the built-in model as `cifar10`.
    pub(crate) fn usual() -> Self {
        Started::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Started::serving([("cifar10", ModelSource::embedded(None))], options)
    }

    pub(crate) fn serving(models: impl IntoIterator<Item = (&'static str, ModelSource)>, options: Options) -> Self {
        let mut builder = Server::builder().device(Device::cpu(2)).options(options);
        for (name, source) in models {
            builder = builder.model(name, source);
        }
        let server = builder.build().expect("a server");
        let (end, ended) = oneshot::channel();
        let (say, addresses) = mpsc::channel();
        let serving = server.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
                let (http, grpc) = (bind().await.expect("a port"), bind().await.expect("a port"));
                let address = |listener: &tokio::net::TcpListener| listener.local_addr().expect("an address");
                say.send((address(&http), address(&grpc))).expect("somebody waits");
                let end = async { ended.await.unwrap_or_default() };
                serving.serve(http, Some(grpc), end).await
            })
        });
        let (address, grpc) = addresses.recv().expect("the server has started");
        let started = Started { address, grpc, server, end: Some(end), thread: Some(thread) };
        started.wait_until_ready();
        started
    }

    fn wait_until_ready(&self) {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.get("/v2/health/ready").status() != 200 {
            assert!(Instant::now() < limit, "the server was not ready in time");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response<Body> {
        agent().get(self.url(path)).call().expect("an answer")
    }

    /// Posts bytes of a kind.
    pub(crate) fn post(&self, path: &str, kind: &str, body: &[u8]) -> Response<Body> {
        agent().post(self.url(path)).header("content-type", kind).send(body).expect("an answer")
    }

    /// Posts JSON; status and answer.
    pub(crate) fn json(&self, path: &str, body: &Value) -> (u16, Value) {
        read(self.post(path, "application/json", body.to_string().as_bytes()))
    }

    /// Posts an image; status and answer.
    pub(crate) fn image(&self, path: &str, image: &[u8]) -> (u16, Value) {
        read(self.post(path, "image/jpeg", image))
    }

    /// Tells the server to end.
    pub(crate) fn tell(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Tells the server to end, and waits until it has.
    pub(crate) fn end(&mut self) -> Result<(), ServeError> {
        self.tell();
        self.thread.take().expect("it runs").join().expect("no panic")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.tell();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that takes every status as an answer.
pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

/// Status, and body in JSON; null if there is none.
pub(crate) fn read(mut response: Response<Body>) -> (u16, Value) {
    let text = response.body_mut().read_to_string().expect("text");
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null))
}

pub(crate) fn some(n: usize) -> NonZero<usize> {
    NonZero::new(n).expect("positive")
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The images that the repository comes with.
pub(crate) fn images() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(root().join("assets/images"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "jpg"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a file"))
    };
    files.into_iter().map(read).collect()
}

/// One of them.
pub(crate) fn cat() -> Vec<u8> {
    std::fs::read(root().join("assets/images/cat.jpg")).expect("a file")
}

/// A value as it comes out of an answer: 32-bit numbers are written with as few digits as they need.
pub(crate) fn sent(value: impl serde::Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(&value).expect("JSON")).expect("JSON")
}

/// Labels in the form of `/v1/classify`.
#[derive(serde::Serialize)]
pub(crate) struct Label {
    class: usize,
    label: String,
    probability: f32,
    logit: f32,
}

impl From<vitral::labels::Ranked> for Label {
    fn from(one: vitral::labels::Ranked) -> Self {
        Label { class: one.class, label: one.label, probability: one.probability, logit: one.logit }
    }
}
