//! Fits the classifier and tests it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use vitral::Model;
use vitral::config::Size;
use vitral::image::mask::{Mask, open_mask};
use vitral::image::{DecodeOptions, Image, ImageError, open_for};
use vitral::tiles::TileOptions;
use vitral_engine::ops::AxisWeights;

use super::confusion::{Confusion, Overlap};
use super::files::Files;
use super::head::{Head, Sample};
use super::pairs::{Pair, Pairs};
use super::patches::{Tokens, shares, tokens};
use crate::error::TrainError;
use crate::evaluate::Watcher;
use crate::evaluate::model::advance;

/// The most bytes of patch tokens that are kept for fitting.
const KEPT: usize = 512 << 20;
/// The most values of masks that can be classes: more are usually numbers of objects.
const CLASSES: usize = 1024;
/// The largest ratio of two sides: its short side is resized to the model's input, which would make a line of pixels huge.
const THINNEST: usize = 100;

/// How patch tokens are measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DenseOptions {
    /// Images to test on; those beside the others, or a fifth split off, if absent.
    pub test: Option<PathBuf>,
    /// Values of masks that belong to no class.
    pub ignored: Vec<u16>,
    /// The short side that images are resized to, in pixels; that of the model's input if absent.
    pub short_side: Option<usize>,
    /// Steps of fitting.
    pub steps: usize,
    /// Windows in a batch; they do not affect the results.
    pub batch: usize,
    /// A folder for predicted masks and a sheet of the first.
    pub output: Option<PathBuf>,
}

impl Default for DenseOptions {
    fn default() -> Self {
        DenseOptions { test: None, ignored: vec![255], short_side: None, steps: 2000, batch: 16, output: None }
    }
}

/// How good a model's patch tokens are.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DenseReport {
    /// What the products were computed in.
    pub precision: &'static str,
    /// Images that the classifier was fitted on.
    pub train: usize,
    /// Patches of them.
    pub patches: usize,
    /// Images that it was tested on.
    pub test: usize,
    /// Values of a token.
    pub width: usize,
    /// What came of it.
    #[serde(flatten)]
    pub overlap: Overlap,
    /// Files that were written.
    pub files: Vec<String>,
    /// Images that could not be used.
    #[serde(skip)]
    pub skipped: usize,
}

