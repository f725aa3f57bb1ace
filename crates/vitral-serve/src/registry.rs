//! The models of a server: which there are, and which of them are loaded.

use std::sync::{Arc, PoisonError, RwLock};

use vitral::Device;

use crate::fault::{Fault, Kind};
use crate::metrics::{Metrics, VERSION};
use crate::options::Options;
use crate::runner::Runner;
use crate::source::{Fingerprint, ModelSource};
use crate::turns::Turns;

/// All models, in the order in which they were named.
pub(crate) struct Registry {
    entries: Vec<Entry>,
    device: Device,
    options: Options,
    metrics: Arc<Metrics>,
    turns: Arc<Turns>,
}

struct Entry {
    name: String,
    source: ModelSource,
    now: RwLock<Now>,
    /// One load at a time.
    loading: tokio::sync::Mutex<()>,
}

/// A model's state at the moment.
#[derive(Default)]
struct Now {
    runner: Option<Arc<Runner>>,
    status: Status,
    /// The files that `runner` was loaded from.
    files: Fingerprint,
}

/// Whether a model can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    #[default]
    Loading,
    /// By a request.
    Unloaded,
    Ready,
    Failed,
}

impl Status {
    /// The name in the repository's index.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Unloaded | Status::Failed => "UNAVAILABLE",
            Status::Loading => "LOADING",
            Status::Ready => "READY",
        }
    }

    /// Why it cannot be used.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Status::Unloaded => "unloaded",
            Status::Loading | Status::Ready => "",
            Status::Failed => "could not be loaded; the server's log says why",
        }
    }
}

impl Entry {
    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn read<T>(&self, read: impl FnOnce(&Now) -> T) -> T {
        read(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Registry {
    pub(crate) fn new(
        models: Vec<(String, ModelSource)>,
        device: Device,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        let entry = |(name, source)| Entry { name, source, now: RwLock::default(), loading: Default::default() };
        let entries = models.into_iter().map(entry).collect();
        Registry { entries, device, options, metrics, turns: Arc::default() }
    }

    /// Names and states of all models.
    pub(crate) fn index(&self) -> Vec<(&str, Status)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.read(|now| now.status))).collect()
    }

    /// All models that can be used.
    pub(crate) fn running(&self) -> Vec<Arc<Runner>> {
        self.entries.iter().filter_map(|entry| entry.read(|now| now.runner.clone())).collect()
    }

    /// Whether every model that should be there can be used.
    pub(crate) fn is_ready(&self) -> bool {
        let mut states = self.entries.iter().map(|entry| entry.read(|now| (now.status, now.runner.is_some())));
        // One that is loaded again still answers; one that was unloaded is not missed.
        states.all(|(status, runs)| runs || status == Status::Unloaded)
    }

