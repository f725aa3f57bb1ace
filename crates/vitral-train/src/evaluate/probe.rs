//! Measures a model's features with simple classifiers, without training it further.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use vitral::Model;
use vitral::features::FeatureKind;
use vitral::image::Preprocess;
use vitral_ranks::Ranks;

use super::model::{Watcher, advance};
use super::{Features, FewShot, Neighbors, Ridge, Scaling, accuracy, features, few_shot};
use crate::data::{Dataset, Loader, LoaderOptions, Split, ValidationSplit, open_part, with_classes};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// Candidates for the few-shot classifier: whitened features with each penalty, and features scaled to length 1, which
/// need smaller penalties.
fn candidates() -> Vec<Ridge> {
    let whitened = Ridge::PENALTIES.map(|l2| Ridge { l2, ..Ridge::default() });
    let of_length_1 =
        Ridge::PENALTIES.map(|l2| Ridge { l2: l2 / 4096.0, scaling: Scaling::UnitLength, ..Ridge::default() });
    [whitened, of_length_1].concat()
}

/// How features are measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProbeOptions {
    /// Test images; those next to the training images, or a tenth split off, if absent.
    pub test: Option<PathBuf>,
    /// Which features.
    pub pool: FeatureKind,
    /// Numbers of neighbors that vote.
    pub neighbors: Vec<usize>,
    /// Numbers of images of each class for the few-shot evaluation.
    pub shots: Vec<usize>,
    /// Images in a batch; they do not affect the results.
    pub batch: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        let (neighbors, shots) = (vec![1, 5, 20], vec![1, 5, 10, 25]);
        ProbeOptions { test: None, pool: FeatureKind::Pooled, neighbors, shots, batch: 16 }
    }
}

/// How good a model's features are.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProbeReport {
    /// What the products were computed in.
    pub precision: &'static str,
    /// Images that the classifiers were fitted on.
    pub train: usize,
    /// Images that they were tested on.
    pub test: usize,
    /// Values of a feature vector.
    pub width: usize,
    /// Nearest neighbors by cosine.
    pub neighbors: Vec<Nearest>,
    /// A linear classifier.
    pub linear: ProbeLinear,
    /// A linear classifier on few images of each class, with the penalty of big_vision.
    pub few_shot: Vec<FewShot>,
    /// The same, with scaling and penalty chosen by leave-one-out cross-validation.
    pub few_shot_chosen: Vec<FewShot>,
    /// Images that could not be read.
    #[serde(skip)]
    pub skipped: usize,
}

/// The accuracy of nearest neighbors.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Nearest {
    /// How many neighbors vote.
    pub k: usize,
    /// The fraction of the test images that they classify correctly.
    pub accuracy: f64,
}

/// The accuracy of a linear classifier.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProbeLinear {
    /// The L2 penalty, chosen on the training images.
    pub penalty: f64,
    /// The fraction of the test images that it classifies correctly.
    pub accuracy: f64,
}