/// Measures a model's patch tokens on images with masks: a linear classifier of patches is fitted on some, its logits on
/// others are enlarged to their masks (bilinear), and the result is the mean intersection over union. Images are resized to a
/// short side and looked at in windows where they are larger than the model's input.
///
/// # Errors
/// If the folders have no images with masks, the masks have fewer than two classes, the model's tokens are not a grid, or
/// `watcher` stops the work.
pub fn probe_dense(
    model: &Model,
    data: &Path,
    options: &DenseOptions,
    watcher: &mut dyn Watcher,
) -> Result<DenseReport, TrainError> {
    let fault = |fault: String, hint| TrainError::Data { path: data.to_owned(), fault, hint };
    if options.steps == 0 {
        return Err(fault("expected steps above 0, found 0".into(), "leave them out"));
    }
    let least = model.tiling(Size::square(1), TileOptions::default())?.window();
    let least = least.height.min(least.width);
    if let Some(short) = options.short_side.filter(|&short| short < least) {
        let found = format!("expected a short side of at least {least} pixels, the model's input, found {short}");
        return Err(fault(found, "leave it out, or give a larger one"));
    }
    let pairs = Pairs::open(data, options.test.as_deref())?;
    // What cannot be read or written is found before the work.
    let names = names(data)?;
    let mut files = Files::new(options.output.as_deref(), &pairs)?;
    pairs.notes.iter().for_each(|note| watcher.note(note));
    watcher.begin(pairs.train.len() + pairs.test.len());
    let width = model.vit().config().width;
    let most = (KEPT / (4 * width) / pairs.train.len()).max(1);
    let mut sample = Sample::new(width);
    let mut skipped = 0;
    let (mut train, mut seen) = (0, BTreeSet::new());
    for (index, pair) in pairs.train.iter().enumerate() {
        match read(model, pair) {
            Ok((image, mask)) => {
                let Tokens { grid, values } = finite(tokens(model, &image, options.short_side, options.batch)?, pair)?;
                let shares = shares(&mask, grid, &options.ignored);
                seen.extend(mask.values().iter().copied());
                sample.add(&values, &shares, most, index);
                train += 1;
            }
            Err(unusable) => {
                skipped += 1;
                watcher.unreadable(&unusable);
            }
        }
        advance(watcher, 1)?;
    }
    if train == 0 {
        return Err(fault("none of the images to fit on could be used".into(), "see what is said about each"));
    }
    let classes: Vec<u16> = seen.iter().copied().filter(|value| !options.ignored.contains(value)).collect();
    if classes.len() < 2 {
        let found: Vec<String> = seen.iter().map(u16::to_string).collect();
        let hint = "255 is not a class unless you say so with `--ignore-index none`";
        return Err(fault(
            format!("expected masks of at least two classes, found the values {}", found.join(", ")),
            hint,
        ));
    }
    let few = |values: usize| match values > CLASSES {
        true => {
            let hint = "give masks of classes, not of single objects";
            Err(fault(format!("expected masks of at most {CLASSES} classes, found {values} values"), hint))
        }
        false => Ok(()),
    };
    few(classes.len())?;
    watcher.note(&format!("fitting {} classes on {} patches", classes.len(), sample.len()));
    let patches = sample.len();
    let head = Head::fit(sample, &classes, options.steps as u64, model.parameters().device())?;

    // What is only in masks for testing can never be right, but counts.
    let mut all: Vec<u16> = classes.clone();
    let mut confusion = Confusion::new(all.len());
    let mut test = 0;
    for pair in &pairs.test {
        match read(model, pair) {
            Ok((image, mask)) => {
                let Tokens { grid, values } = finite(tokens(model, &image, options.short_side, options.batch)?, pair)?;
                let predicted = enlarged(&head.logits(&values)?, grid, classes.len(), mask.size());
                let truth = places(&mask, &options.ignored, &mut all);
                few(all.len())?;
                confusion = confusion.grown(all.len()).join(&count(&truth, &predicted, all.len()));
                files.add(pair, image, mask.size(), &truth, &predicted, &classes)?;
                test += 1;
            }
            Err(unusable) => {
                skipped += 1;
                watcher.unreadable(&unusable);
            }
        }
        advance(watcher, 1)?;
    }
    if test == 0 {
        return Err(fault("none of the images to test on could be used".into(), "see what is said about each"));
    }
    for value in &all[classes.len()..] {
        watcher.note(&format!("{value} is only in masks for testing, so it is never predicted"));
    }
    let named = |&value: &u16| {
        let name = names.as_ref().and_then(|names| names.get(usize::from(value)).cloned());
        (value, name.unwrap_or_else(|| value.to_string()))
    };
    Ok(DenseReport {
        precision: model.precision().name(),
        train,
        patches,
        test,
        width,
        overlap: confusion.overlap(&all.iter().map(named).collect::<Vec<_>>()),
        files: files.finish()?,
        skipped,
    })
}

/// Tokens that are all numbers: others would make every class the first one.
fn finite(tokens: Tokens, pair: &Pair) -> Result<Tokens, TrainError> {
    if tokens.values.iter().all(|value| value.is_finite()) {
        return Ok(tokens);
    }
    let fault = "expected features that are numbers, found some that are not".to_owned();
    Err(TrainError::Data { path: pair.image.clone(), fault, hint: "look at the model with `vitral doctor`" })
}

/// An image and its mask; what is wrong with either, in words.
fn read(model: &Model, pair: &Pair) -> Result<(Image, Mask), String> {
    let options = DecodeOptions::default();
    let words = |fault: ImageError| fault.to_string();
    let image = open_for(&pair.image, model.channels(), &options).map_err(words)?.into_image();
    let mask = open_mask(&pair.mask, &options).map_err(words)?;
    let Size { height, width } = image.size();
    if height.max(width) / height.min(width) > THINNEST {
        let image = pair.image.display();
        return Err(format!(
            "`{image}`: expected sides in a ratio of at most {THINNEST}, found {height}×{width} pixels"
        ));
    }
    if image.size() != mask.size() {
        return Err(format!(
            "`{}`: expected a mask of {} pixels, as the image has, found {} in `{}`",
            pair.image.display(),
            image.size(),
            mask.size(),
            pair.mask.display()
        ));
    }
    Ok((image, mask))
}

