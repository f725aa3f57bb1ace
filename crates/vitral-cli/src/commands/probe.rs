//! `vitral probe`: measure a model's features without training it further.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;
use vitral::Model;
use vitral::features::FeatureKind;
use vitral::image::Preprocess;
use vitral_train::data::{Dataset, Loader, LoaderOptions, Split, ValidationSplit, open_part, with_classes};
use vitral_train::evaluate::{Features, FewShot, Neighbors, Ridge, Scaling, accuracy, features, few_shot};
use vitral_train::labeling::Labeling;

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{ModelArgs, Settings};

/// Candidate penalties for the linear classifier, chosen on a fifth of the training features.
const PENALTIES: [f64; 11] = [0.01, 0.1, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// Candidates for the few-shot classifier: whitened features with each penalty, and features scaled to length 1, which
/// need smaller penalties.
fn candidates() -> Vec<Ridge> {
    let whitened = PENALTIES.map(|l2| Ridge { l2, ..Ridge::default() });
    let of_length_1 = PENALTIES.map(|l2| Ridge { l2: l2 / 4096.0, scaling: Scaling::UnitLength, ..Ridge::default() });
    [whitened, of_length_1].concat()
}

/// Evaluate a model's features with simple classifiers
///
/// Nearest neighbors by cosine; a linear classifier in closed form (ridge), with its penalty chosen on a fifth of the
/// training images; and the ViT paper's few-shot evaluation: a linear classifier on 1, 5, 10 and 25 images per class,
/// three draws each, both with L2 = 2^10 and whitened features as in big_vision, and with the scaling and penalty
/// chosen by leave-one-out cross-validation.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral probe --model dinov2-small flowers/
  vitral probe --model dinov2-small flowers/ --pool class-and-mean
  vitral probe --model dinov2-small flowers/ --shots 1,2,4 --json")]
pub(crate) struct ProbeArgs {
    /// The labeled images, for fitting and for testing
    data: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Test images [default: those next to the training images, or a tenth split off]
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// Which features to use
    #[arg(long, value_enum, default_value_t)]
    pool: Pool,
    /// Numbers of neighbors that vote
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,5,20")]
    neighbors: Vec<usize>,
    /// Numbers of images per class for the few-shot evaluation
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,5,10,25")]
    shots: Vec<usize>,
    /// Batch size; it does not affect the results
    #[arg(long, alias = "batch-size", value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// The model's own pooling: what its classifier sees
    #[default]
    Pooled,
    /// The class token after the final norm
    #[value(alias = "cls")]
    Class,
    /// The mean of the patch tokens after the final norm
    #[value(alias = "avg")]
    Mean,
    /// Both, side by side
    ClassAndMean,
}

impl From<Pool> for FeatureKind {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Pooled => FeatureKind::Pooled,
            Pool::Class => FeatureKind::Class,
            Pool::Mean => FeatureKind::Mean,
            Pool::ClassAndMean => FeatureKind::ClassAndMean,
        }
    }
}

/// The results.
#[derive(Serialize)]
struct Found {
    precision: &'static str,
    train: usize,
    test: usize,
    width: usize,
    neighbors: Vec<Nearest>,
    linear: Linear,
    few_shot: Vec<FewShot>,
    few_shot_chosen: Vec<FewShot>,
}

#[derive(Serialize)]
struct Nearest {
    k: usize,
    accuracy: f64,
}

#[derive(Serialize)]
struct Linear {
    penalty: f64,
    accuracy: f64,
}

