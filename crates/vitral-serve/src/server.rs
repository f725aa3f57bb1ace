//! A server, for programs that make one.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use tokio::net::TcpListener;
use tokio::sync::watch;
use vitral::Device;

use crate::app::App;
use crate::error::ServeError;
use crate::listen;
use crate::options::Options;
use crate::registry::LoadFault;
use crate::routes;
use crate::source::ModelSource;

/// What a server is made of.
#[derive(Debug)]
pub struct ServerBuilder {
    models: Vec<(String, ModelSource)>,
    device: Device,
    options: Options,
}

impl ServerBuilder {
    /// Serves a model under a name: letters, digits, `.`, `_` and `-`. The first one answers where none is named.
    #[must_use]
    pub fn model(mut self, name: impl Into<String>, source: ModelSource) -> Self {
        self.models.push((name.into(), source));
        self
    }

    /// Computes on this device; the CPU with all its cores if none is named.
    #[must_use]
    pub fn device(mut self, device: impl Into<Device>) -> Self {
        self.device = device.into();
        self
    }

    /// Limits and batching.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Makes the server; no model is loaded yet.
    ///
    /// # Errors
    /// If there is no model, a name or an origin is not one, or a body may be larger than all bodies together.
    pub fn build(self) -> Result<Server, ServeError> {
        if self.models.is_empty() {
            return Err(ServeError::NoModels);
        }
        for (place, (name, _)) in self.models.iter().enumerate() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            // These are paths of their own.
            let taken = matches!(name.as_str(), "" | "." | ".." | "stats");
            if taken || !name.chars().all(plain) {
                return Err(ServeError::Name { name: name.clone() });
            }
            if self.models[..place].iter().any(|(other, _)| other == name) {
                return Err(ServeError::SameName { name: name.clone() });
            }
        }
        if let Some(origin) = self.options.cors.iter().find(|origin| !is_origin(origin)) {
            return Err(ServeError::Origin { origin: origin.clone() });
        }
        let Options { max_body, max_bodies, .. } = self.options;
        if max_bodies < max_body {
            return Err(ServeError::Bodies { max_body, max_bodies });
        }
        let app = App::new(self.models, self.device, self.options);
        let app = app.map_err(|fault| ServeError::Metrics { detail: fault.to_string() })?;
        Ok(Server { app })
    }
}

/// Whether a browser would send this as the origin of a page: a scheme and a host, and perhaps a port.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map_or("", |(scheme, host)| if scheme.is_empty() { "" } else { host });
    let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']) && text.is_ascii();
    // Pages from files and in sandboxes say `null`.
    matches!(text, "*" | "null")
        || (plain && !text.contains(|c: char| c.is_ascii_uppercase()) && HeaderValue::from_str(text).is_ok())
}

/// A server of models. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("models", &self.app.registry.index()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server without models, on the CPU.
    pub fn builder() -> ServerBuilder {
        ServerBuilder { models: Vec::new(), device: Device::cpu(0), options: Options::default() }
    }

    /// Loads all models, and runs each once. Until then, requests for them are answered with 503.
    ///
    /// # Errors
    /// The first model that cannot be loaded.
    pub async fn load(&self) -> Result<(), ServeError> {
        self.app.registry.load_all().await.map_err(|(name, fault)| {
            let detail = match fault {
                LoadFault::Failed(detail) => detail,
                LoadFault::Unknown(_) => "there is no such model".to_owned(),
            };
            ServeError::Load { name, detail }
        })
    }

    /// Loads again the models whose files have changed. The old ones answer until the new ones can; a model that cannot be
    /// loaded goes on as it was, and the log says why.
    pub async fn reload(&self) {
        self.app.registry.reload().await;
    }

    /// All HTTP paths, for a server of your own: nest it, or add layers. Load the models with [`Server::load`].
    pub fn router(&self) -> Router {
        routes::router(&self.app)
    }

    /// Loads the models and serves until `end` is done; then takes no more work, and finishes what it has accepted.
    ///
    /// # Errors
    /// If a model cannot be loaded, or the system takes the listeners away.
    pub async fn serve(
        &self,
        http: TcpListener,
        grpc: Option<TcpListener>,
        end: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let (say, ending) = watch::channel(false);
        let serving = tokio::spawn(listen::http(Arc::clone(&self.app), self.router(), http, ending.clone()));
        let serving_grpc = grpc.map(|grpc| tokio::spawn(listen::grpc(Arc::clone(&self.app), grpc, ending)));
        let work = async {
            self.load().await?;
            tracing::info!("ready");
            std::future::pending::<Result<(), ServeError>>().await
        };
        let ended = tokio::select! {
            failed = work => failed,
            () = end => Ok(()),
        };
        self.app.drain();
        let _ = say.send(true);
        let stopped = |fault: tokio::task::JoinError| ServeError::Serving { detail: fault.to_string() };
        serving.await.map_err(stopped)?;
        if let Some(grpc) = serving_grpc {
            grpc.await.map_err(stopped)??;
        }
        ended
    }
}
