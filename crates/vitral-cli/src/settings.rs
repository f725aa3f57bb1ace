//! The settings that every command shares, and which model it works with.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use vitral::weights::hub;
use vitral::{Cpu, DType, Device, LoadOptions, Model};

use crate::download::Download;
use crate::fault::Usage;

/// Options of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// Threads to work with [default: all the processor has]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t, global = true)]
    device: DeviceKind,
    /// Say nothing but results and faults
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DeviceKind {
    /// The processor
    #[default]
    Cpu,
    /// Plain loops in double precision, one thread: slow, to compare with
    Reference,
}

/// Settings that every command shares, resolved.
pub(crate) struct Settings {
    /// What computes.
    pub(crate) device: Device,
    /// Threads that read, decode and preprocess beside it.
    threads: NonZero<usize>,
    /// No notes, no progress.
    pub(crate) quiet: bool,
    /// Results as JSON.
    pub(crate) json: bool,
}

impl Settings {
    pub(crate) fn resolve(args: &GlobalArgs) -> anyhow::Result<Self> {
        let cpu = cpu(args.threads.map_or(0, usize::from))?;
        let threads = NonZero::new(cpu.threads()).unwrap_or(NonZero::<usize>::MIN);
        let device = match args.device {
            DeviceKind::Cpu => cpu.into(),
            DeviceKind::Reference => Device::reference(),
        };
        // Decoding and statistics work beside the device, on as many threads. It can only be said once, which is here.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
        Ok(Settings { device, threads, quiet: args.quiet, json: args.json })
    }

    /// Threads as the library takes them.
    pub(crate) fn threads(&self) -> NonZero<usize> {
        self.threads
    }
}

/// The processor, with the instruction set that `VITRAL_ISA` names or the best that it has.
fn cpu(threads: usize) -> anyhow::Result<Cpu> {
    let Some(name) = std::env::var_os("VITRAL_ISA").filter(|name| !name.is_empty()) else {
        return Ok(Cpu::with_threads(threads));
    };
    let name = name.to_string_lossy();
    Cpu::with_instruction_set(threads, &name).ok_or_else(|| {
        let has = Cpu::instruction_sets().join("`, `");
        Usage(format!("`VITRAL_ISA` is `{name}`; expected an instruction set that this processor has: `{has}`")).into()
    })
}

/// Which model.
#[derive(Args, Debug)]
pub(crate) struct ModelArgs {
    /// A model: a Hugging Face or timm folder, a Vitral bundle, a checkpoint with `--config`, a JAX `.npz`, or a name on the
    /// hub such as `hf:google/vit-base-patch16-224` or `timm/…` [default: what `VITRAL_MODEL` names, or the built-in one]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) model: Option<PathBuf>,
    /// The file that describes a checkpoint which does not describe itself
    #[arg(long, value_name = "FILE", requires = "model")]
    pub(crate) config: Option<PathBuf>,
    /// How weights are kept in memory: 16 bits take half of it; arithmetic is in 32 bits in any case
    #[arg(long, value_enum, value_name = "KIND", default_value = "f32")]
    pub(crate) weights: Weights,
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    /// 32-bit floats
    F32,
    /// bfloat16
    Bf16,
    /// IEEE half floats
    F16,
}

impl From<Weights> for DType {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => DType::F32,
            Weights::Bf16 => DType::Bf16,
            Weights::F16 => DType::F16,
        }
    }
}

impl ModelArgs {
    /// The one that was named, or that the environment names. Not left to the parser, for which a model from the
    /// environment would contradict options that take its place.
    pub(crate) fn chosen(&self) -> Option<PathBuf> {
        let usual = || std::env::var_os("VITRAL_MODEL").filter(|name| !name.is_empty());
        self.model.clone().or_else(|| usual().map(PathBuf::from))
    }

    /// Loads it.
    pub(crate) fn load(&self, settings: &Settings) -> anyhow::Result<Model> {
        let options = LoadOptions::default().config(self.config.clone()).dtype(self.weights.into());
        Ok(match self.chosen() {
            Some(path) => Model::load(&located(&path, settings)?, &options, &settings.device)?,
            None => Model::embedded(&settings.device)?,
        })
    }
}

/// The folder of a model that was given by its path, or by its name on a hub, which is then pulled.
pub(crate) fn located(given: &Path, settings: &Settings) -> anyhow::Result<PathBuf> {
    let Some(name) = given.to_str() else { return Ok(given.to_owned()) };
    let mut bar = Download::new(settings.quiet);
    let folder = hub::locate(name, &mut |progress| bar.show(progress));
    bar.finish();
    Ok(folder?)
}

/// Which model, where there is no sense in a default.
#[derive(Args, Debug)]
pub(crate) struct GivenModelArgs {
    /// A model: a Hugging Face or timm folder, a Vitral bundle, a checkpoint with `--config`, a JAX `.npz`, or a name on the
    /// hub such as `hf:google/vit-base-patch16-224` or `timm/…`
    #[arg(long, short, value_name = "PATH")]
    model: PathBuf,
    /// The file that describes a checkpoint which does not describe itself
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl GivenModelArgs {
    /// Loads it.
    pub(crate) fn load(&self, settings: &Settings) -> anyhow::Result<Model> {
        let options = LoadOptions::default().config(self.config.clone());
        Ok(Model::load(&located(&self.model, settings)?, &options, &settings.device)?)
    }
}
