//! `vitral bench`: measure how fast a model runs here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use vitral::Precision;
use vitral::config::Size;
use vitral::message::count;
use vitral::model::Vit;
use vitral::model::cost::Macs;
use vitral::model::init::{Initialization, frozen};
use vitral::timing::time_forward;
use vitral_train::lora::Lora;
use vitral_train::timing::{Saving, time_steps, time_steps_from_files};

use crate::architecture::{Architecture, architecture};
use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{FirstModelArgs, Settings};

/// What `--model` is here, where `VITRAL_MODEL` does not count.
const OF_A_MODEL: &str = "A model, as in other commands, in place of a named size";

/// Measure how fast a model runs here
///
/// Times forward passes over synthetic images already in memory, after one warm-up pass. A named size gets random
/// weights. The fraction of peak is relative to the measured multiply-add peak of this CPU's threads.
#[derive(Args, Debug)]
#[command(mut_arg("model", |arg| arg.help(OF_A_MODEL)), after_long_help = "\
Examples:
  vitral bench --arch B/16
  vitral bench --arch Ti/16 --batch 8 --threads 2 --runs 20 --json
  vitral bench --arch S/16 --image-size 384
  vitral bench --arch S/16 --batch 8 --train
  vitral bench --arch S/16 --batch 8 --train --recompute
  vitral bench --arch S/16 --batch 64 --train --data photos/
  vitral bench --model vit-base-patch16-224

With --json: arch, image_size, batch, threads, instruction_set, train, runs, median_ms, min_ms, images_per_second (from \
the median), gflops (2 × the multiply-accumulates computed, which are fewer than in `vitral info` if the last block is \
only needed for the class token; in training, where a backward pass costs two forward passes, 6 ×, with --lora 4 ×, and \
with --recompute 2 × more), fma_peak_gflops, fraction_of_peak, peak_rss_mb (null if the system does not report it); with \
--stages also stages, with --compare also speedup.")]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: FirstModelArgs,
    /// A named size with random weights: `B/16`, `vit_base_patch16_384`, … (see `vitral models`) [default: B/16]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "first"], value_parser = architecture)]
    arch: Option<Architecture>,
    /// A different image size than the model's: `384`, or `height x width` as in `384x256`
    #[arg(long, value_name = "N", value_parser = size)]
    image_size: Option<Size>,
    /// A different patch size than the name says
    #[arg(long, value_name = "N", value_parser = size, conflicts_with_all = ["model", "first"])]
    patch_size: Option<Size>,
    /// Batch size
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Number of passes to time
    #[arg(long, value_name = "R", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Time whole training steps: forward, backward, AdamW
    #[arg(long, conflicts_with_all = ["model", "first"])]
    train: bool,
    /// In training: recompute blocks in the backward pass, which saves memory
    #[arg(long, requires = "train")]
    recompute: bool,
    /// In training: train only low-rank updates of this rank and the head, with the rest frozen
    #[arg(long, value_name = "RANK", requires = "train")]
    lora: Option<u16>,
    /// In training: take the images from a folder, and say which part of the time was spent waiting for them
    #[arg(long, value_name = "FOLDER", requires = "train", conflicts_with_all = ["recompute", "lora"])]
    data: Option<PathBuf>,
    /// Show where the time goes: each stage's fraction of the time, and its fraction of the peak
    #[arg(long, conflicts_with = "train")]
    stages: bool,
    /// Compare the result with an earlier one, written with `--json`
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// Reads `224` or `384x256`.
fn size(text: &str) -> Result<Size, String> {
    let side = |text: &str| text.parse().ok().filter(|&side: &usize| (1..=1 << 16).contains(&side));
    let size = match text.split_once('x') {
        Some((height, width)) => side(height).zip(side(width)).map(|(height, width)| Size { height, width }),
        None => side(text).map(Size::square),
    };
    size.ok_or_else(|| "expected pixels, as in `224` or `384x256`".into())
}