/// Measures a model's features on labeled images: nearest neighbors, a linear classifier, few shots. Ranks share the
/// features.
///
/// # Errors
/// If the data cannot be opened, has one class or several labels for an image, the model gives no feature for an image, or
/// `watcher` stops the work.
pub fn probe(
    model: &Model,
    data: &Path,
    options: &ProbeOptions,
    ranks: &Ranks,
    watcher: &mut dyn Watcher,
) -> Result<ProbeReport, TrainError> {
    let fault = |fault: String, hint| TrainError::Data { path: data.to_owned(), fault, hint };
    if options.neighbors.contains(&0) || options.shots.contains(&0) {
        return Err(fault("expected neighbors and shots above 0, found 0".into(), "leave it out"));
    }
    if options.pool == FeatureKind::Pooled {
        model.check_pools("feature")?;
    }
    let preprocess = model.preprocess()?;
    let own = |fraction| match options.test {
        Some(_) => ValidationSplit { fraction, ..ValidationSplit::default() },
        None => ValidationSplit::default(),
    };
    let known = open_part(data, Split::Train, own(0.0))?;
    let unknown = open_part(options.test.as_deref().unwrap_or(data), Split::Test, own(1.0))?;
    let mut notes = known.notes;
    unknown.notes.into_iter().for_each(|note| {
        if !notes.contains(&note) {
            notes.push(note)
        }
    });
    notes.iter().for_each(|note| watcher.note(note));
    let unknown = with_classes(unknown.dataset, known.dataset.classes())?;
    let known = known.dataset;
    if known.labeling() == Labeling::Several {
        return Err(fault("expected one label for each image, found several".into(), "use `vitral evaluate`"));
    }
    if let [only] = known.classes() {
        let found = format!("expected at least two classes, found one, `{only}`");
        return Err(fault(found, "give a folder with one sub-folder for each class"));
    }
    watcher.begin(known.len() + unknown.len());
    let mut skipped = 0;
    let mut seen = |images: Arc<dyn Dataset>| -> Result<Features, TrainError> {
        let (features, missing) = of(model, &preprocess, images, (options, ranks), watcher)?;
        skipped += missing;
        if features.is_empty() {
            return Err(fault("none of the images could be read".into(), "see what is said about each"));
        }
        if !(0..features.len()).all(|row| features.row(row).iter().all(|value| value.is_finite())) {
            let found = "expected features that are numbers, found ones that are not finite".into();
            return Err(fault(found, "compute them in f32 (`--precision f32`), or check the model's weights"));
        }
        Ok(features)
    };
    let (known, unknown) = (seen(known)?, seen(unknown)?);

    let share = |classes: Vec<usize>| accuracy(&classes, unknown.labels());
    let nearest =
        |&k: &usize| Nearest { k, accuracy: share(Neighbors { k, temperature: None }.classify(&known, &unknown)) };
    let ridge = Ridge::default().chosen(&known, &Ridge::PENALTIES, 0);
    let most = (0..known.classes())
        .map(|class| known.labels().iter().filter(|&&label| label == class).count())
        .max()
        .unwrap_or(0);
    let shots: Vec<usize> = options.shots.iter().copied().filter(|&shots| shots <= most).collect();
    let few = |ridge: &dyn Fn(&Features) -> Ridge| few_shot(&known, &unknown, &shots, &[0, 1, 2], ridge);
    Ok(ProbeReport {
        precision: model.precision().name(),
        train: known.len(),
        test: unknown.len(),
        width: known.width(),
        neighbors: options.neighbors.iter().filter(|&&k| k <= known.len()).map(nearest).collect(),
        linear: ProbeLinear { penalty: ridge.l2, accuracy: share(ridge.fit(&known).classify(&unknown)) },
        few_shot: few(&|_| Ridge::default()),
        few_shot_chosen: few(&|known| Ridge::chosen_leaving_one_out(known, &candidates())),
        skipped,
    })
}

/// Features of a data set, and how many images could not be read.
fn of(
    model: &Model,
    preprocess: &Preprocess,
    data: Arc<dyn Dataset>,
    (options, ranks): (&ProbeOptions, &Ranks),
    watcher: &mut dyn Watcher,
) -> Result<(Features, usize), TrainError> {
    let loading = LoaderOptions::evaluation(preprocess.clone(), options.batch).dealt_to(ranks);
    let loader = Loader::new(data, loading, model.parameters().device())?;
    let features = features(&loader, |pixels| {
        let features = model.features(pixels, options.pool)?;
        // Others are about as far.
        advance(watcher, pixels.extent(0) * ranks.size())?;
        Ok(features)
    })?;
    let skipped = loader.skipped();
    skipped.iter().for_each(|skipped| watcher.unreadable(&skipped.fault));
    Ok((features, skipped.len()))
}
