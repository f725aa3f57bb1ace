//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vitral::Device;

use crate::budget::Budget;
use crate::fault::{Fault, Kind};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::registry::Registry;
use crate::runner::Runner;
use crate::source::ModelSource;

/// What all requests share.
pub(crate) struct App {
    pub(crate) registry: Arc<Registry>,
    pub(crate) options: Options,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Keys,
    /// Memory for the bodies of requests.
    pub(crate) bodies: Arc<Budget>,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(
        models: Vec<(String, ModelSource)>,
        device: Device,
        options: Options,
    ) -> prometheus::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new()?);
        Ok(Arc::new(App {
            registry: Arc::new(Registry::new(models, device, options.clone(), Arc::clone(&metrics))),
            keys: Keys::new(&options.api_keys),
            bodies: Budget::new(options.max_bodies),
            options,
            metrics,
            draining: AtomicBool::new(false),
        }))
    }

    /// Takes no more work; what was taken is finished.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether work is taken for all models.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_draining() && self.registry.is_ready()
    }

    /// The model of that name, or the first, for a request that brings work.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<Arc<Runner>, Fault> {
        self.check_open()?;
        self.registry.get(name)
    }

    /// Refuses work while the server ends.
    pub(crate) fn check_open(&self) -> Result<(), Fault> {
        if self.is_draining() {
            return Err(Fault::new(Kind::Unavailable, "the server is ending; send the request to another one"));
        }
        Ok(())
    }
}