#[derive(Serialize)]
struct Measured {
    arch: String,
    image_size: Size,
    /// Only if it is another one than the name says.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_size: Option<Size>,
    batch: usize,
    threads: usize,
    device: &'static str,
    precision: &'static str,
    instruction_set: Option<&'static str>,
    train: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recompute: bool,
    /// Rank of the low-rank updates that are trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    lora: Option<u16>,
    runs: usize,
    median_ms: f64,
    min_ms: f64,
    images_per_second: f64,
    gflops: f64,
    fma_peak_gflops: Option<f64>,
    fraction_of_peak: Option<f64>,
    downloads: usize,
    /// Which part of the time was spent waiting for images from files.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<f64>,
    peak_rss_mb: Option<f64>,
    /// The most memory of a GPU that was held.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_mb: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speedup: Option<f64>,
}

/// One stage of a pass.
#[derive(Serialize)]
struct Stage {
    name: &'static str,
    ms: f64,
    share: f64,
    gflops: Option<f64>,
    fraction_of_peak: Option<f64>,
}

/// The fields of an earlier measurement that this one is compared with.
#[derive(Deserialize)]
struct Earlier {
    #[serde(flatten)]
    work: Work,
    median_ms: f64,
}

/// What is measured; two measurements of other things are not compared.
#[derive(Deserialize, PartialEq)]
struct Work {
    arch: String,
    /// Results of earlier versions do not say it.
    image_size: Option<Size>,
    patch_size: Option<Size>,
    batch: usize,
    #[serde(default)]
    train: bool,
    #[serde(default)]
    recompute: bool,
    lora: Option<u16>,
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.arch)?;
        if let Some(size) = self.patch_size {
            write!(f, " with patches of {size}")?;
        }
        if let Some(size) = self.image_size {
            write!(f, " on images of {size}")?;
        }
        write!(f, " at batch {}", self.batch)?;
        if self.train {
            f.write_str(", training")?;
        }
        if let Some(rank) = self.lora {
            write!(f, " low-rank updates of {rank}")?;
        }
        if self.recompute {
            f.write_str(", recomputing blocks")?;
        }
        Ok(())
    }
}

impl Earlier {
    /// How many times as fast this measurement is.
    fn speedup(path: &Path, now: &Measured) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let earlier: Earlier = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not a result of `vitral bench --json`", path.display()))?;
        let before = earlier.work;
        let after = Work {
            arch: now.arch.clone(),
            image_size: before.image_size.and(Some(now.image_size)),
            patch_size: now.patch_size,
            batch: now.batch,
            train: now.train,
            recompute: now.recompute,
            lora: now.lora,
        };
        if before != after {
            bail!("`{}` measured {before}, not {after}: the two must match", path.display());
        }
        Ok(rounded(earlier.median_ms / now.median_ms, 3))
    }
}

