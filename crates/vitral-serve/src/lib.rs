//! Serves Vision Transformers: labels, vectors and maps of images over HTTP and gRPC, in the protocols that clients
//! already speak.
//!
//! ```no_run
//! use vitral::LoadOptions;
//! use vitral_serve::{ModelSource, Server};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let source = ModelSource::path("vit-base-patch16-224", LoadOptions::default());
//! let server = Server::builder().model("vit", source).build()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! server.serve(listener, None, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A request's way: [`routes`](self) and `oip` read it, `queue` holds its images, `decoder` decodes and preprocesses them,
//! `batcher` chooses a batch, `worker` computes it with the model and answers. An image's answer has the same bits alone
//! and in any batch.
//!
//! Protocols: Open Inference Protocol (version 2, HTTP and gRPC), Hugging Face's inference clients, OpenAI's
//! embeddings, and paths of its own; `GET /openapi.json` describes those over HTTP.

mod app;
mod batcher;
mod body;
mod budget;
mod connection;
mod decoder;
mod error;
mod fault;
mod job;
mod keys;
mod listen;
mod metrics;
mod oip;
mod openapi;
mod options;
mod pace;
#[doc(hidden)]
pub mod parse;
#[cfg(target_os = "linux")]
mod process;
mod protocol;
mod queue;
mod registry;
mod routes;
mod runner;
mod server;
mod source;
mod statuses;
mod texts;
mod trace;
mod turns;
mod wire;
mod worker;

pub use error::ServeError;
pub use options::Options;
pub use server::{Server, ServerBuilder};
pub use source::ModelSource;
