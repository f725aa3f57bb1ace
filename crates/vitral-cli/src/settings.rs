//! The settings that every command shares, and the choice of model.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use vitral::choice::{DeviceChoice, Opened};
use vitral::image::Backend;
use vitral::text::TextModel;
use vitral::weights::hub;
use vitral::{Device, LoadOptions, Model, Precision};
use vitral_ranks::{Failed, Launcher, Ranks};

use crate::download::Download;
use crate::fault::{self, Usage};
use crate::labels::LabelArgs;

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Number of threads [default: all hardware threads]
    #[arg(long, alias = "num-threads", value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Compute device: `cpu`, `cuda` (an NVIDIA GPU), `cuda:1` (the second one), `reference` (plain loops in double
    /// precision, one thread: slow, for comparison), or `auto`, which takes a GPU where there is one
    #[arg(long, value_name = "DEVICE", env = "VITRAL_DEVICE", default_value = "auto", global = true)]
    device: DeviceChoice,
    /// The folder of NVIDIA's libraries (cuBLASLt, NVRTC), if they are not found automatically
    #[arg(long, value_name = "FOLDER", env = "VITRAL_CUDA_PATH", global = true)]
    cuda_path: Option<PathBuf>,
    /// Print only results and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Settings that every command shares, resolved.
pub(crate) struct Settings {
    /// Compute device.
    pub(crate) device: Device,
    /// What there is to say about the choice of device.
    pub(crate) device_note: Option<String>,
    /// Threads that read, decode and preprocess images.
    threads: NonZero<usize>,
    /// Print no notes and no progress.
    pub(crate) quiet: bool,
    /// Print results as JSON.
    pub(crate) json: bool,
    /// The processes that work on the command together.
    pub(crate) ranks: Ranks,
}

impl Settings {
    /// `computes` is whether the command computes with a model: only then is a GPU looked for. `ranks` are those that work
    /// on the command together.
    pub(crate) fn resolve(args: &GlobalArgs, computes: bool, ranks: Ranks) -> anyhow::Result<Self> {
        let choice = match args.device {
            DeviceChoice::Auto if !computes => DeviceChoice::Cpu,
            choice => choice,
        };
        let launcher = Launcher::of_environment().filter(|_| ranks.is_several());
        let threads = args.threads.map_or_else(|| own_threads(launcher.as_ref()), usize::from);
        let open = |choice: DeviceChoice| choice.open(threads, args.cuda_path.as_deref());
        // Each process of a machine has a GPU of its own, unless its launcher shows it but one.
        let local = launcher.as_ref().and_then(|launcher| launcher.local_rank).unwrap_or(0);
        let own = match choice {
            DeviceChoice::Auto | DeviceChoice::Cuda(0) if local > 0 => open(DeviceChoice::Cuda(local)).ok(),
            _ => None,
        };
        let opened = own.map_or_else(|| open(choice), Ok);
        let Opened { device, note, threads } = opened.map_err(|fault| Usage(fault.to_string()))?;
        // Decoding and statistics run next to the device, on the same number of threads. The pool can only be set once,
        // here.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        Ok(Settings { device, device_note: note, threads, quiet: args.quiet, json: args.json, ranks })
    }

    /// Number of threads, in the type that the library takes.
    pub(crate) fn threads(&self) -> NonZero<usize> {
        self.threads
    }
}

/// Threads of a process that shares its machine with others, unless its launcher has given it processors of its own; 0 is
/// one for each processor.
fn own_threads(launcher: Option<&Launcher>) -> usize {
    let neighbors = launcher.and_then(|launcher| launcher.local_size).unwrap_or(1);
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    if neighbors > 1 && available >= processors().unwrap_or(available) { (available / neighbors).max(1) } else { 0 }
}

/// The machine's processors, bound to this process or not.
fn processors() -> Option<usize> {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let ranges = listed.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    });
    ranges.sum()
}

/// Goes on if all ranks are well, with what each gives, in the order of ranks.
pub(crate) fn agree(ranks: &Ranks, given: anyhow::Result<Vec<u8>>) -> anyhow::Result<Vec<Vec<u8>>> {
    ranks.gather_if_well(given.map_err(Told)).map_err(|failed| match failed {
        Failed::Here(Told(error)) => error,
        Failed::Elsewhere(error) => error.into(),
    })
}

/// An error as it is told to other ranks: on one line, with its causes.
struct Told(anyhow::Error);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&fault::line(&self.0))
    }
}