    fn entry(&self, name: &str) -> Result<&Entry, Fault> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            Fault::new(Kind::NotFound, format!("expected one of the models `{}`, found `{name}`", names.join("`, `")))
        })
    }

    /// The model of that name, or the first.
    pub(crate) fn get(&self, name: Option<&str>) -> Result<Arc<Runner>, Fault> {
        let entry = match name {
            Some(name) => self.entry(name)?,
            None => &self.entries[0],
        };
        entry.read(|now| match (&now.runner, now.status) {
            (Some(runner), _) => Ok(Arc::clone(runner)),
            (None, Status::Unloaded) => Err(Fault::new(
                Kind::NotFound,
                format!("the model `{0}` is unloaded; load it by a POST to /v2/repository/models/{0}/load", entry.name),
            )),
            (None, status) => {
                let why = if status == Status::Failed { status.reason() } else { "is being loaded; try again later" };
                Err(Fault::new(Kind::Unavailable, format!("the model `{}` {why}", entry.name)))
            }
        })
    }

    /// The model of that name in the only version that there is.
    pub(crate) fn version(&self, name: &str, version: &str) -> Result<Arc<Runner>, Fault> {
        self.check_version(name, version)?;
        self.get(Some(name))
    }

    /// Checks that there is such a model in such a version, loaded or not.
    pub(crate) fn check_version(&self, name: &str, version: &str) -> Result<(), Fault> {
        self.entry(name)?;
        if version.is_empty() || version == VERSION {
            return Ok(());
        }
        Err(Fault::new(Kind::NotFound, format!("expected version `{VERSION}` of `{name}`, found `{version}`")))
    }

    /// Loads a model, or loads it again; until the new one has run, the old one answers. The log says what went wrong.
    pub(crate) async fn load(self: &Arc<Self>, name: &str) -> Result<(), LoadFault> {
        let loaded = self.try_load(name).await;
        if let Err(LoadFault::Failed(fault)) = &loaded {
            tracing::error!(model = name, "{fault}");
        }
        loaded
    }

    async fn try_load(self: &Arc<Self>, name: &str) -> Result<(), LoadFault> {
        let place = self.entries.iter().position(|entry| entry.name == name);
        let Some(place) = place else { return Err(LoadFault::Unknown(self.entry(name).err())) };
        // A task of its own: a client that goes away in the meantime must not leave the model half loaded.
        let work = tokio::spawn(Arc::clone(self).load_at(place));
        work.await.unwrap_or_else(|_| Err(LoadFault::Failed("loading it failed; please report it".to_owned())))
    }

    async fn load_at(self: Arc<Self>, place: usize) -> Result<(), LoadFault> {
        let entry = &self.entries[place];
        let _one_at_a_time = entry.loading.lock().await;
        entry.change(|now| now.status = Status::Loading);
        let registry = Arc::clone(&self);
        let work = tokio::task::spawn_blocking(move || registry.start(&registry.entries[place]));
        let started = work.await.unwrap_or_else(|_| Err("loading it failed; please report it".to_owned()));
        match started {
            Ok((runner, files)) => {
                // The old one, if there is any, ends when its last request does.
                entry.change(|now| *now = Now { runner: Some(Arc::new(runner)), status: Status::Ready, files });
                tracing::info!(model = entry.name, "loaded");
                Ok(())
            }
            Err(fault) => {
                entry.change(|now| {
                    now.status = if now.runner.is_some() { Status::Ready } else { Status::Failed };
                });
                Err(LoadFault::Failed(fault))
            }
        }
    }

    fn start(&self, entry: &Entry) -> Result<(Runner, Fingerprint), String> {
        // Taken before the files are read: what changes in the meantime is seen next time.
        let files = entry.source.fingerprint();
        let model = entry.source.load(&self.device).map_err(|fault| fault.to_string())?;
        let texts = entry.source.texts(&model, &self.device);
        let metrics = Arc::new(self.metrics.model(&entry.name));
        let turns = Arc::clone(&self.turns);
        let runner = Runner::start(&entry.name, model, texts, &self.options, metrics, turns);
        runner.map(|runner| (runner, files)).map_err(|fault| fault.to_string())
    }

    /// Unloads a model: requests that it has accepted are answered.
    pub(crate) async fn unload(&self, name: &str) -> Result<(), Fault> {
        let entry = self.entry(name)?;
        let _one_at_a_time = entry.loading.lock().await;
        entry.change(|now| *now = Now { status: Status::Unloaded, ..Now::default() });
        tracing::info!(model = name, "unloaded");
        Ok(())
    }

    /// Loads the models whose files have changed, and those that could not be loaded.
    pub(crate) async fn reload(self: &Arc<Self>) {
        for entry in &self.entries {
            let changed = entry.read(|now| match now.status {
                Status::Unloaded => false,
                Status::Failed => true,
                _ => entry.source.fingerprint() != now.files,
            });
            if changed {
                // The log says what happened; the old model, if any, goes on.
                let _ = self.load(&entry.name).await;
            } else {
                tracing::info!(model = entry.name, "unchanged");
            }
        }
    }

    /// Loads all models, one after the other.
    pub(crate) async fn load_all(self: &Arc<Self>) -> Result<(), (String, LoadFault)> {
        for entry in &self.entries {
            entry.change(|now| now.status = Status::Loading);
        }
        for entry in &self.entries {
            self.try_load(&entry.name).await.map_err(|fault| (entry.name.clone(), fault))?;
        }
        Ok(())
    }
}

/// Why a model was not loaded.
pub(crate) enum LoadFault {
    /// There is none of that name.
    Unknown(Option<Fault>),
    /// Its files; the text names them, and is not for clients.
    Failed(String),
}

impl From<LoadFault> for Fault {
    fn from(fault: LoadFault) -> Self {
        match fault {
            LoadFault::Unknown(Some(fault)) => fault,
            LoadFault::Unknown(None) => Fault::new(Kind::NotFound, "there is no such model"),
            LoadFault::Failed(_) => {
                Fault::bad("the model could not be loaded; the server's log says why. What ran before goes on")
            }
        }
    }
}