/// Stages of a pass, the longest first; `macs` are those of one image.
fn stages(times: &[(&'static str, Duration)], macs: Macs, batch: usize, peak: Option<f64>) -> Vec<Stage> {
    let total: f64 = times.iter().map(|(_, time)| time.as_secs_f64()).sum();
    let mut stages: Vec<Stage> = times
        .iter()
        .map(|&(name, time)| {
            let macs = match name {
                "patch_embedding" => macs.stem + macs.patch_embedding,
                "qkv" => macs.qkv,
                "attention" => macs.attention,
                "projection" => macs.projection,
                "mlp" => macs.mlp,
                "head" => macs.head,
                _ => 0,
            };
            let seconds = time.as_secs_f64();
            let gflops = (macs > 0).then(|| 2.0 * (macs * batch as u64) as f64 / seconds / 1e9);
            Stage {
                name,
                ms: rounded(1e3 * seconds, 3),
                share: rounded(seconds / total, 4),
                gflops: gflops.map(|gflops| rounded(gflops, 1)),
                fraction_of_peak: gflops.zip(peak).map(|(gflops, peak)| rounded(gflops / peak, 4)),
            }
        })
        .collect();
    stages.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    stages
}

/// How a training step saves memory.
fn saving(args: &BenchArgs) -> Saving {
    let lora = args.lora.map(|rank| Lora::of_rank(usize::from(rank)));
    Saving { recompute: args.recompute, lora }
}

pub(crate) fn run(args: &BenchArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let given = args.model.resolved();
    let mut device = given.precision.device(settings)?;
    if args.train && device.precision() == Precision::Int8 {
        return Err(Usage("`--precision int8` is for inference; leave out `--train`, or take bf16".into()).into());
    }
    let (mut preprocessed, mut usual_patch) = (None, None);
    let (name, vit, learned) = if given.model.is_some() {
        let model = given.load(settings)?;
        let name = model.name().to_owned();
        preprocessed = model.preprocess().ok().and_then(|preprocess| preprocess.output_size());
        let (vit, parameters) = model.into_parts();
        device = parameters.device().clone();
        (name, vit, Some(parameters))
    } else {
        let mut architecture = match &args.arch {
            Some(architecture) => architecture.clone(),
            None => architecture("B/16").map_err(Usage)?,
        };
        usual_patch = Some(architecture.config.patch_size);
        architecture.config.image_size = args.image_size.unwrap_or(architecture.config.image_size);
        architecture.config.patch_size = args.patch_size.unwrap_or(architecture.config.patch_size);
        (architecture.name, Vit::new(architecture.config)?, None)
    };
    let image = args.image_size.unwrap_or(vit.config().image_size);
    let (batch, runs) = (usize::from(args.batch), args.runs as usize);
    let macs = vit.computed_macs(image)?;
    // Input gradients cost as much as the pass itself, and so do weight gradients; adapters are small beside the frozen
    // rest.
    let gradients = if args.lora.is_some() { 1 } else { 2 };
    let passes = if args.train { 1 + gradients + u64::from(args.recompute) } else { 1 };
    let flop = (2 * passes * batch as u64 * macs.total()) as f64;

    let (peak, downloads) = (device.fma_peak(), device.downloads());
    printer.start_progress(runs + 1, "passes");
    let advance = || drop(printer.advance(1));
    let mut waiting = None;
    let (mut times, parts) = if let Some(folder) = &args.data {
        let threads = settings.threads().get();
        let sizes = (batch, image);
        let found = time_steps_from_files(vit.config().clone(), &device, sizes, folder, (runs, threads), advance)?;
        waiting = Some(rounded(found.waiting(), 4));
        (found.steps.iter().zip(&found.waits).map(|(step, wait)| *step + *wait).collect(), Vec::new())
    } else if args.train {
        (time_steps(vit, &device, (batch, image), &saving(args), runs, advance)?, Vec::new())
    } else {
        let made = || frozen(&vit, Initialization::Timm, 0, &device);
        let timing = time_forward(&vit, &learned.unwrap_or_else(made), (batch, image), runs, args.stages, advance)?;
        (timing.passes, timing.stages)
    };
    printer.finish_progress();
    let downloads = device.downloads() - downloads;
    let peak = peak.zip(device.fma_peak()).map(|(before, after)| before.max(after));
    times.sort();
    let (Some(median), Some(least)) = (median(&times), times.first().copied()) else { bail!("nothing was timed") };

    let gflops = flop / median.as_secs_f64() / 1e9;
    let mut measured = Measured {
        arch: name,
        image_size: image,
        patch_size: args.patch_size.filter(|&size| usual_patch.is_some_and(|usual| usual != size)),
        batch,
        threads: settings.threads().get(),
        device: device.name(),
        precision: device.precision().name(),
        instruction_set: device.instruction_set(),
        train: args.train,
        recompute: args.recompute,
        lora: args.lora,
        runs,
        median_ms: rounded(1e3 * median.as_secs_f64(), 3),
        min_ms: rounded(1e3 * least.as_secs_f64(), 3),
        images_per_second: rounded(batch as f64 / median.as_secs_f64(), 3),
        gflops: rounded(gflops, 1),
        fma_peak_gflops: peak.map(|peak| rounded(peak, 1)),
        fraction_of_peak: peak.map(|peak| rounded(gflops / peak, 4)),
        downloads,
        waiting,
        peak_rss_mb: peak_memory().map(|megabytes| rounded(megabytes, 1)),
        device_memory_mb: device.peak_memory().map(|bytes| rounded(bytes as f64 / f64::from(1 << 20), 1)),
        stages: if args.stages { stages(&parts, macs, batch, peak) } else { Vec::new() },
        speedup: None,
    };
    measured.speedup = args.compare.as_deref().map(|path| Earlier::speedup(path, &measured)).transpose()?;
    if settings.json {
        printer.json(&measured)?;
    } else {
        measured.print(printer)?;
        if let Some(other) = preprocessed.filter(|&size| size != image && args.image_size.is_none()) {
            printer.line(format_args!(
                "{image} is the size of the model's positions; its preprocessing gives {other} (`--image-size {}`)",
                other.height
            ))?;
        }
    }
    Ok(Outcome::Done)
}

impl Measured {
    fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        let field = |name: &str, value: String| printer.line(format_args!("{name:<12}{value}"));
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        let training = if self.train { ", training" } else { "" };
        let title = format!("{}, {} pixels, batch {}{training}", self.arch, self.image_size, self.batch);
        printer.line(format_args!(
            "{}, {threads} ({}, {})",
            printer.heading(title),
            self.instruction_set.unwrap_or(self.device),
            self.precision
        ))?;
        let passes = count(self.runs, if self.train { "step" } else { "pass" });
        field("median", format!("{:.2} ms of {passes}, minimum {:.2} ms", self.median_ms, self.min_ms))?;
        field("throughput", format!("{:.2} images/s", self.images_per_second))?;
        let of_peak = match self.fma_peak_gflops.zip(self.fraction_of_peak) {
            Some((peak, share)) => format!(", {:.0} % of a peak of {peak}", 100.0 * share),
            None => String::new(),
        };
        field("arithmetic", format!("{} GFLOP/s{of_peak}", self.gflops))?;
        if let Some(waiting) = self.waiting {
            printer.line(format_args!("waiting     {:.1} % of the time for images", 100.0 * waiting))?;
        }
        if let Some(memory) = self.peak_rss_mb {
            field("memory", format!("{memory} MB peak"))?;
        }
        if let Some(speedup) = self.speedup {
            field("compared", format!("{speedup:.2} × as fast as the earlier measurement"))?;
        }
        for stage in &self.stages {
            let (share, ms) = (100.0 * stage.share, stage.ms);
            let reached = match (stage.gflops, stage.fraction_of_peak) {
                (Some(gflops), Some(fraction)) => {
                    format!("  {gflops:>7.1} GFLOP/s, {:>3.0} % of peak", 100.0 * fraction)
                }
                _ => String::new(),
            };
            printer.line(format_args!("  {:<16}{ms:>9.3} ms {share:>5.1} %{reached}", stage.name))?;
        }
        Ok(())
    }
}

/// The median of sorted times: the mean of the two middle ones if their count is even.
fn median(sorted: &[Duration]) -> Option<Duration> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2)
}

fn rounded(number: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (number * scale).round() / scale
}

/// Peak memory of this process, in MB, if the system reports it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_sizes() {
        let times = [1, 2, 10, 20].map(Duration::from_millis);
        assert_eq!(median(&times), Some(Duration::from_millis(6)));
        assert_eq!(median(&times[..3]), Some(Duration::from_millis(2)));
        assert_eq!(median(&[]), None);
        assert_eq!(size("384x256"), Ok(Size { height: 384, width: 256 }));
        assert_eq!(size("224"), Ok(Size::square(224)));
        for wrong in ["", "0", "x", "-1", "1x", "99999999", "axb"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