/// The choice of model.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// A model: a Hugging Face or timm folder, a Vitral bundle, a checkpoint with `--config`, a JAX `.npz`, or a name
    /// on the hub such as `hf:google/vit-base-patch16-224` or `timm/…` [default: `VITRAL_MODEL` if set, else the
    /// built-in model]
    #[arg(long, short, value_name = "PATH", group = "chosen")]
    pub(crate) model: Option<PathBuf>,
    /// A config file, for a checkpoint that comes without one
    #[arg(long, value_name = "FILE", requires = "chosen")]
    pub(crate) config: Option<PathBuf>,
    /// Tensors that may be missing or left over, by name, ours or the file's; `*` matches anything
    #[arg(long, value_name = "NAME")]
    ignore: Vec<String>,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
}

/// The choice of model, for commands that prepare images for it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageModelArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
}

/// How images are prepared, where it is not as the model's files say.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct BackendArgs {
    /// Whose arithmetic resizes and normalizes images for Hugging Face's models, as `backend` in transformers: `pil`, or
    /// `torchvision`, its default for most models; they differ by a few levels of 255 in some pixels [default: what the model's
    /// bundle says, else `pil`]
    #[arg(long, value_name = "NAME", value_parser = backend())]
    backend: Option<Backend>,
    /// Images of any proportions: each is resized to at most N patches, without a crop, where the model takes images of any
    /// size (NaFlex) [default: what the model's files say]
    #[arg(long, value_name = "N")]
    max_patches: Option<NonZero<usize>>,
}

fn backend() -> impl TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(Backend::ALL.map(Backend::name)).try_map(|name| name.parse())
}

impl BackendArgs {
    /// Whether there was a choice.
    pub(crate) fn given(self) -> bool {
        self.backend.is_some() || self.max_patches.is_some()
    }

    /// Options of loading with this choice in them.
    pub(crate) fn within(self, options: LoadOptions) -> LoadOptions {
        options.backend(self.backend).max_patches(self.max_patches)
    }
}

impl ImageModelArgs {
    /// As [`ModelArgs::chosen`].
    pub(crate) fn chosen(&self) -> Option<PathBuf> {
        self.model.chosen()
    }

    /// Loads the model.
    pub(crate) fn load(&self, settings: &Settings) -> anyhow::Result<Model> {
        self.model.load_with(&self.backend.within(self.model.options(settings)?), settings)
    }

    /// Loads the model, with classes in words if there are any.
    pub(crate) fn load_with_labels(&self, labels: &LabelArgs, settings: &Settings) -> anyhow::Result<Model> {
        let labels = labels.labels()?;
        if labels.is_some() && self.chosen().is_none() {
            return Err(no_text_tower());
        }
        self.load_with(settings, |options| options.labels(labels))
    }

    /// Loads the model with more options.
    pub(crate) fn load_with(
        &self,
        settings: &Settings,
        more: impl FnOnce(LoadOptions) -> LoadOptions,
    ) -> anyhow::Result<Model> {
        let options = self.backend.within(self.model.options(settings)?);
        self.model.load_with(&more(options), settings)
    }

    /// The text tower beside the model, wherever that is: at `location` if the command line names none.
    pub(crate) fn load_texts(&self, location: Option<&Path>, settings: &Settings) -> anyhow::Result<TextModel> {
        let asked = self.model.model.clone().or_else(|| location.map(Path::to_owned));
        let Some(path) = asked.or_else(|| self.model.chosen()) else {
            return Err(Usage(
                "the built-in model has no text tower; give one of CLIP or SigLIP with `--model`".into(),
            )
            .into());
        };
        Ok(TextModel::load(&located(&path, settings)?, self.model.config.as_deref(), &settings.device)?)
    }

    /// Loads the model of the command line, or without one that of an index, wherever the usual model is: `location`, or
    /// the built-in one.
    pub(crate) fn load_or(&self, location: Option<&Path>, settings: &Settings) -> anyhow::Result<Model> {
        let options = self.backend.within(self.model.options(settings)?);
        load_at(self.model.model.as_deref().or(location), &options, settings)
    }
}

fn no_text_tower() -> anyhow::Error {
    Usage("the built-in model has no text tower; give one of CLIP or SigLIP with `--model`".into()).into()
}

/// The choice of precision.
#[derive(Args, Clone, Debug)]
pub(crate) struct PrecisionArgs {
    /// Precision of matrix products; sums, norms and softmax are always computed in f32 [default: what the model's bundle
    /// says, else f32; on a GPU bf16, but f32 for `forward`]
    #[arg(long, value_name = "KIND", value_parser = precision())]
    precision: Option<Precision>,
}

fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name)).try_map(|name| name.parse())
}

impl PrecisionArgs {
    /// The precision that was asked for, if the device has it.
    pub(crate) fn asked(&self, settings: &Settings) -> anyhow::Result<Option<Precision>> {
        let Some(precision) = self.precision else { return Ok(None) };
        let device = settings.device.clone().with_precision(precision);
        device.map_err(|fault| Usage(format!("`--precision {precision}`: {fault}")))?;
        Ok(Some(precision))
    }