pub(crate) fn run(args: &ProbeArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    if args.neighbors.contains(&0) || args.shots.contains(&0) {
        return Err(crate::fault::Usage("neighbors and shots must be above 0".into()).into());
    }
    let model = args.model.load(settings)?;
    if args.pool == Pool::Pooled {
        model.check_pools("feature")?;
    }
    let preprocess = model.preprocess()?;
    let own = |fraction| match args.test {
        Some(_) => ValidationSplit { fraction, ..ValidationSplit::default() },
        None => ValidationSplit::default(),
    };
    let known = open_part(&args.data, Split::Train, own(0.0))?;
    let unknown = open_part(args.test.as_ref().unwrap_or(&args.data), Split::Test, own(1.0))?;
    let mut notes = known.notes;
    unknown.notes.into_iter().for_each(|note| {
        if !notes.contains(&note) {
            notes.push(note)
        }
    });
    notes.iter().for_each(|note| printer.note(note));
    let unknown = with_classes(unknown.dataset, known.dataset.classes())?;
    let known = known.dataset;
    if known.labeling() == Labeling::Several {
        bail!("`{}`: expected one label for each image, found several; use `vitral evaluate`", args.data.display());
    }
    if let [only] = known.classes() {
        bail!("`{}`: expected at least two classes, found one, `{only}`", args.data.display());
    }
    printer.start_progress(known.len() + unknown.len(), "images");
    let mut skipped = 0;
    let mut seen = |data: Arc<dyn Dataset>| -> anyhow::Result<Features> {
        let (features, missing) = of(&model, &preprocess, data, args, printer)?;
        skipped += missing;
        Ok(features)
    };
    let features = seen(known).and_then(|known| Ok((known, seen(unknown)?)));
    printer.finish_progress();
    let (known, unknown) = features?;

    let share = |classes: Vec<usize>| accuracy(&classes, unknown.labels());
    let nearest =
        |&k: &usize| Nearest { k, accuracy: share(Neighbors { k, temperature: None }.classify(&known, &unknown)) };
    let ridge = Ridge::default().chosen(&known, &PENALTIES, 0);
    let most = (0..known.classes())
        .map(|class| known.labels().iter().filter(|&&label| label == class).count())
        .max()
        .unwrap_or(0);
    let shots: Vec<usize> = args.shots.iter().copied().filter(|&shots| shots <= most).collect();
    let few = |ridge: &dyn Fn(&Features) -> Ridge| few_shot(&known, &unknown, &shots, &[0, 1, 2], ridge);
    let found = Found {
        precision: model.precision().name(),
        train: known.len(),
        test: unknown.len(),
        width: known.width(),
        neighbors: args.neighbors.iter().filter(|&&k| k <= known.len()).map(nearest).collect(),
        linear: Linear { penalty: ridge.l2, accuracy: share(ridge.fit(&known).classify(&unknown)) },
        few_shot: few(&|_| Ridge::default()),
        few_shot_chosen: few(&|known| Ridge::chosen_leaving_one_out(known, &candidates())),
    };
    if settings.json {
        printer.json(&found)?;
    } else {
        show(&found, printer)?;
    }
    Ok(if skipped > 0 { Outcome::Incomplete } else { Outcome::Done })
}

/// Features of a data set, and how many images could not be read.
fn of(
    model: &Model,
    preprocess: &Preprocess,
    data: Arc<dyn Dataset>,
    args: &ProbeArgs,
    printer: &Printer,
) -> anyhow::Result<(Features, usize)> {
    let options = LoaderOptions::evaluation(preprocess.clone(), args.batch.into());
    let loader = Loader::new(data, options, model.parameters().device())?;
    let features = features(&loader, |pixels| {
        let features = model.features(pixels, args.pool.into())?;
        // A closed output is noticed when the result is printed.
        let _ = printer.advance(pixels.extent(0));
        Ok(features)
    })?;
    for skipped in loader.skipped() {
        printer.fault(format_args!("skipped: {}", skipped.fault));
    }
    if features.is_empty() {
        bail!("none of the images could be read");
    }
    Ok((features, loader.skipped().len()))
}

fn show(found: &Found, printer: &Printer) -> anyhow::Result<()> {
    let Found { precision, train, test, width, neighbors, linear, few_shot, few_shot_chosen } = found;
    printer.line(format_args!(
        "features of width {width}, computed in {precision}; fitted on {train} images, tested on {test}"
    ))?;
    for Nearest { k, accuracy } in neighbors {
        let name = if *k == 1 { "nearest neighbor".to_owned() } else { format!("{k} nearest neighbors") };
        printer.line(format_args!("{name:<22} {:6.2} %", 100.0 * accuracy))?;
    }
    let Linear { penalty, accuracy } = linear;
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
    Ok(())
}