/// Names of the classes, if the data has a file of them: line by line, from 0.
fn names(data: &Path) -> Result<Option<Vec<String>>, TrainError> {
    let path = data.join("classes.txt");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(TrainError::file(&path, "reading the classes"))?;
    Ok(Some(text.lines().map(|line| line.trim().to_owned()).collect()))
}

/// The class with the greatest logit for each pixel of a mask, as its place in the list: logits are enlarged as by PyTorch's
/// `interpolate`, bilinear with `align_corners=False`.
fn enlarged(logits: &[f32], grid: Size, classes: usize, to: Size) -> Vec<usize> {
    let rows = taps(&AxisWeights::linear(grid.height, to.height));
    let columns = taps(&AxisWeights::linear(grid.width, to.width));
    let width = grid.width * classes;
    let row = |rows: &Vec<(usize, f32)>| {
        let mut line = vec![0.0f32; width];
        for &(row, weight) in rows {
            line.iter_mut().zip(&logits[row * width..][..width]).for_each(|(sum, logit)| *sum += weight * logit);
        }
        let at = |columns: &Vec<(usize, f32)>, class: usize| -> f32 {
            columns.iter().map(|&(column, weight)| weight * line[column * classes + class]).sum()
        };
        let best = |columns: &Vec<(usize, f32)>| {
            let mut best = (0, at(columns, 0));
            for class in 1..classes {
                let logit = at(columns, class);
                best = if logit > best.1 { (class, logit) } else { best };
            }
            best.0
        };
        columns.iter().map(best).collect::<Vec<_>>()
    };
    rows.par_iter().flat_map_iter(row).collect()
}

/// The inputs of each output of an axis, with their weights.
fn taps(axis: &AxisWeights) -> Vec<Vec<(usize, f32)>> {
    let used = |row: &[f32]| row.iter().copied().enumerate().filter(|(_, weight)| *weight != 0.0).collect();
    axis.weights().chunks_exact(axis.from_extent()).map(used).collect()
}

/// The place of each pixel's class in the list, to which new values are added; `None` for those that are ignored.
fn places(mask: &Mask, ignored: &[u16], all: &mut Vec<u16>) -> Vec<Option<usize>> {
    let mut known: HashMap<u16, Option<usize>> = all.iter().enumerate().map(|(at, &value)| (value, Some(at))).collect();
    known.extend(ignored.iter().map(|&value| (value, None)));
    let place = |&value: &u16| {
        *known.entry(value).or_insert_with(|| {
            all.push(value);
            Some(all.len() - 1)
        })
    };
    mask.values().iter().map(place).collect()
}

fn count(truth: &[Option<usize>], predicted: &[usize], classes: usize) -> Confusion {
    let mut confusion = Confusion::new(classes);
    let known = truth.iter().zip(predicted).filter_map(|(truth, predicted)| Some(((*truth)?, *predicted)));
    known.for_each(|(truth, predicted)| confusion.add(truth, predicted));
    confusion
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_enlarged_as_by_pytorch() {
        // Along a row: 0.25 is nearer to the first, from 0.5 on to the second; between them it is linear.
        let grid = Size { height: 1, width: 2 };
        let found = enlarged(&[1.0, 0.0, 0.0, 1.5], grid, 2, Size { height: 3, width: 8 });
        // Pixel 3 is at 0.375 from the first to the second: 0.625 against 0.5625; pixel 4 beyond the middle.
        assert_eq!(found, [0, 0, 0, 0, 1, 1, 1, 1].repeat(3));
        let close = enlarged(&[1.0, 0.0, 0.0, 1.7], grid, 2, Size { height: 1, width: 8 });
        assert_eq!(close, [0, 0, 0, 1, 1, 1, 1, 1]);
    }
}
