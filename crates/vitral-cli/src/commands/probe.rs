//! `vitral probe`: measure a model's features without training it further.

mod dense;

use std::path::PathBuf;

use clap::Args;
use vitral::features::FeatureKind;
use vitral::message::count;
use vitral_train::evaluate::{FewShot, Nearest, ProbeLinear, ProbeOptions, ProbeReport, probe};

use crate::outcome::Outcome;
use crate::pool::vectors;
use crate::printer::Printer;
use crate::progress::Progress;
use crate::settings::{ImageModelArgs, Settings};

/// Evaluate a model's features with simple classifiers
///
/// Nearest neighbors by cosine; a linear classifier in closed form (ridge), with its penalty chosen on a fifth of the
/// training images; and the ViT paper's few-shot evaluation: a linear classifier on 1, 5, 10 and 25 images per class,
/// three draws each, both with L2 = 2^10 and whitened features as in big_vision, and with the scaling and penalty
/// chosen by leave-one-out cross-validation. With --dense, a linear classifier of single patches on images with masks.
#[derive(Args, Debug)]
#[command(after_long_help = "\
With --dense, DATA is a folder of images and of masks with the number of a class for each pixel: `images/` and `masks/` \
(or `annotations/`), each with `train/` and `val/` or without; `train/` and `val/`, each with both inside; or Pascal VOC's \
folders. A mask has the name of its image: a gray PNG or one with a palette, or a TIFF or .npy of one band. `classes.txt`, \
if there is one, names the numbers, from 0, one on each line. Images are resized to a short side of the model's input and \
looked at in overlapping windows; the classifier's logits are enlarged to the masks, and the result is the mean \
intersection over union.

Examples:
  vitral probe --model dinov2-small flowers/
  vitral probe --model dinov2-small flowers/ --pool class-and-mean
  vitral probe --model dinov2-small flowers/ --shots 1,2,4 --json
  vitral probe --model dinov2-small VOC2012/ --dense --output predicted
  vitral probe --model dinov2-small ADE20K/ --dense --ignore-index 0")]
pub(crate) struct ProbeArgs {
    /// The labeled images, for fitting and for testing
    data: PathBuf,
    #[command(flatten)]
    model: ImageModelArgs,
    /// Test images [default: those next to the training images, or a tenth split off]
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// Which features to use
    #[arg(long, value_name = "POOL", value_parser = vectors(), default_value = "pooled")]
    pool: FeatureKind,
    /// Numbers of neighbors that vote
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,5,20")]
    neighbors: Vec<usize>,
    /// Numbers of images per class for the few-shot evaluation
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,5,10,25")]
    shots: Vec<usize>,
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    #[command(flatten)]
    dense: dense::DenseArgs,
}

pub(crate) fn run(args: &ProbeArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if let Some(mut options) = args.dense.options() {
        options.test = args.test.clone();
        options.batch = args.batch.into();
        return dense::run(&args.model.load(settings)?, &args.data, &options, settings, printer);
    }
    if args.neighbors.contains(&0) || args.shots.contains(&0) {
        return Err(crate::fault::Usage("neighbors and shots must be above 0".into()).into());
    }
    let model = args.model.load(settings)?;
    let mut options = ProbeOptions::default();
    options.test = args.test.clone();
    options.pool = args.pool;
    options.neighbors = args.neighbors.clone();
    options.shots = args.shots.clone();
    options.batch = args.batch.into();
    let found = Progress::of(printer, |watcher| probe(&model, &args.data, &options, &settings.ranks, watcher))?;
    if settings.json {
        printer.json(&found)?;
    } else {
        show(&found, &args.shots, printer)?;
    }
    Ok(if found.skipped > 0 { Outcome::Incomplete } else { Outcome::Done })
}

fn show(found: &ProbeReport, shots: &[usize], printer: &Printer) -> anyhow::Result<()> {
    let ProbeReport { precision, train, test, width, neighbors, linear, few_shot, few_shot_chosen, .. } = found;
    printer.line(format_args!(
        "features of width {width}, computed in {precision}; fitted on {}, tested on {test}",
        count(*train, "image")
    ))?;
    for Nearest { k, accuracy } in neighbors {
        let name = if *k == 1 { "nearest neighbor".to_owned() } else { format!("{k} nearest neighbors") };
        printer.line(format_args!("{name:<22} {:6.2} %", 100.0 * accuracy))?;
    }
    let ProbeLinear { penalty, accuracy } = linear;
    printer.line(format_args!(
        "{:<22} {:6.2} %   penalty {penalty}, chosen on the training images",
        "linear",
        100.0 * accuracy
    ))?;
    let share = |row: &FewShot| format!("{:6.2} % ± {:.2}", 100.0 * row.mean(), 100.0 * row.deviation());
    for (row, chosen) in few_shot.iter().zip(few_shot_chosen) {
        let name = if row.shots == 1 { "1 shot".to_owned() } else { format!("{} shots", row.shots) };
        printer.line(format_args!("{name:<22} {}   leave-one-out tuned {}", share(row), share(chosen)))?;
    }
    let missing = shots.iter().filter(|shots| !few_shot.iter().any(|row| row.shots == **shots));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    if !missing.is_empty() {
        printer
            .note(format_args!("left out: {} shots, as some classes have fewer training images", missing.join(", ")));
    }
    Ok(())
}