    /// The same choice, with a default of its own.
    pub(crate) fn or(mut self, default: Precision) -> Self {
        self.precision.get_or_insert(default);
        self
    }

    /// The device in the precision that was asked for, for a model without a bundle.
    pub(crate) fn device(&self, settings: &Settings) -> anyhow::Result<Device> {
        let precision = self.asked(settings)?.unwrap_or(settings.device.precision());
        Ok(settings.device.clone().with_precision(precision)?)
    }
}

impl ModelArgs {
    /// The model from the command line or from the environment. clap's `env` is not used, because a model from the
    /// environment would conflict with options that replace it.
    pub(crate) fn chosen(&self) -> Option<PathBuf> {
        let usual = || std::env::var_os("VITRAL_MODEL").filter(|name| !name.is_empty());
        self.model.clone().or_else(|| usual().map(PathBuf::from))
    }

    /// Loads the model.
    pub(crate) fn load(&self, settings: &Settings) -> anyhow::Result<Model> {
        self.load_with(&self.options(settings)?, settings)
    }

    /// How the model is loaded.
    fn options(&self, settings: &Settings) -> anyhow::Result<LoadOptions> {
        let precision = self.precision.asked(settings)?;
        Ok(LoadOptions::default().config(self.config.clone()).ignore(self.ignore.clone()).precision(precision))
    }

    fn load_with(&self, options: &LoadOptions, settings: &Settings) -> anyhow::Result<Model> {
        load_at(self.chosen().as_deref(), options, settings)
    }
}

/// Loads the model at a path, or the built-in one.
fn load_at(path: Option<&Path>, options: &LoadOptions, settings: &Settings) -> anyhow::Result<Model> {
    Ok(match path {
        Some(path) => Model::load(&located(path, settings)?, options, &settings.device)?,
        None => Model::embedded_with(options, &settings.device)?,
    })
}

/// The folder of a model given by its path, or by its name on a hub, which is then downloaded: by the first of several
/// ranks, before the others look.
pub(crate) fn located(given: &Path, settings: &Settings) -> anyhow::Result<PathBuf> {
    let Some(name) = given.to_str() else { return Ok(given.to_owned()) };
    let ranks = &settings.ranks;
    let locate = || {
        let mut bar = Download::new(settings.quiet || !ranks.is_first());
        let folder = hub::locate(name, &mut |progress| bar.show(progress));
        bar.finish();
        anyhow::Ok(folder?)
    };
    let first = if ranks.is_first() { Some(locate()) } else { None };
    if !ranks.is_several() {
        return first.unwrap_or_else(locate);
    }
    let (folder, result) = match first.transpose() {
        Ok(folder) => (folder, Ok(Vec::new())),
        Err(error) => (None, Err(error)),
    };
    agree(ranks, result)?;
    folder.map_or_else(locate, Ok)
}

/// The choice of model, for commands about a model, whose first argument may be the model as well.
#[derive(Args, Debug)]
pub(crate) struct FirstModelArgs {
    /// The model, as with `--model`
    #[arg(value_name = "MODEL", group = "chosen")]
    first: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

impl FirstModelArgs {
    /// The choice, wherever it stands.
    pub(crate) fn resolved(&self) -> ModelArgs {
        let mut resolved = self.model.clone();
        resolved.model = resolved.model.or_else(|| self.first.clone());
        resolved
    }
}

/// The choice of model, for commands without a default.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("given").required(true))]
pub(crate) struct GivenModelArgs {
    /// A model: a Hugging Face or timm folder, a Vitral bundle, a checkpoint with `--config`, a JAX `.npz`, or a name
    /// on the hub such as `hf:google/vit-base-patch16-224` or `timm/…`
    #[arg(value_name = "MODEL", group = "given")]
    first: Option<PathBuf>,
    /// The same, as an option
    #[arg(long, short, value_name = "PATH", group = "given")]
    model: Option<PathBuf>,
    /// A config file, for a checkpoint that comes without one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl GivenModelArgs {
    /// The model, as it was given.
    pub(crate) fn given(&self) -> &Path {
        self.model.as_deref().or(self.first.as_deref()).unwrap_or(Path::new(""))
    }

    /// Its path; a name on a hub is downloaded.
    pub(crate) fn located(&self, settings: &Settings) -> anyhow::Result<PathBuf> {
        located(self.given(), settings)
    }

    /// Loads the model.
    pub(crate) fn load(&self, precision: &PrecisionArgs, settings: &Settings) -> anyhow::Result<Model> {
        let options = LoadOptions::default().config(self.config.clone()).precision(precision.asked(settings)?);
        Ok(Model::load(&self.located(settings)?, &options, &settings.device)?)
    }
}
