//! Checks that a model is complete, and that its weights are plausible.

mod family;
mod untrained;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use vitral_engine::Device;

use crate::load::{LoadOptions, Model};
use crate::model::Vit;
use crate::numbers::apart;
use crate::weights::assign::values::floats;
use crate::weights::inspect::Statistics;
use crate::weights::{
    Assignment, CHECK_FILE, Container, PreprocessSource, ResolveOptions, load_description, recognize, resolve,
};

use family::{Family, absurd_range, unlike_heads};
use untrained::Initial;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No problem.
    Good,
    /// Worth knowing.
    Note,
    /// Probably a mistake.
    Warning,
    /// The model cannot be used as it is.
    Fault,
}

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// What was checked: `config`, `weights`, `head`, `preprocessing`…
    pub subject: &'static str,
    /// The result in words.
    pub text: String,
}

/// All findings, in the order of the checks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Diagnosis {
    /// The findings.
    pub findings: Vec<Finding>,
}

/// Tolerance for recorded values, in standard deviations.
const CHECK_TOLERANCE: f64 = 1e-3;

impl Diagnosis {
    /// The worst severity.
    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good)
    }

    fn add(&mut self, severity: Severity, subject: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { severity, subject, text: text.into() });
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { severity, subject, text } in &self.findings {
            let mark = match severity {
                Severity::Good => "ok     ",
                Severity::Note => "note   ",
                Severity::Warning => "warning",
                Severity::Fault => "ERROR  ",
            };
            writeln!(f, "{mark}  {subject:<14} {}", text.replace('\n', "\n                         "))?;
        }
        Ok(())
    }
}

/// Checks the model at a path. Errors are returned as findings.
pub fn examine(path: &Path, options: &LoadOptions, device: &Device) -> Diagnosis {
    let mut found = Diagnosis::default();
    let description = match load_description(path, options.config.as_deref()) {
        Ok(description) => description,
        Err(error) => {
            found.add(Severity::Fault, "config", error.to_string());
            return found;
        }
    };
    let config = &description.config;
    let vit = match Vit::new(config.clone()) {
        Ok(vit) => vit,
        Err(error) => {
            found.add(Severity::Fault, "config", error.to_string());
            return found;
        }
    };
    let count = vit.declarations().count() as f64 / 1e6;
    let sizes = match config.depth {
        0 => format!("a ResNet of width {}", config.width),
        depth => format!("width {}, depth {depth}, heads {}", config.width, config.heads),
    };
    let (image, patch) = (config.image_size, config.token_stride());
    found.add(Severity::Good, "config", format!("{count:.2} M parameters: {sizes}, patches of {patch} at {image}"));
    let container = match description.open() {
        Ok(container) => container,
        Err(error) => {
            found.add(Severity::Fault, "weights", error.to_string());
            return found;
        }
    };
    let resolving = ResolveOptions::for_model(config).ignoring(&options.ignore);
    let dialect = description.dialect().and_then(|named| match named {
        Some(dialect) => Ok(dialect),
        None => recognize(vit.declarations().specs(), &container, &resolving),
    });
    let named = dialect.as_ref().map_or_else(|_| String::new(), |dialect| dialect.name().to_owned());
    match dialect.and_then(|dialect| resolve(vit.declarations().specs(), &dialect, &container, &resolving)) {
        Ok(assignment) => {
            found.add(Severity::Good, "weights", format!("{} tensors in dialect `{named}`, all used", container.len()));
            weights(&assignment, &mut found);
        }
        Err(error) => found.add(Severity::Fault, "weights", error.to_string()),
    }
    let family = Family::of(&named);
    for text in
        family.map_or_else(Vec::new, |family| family.unlike_config(config)).into_iter().chain(unlike_heads(config))
    {
        found.add(Severity::Warning, "config", text);
    }
    let runs = found.worst() < Severity::Fault;
    preprocessing(&description.preprocess, family, &vit, &mut found);
    labels(description.labels.as_deref(), config.classes, &mut found);
    // Recorded values are of pixels, which need no preprocessing.
    if runs {
        recorded(path, options, device, &mut found);
    }
    found
}

/// Looks for values that no trained model has.
fn weights(assignment: &Assignment<'_>, found: &mut Diagnosis) {
    const ABSURD: f32 = 1e4;
    let mut faults = 0;
    let mut initial = Initial::default();
    if let Some([from, to]) = assignment.resampled() {
        let text = format!(
            "the file has positions for a grid of {from}, the configuration has {to}: they are resampled; is `image_size` \
             right?"
        );
        found.add(Severity::Warning, "positions", text);
    }
    for name in assignment.names() {
        let Some(of) = assignment.read(name).ok().as_deref().and_then(Statistics::of) else { continue };
        let all_zero = of.min == 0.0 && of.max == 0.0;
        initial.see(name, assignment, &of);
        let before = found.findings.len();
        if of.nan + of.infinite > 0 {
            let text = format!("`{name}` has {} NaN and {} infinite values: the run diverged", of.nan, of.infinite);
            found.add(Severity::Fault, "values", text);
        } else if name == "head.weight" && all_zero {
            let text = "the classifier is all zero, as in published in21k files: its logits are meaningless; use \
                        `embed`, or train a new head";
            found.add(Severity::Warning, "head", text);
        } else if name == "positions" && (of.std == 0.0) {
            found.add(
                Severity::Warning,
                "positions",
                "all positions are equal: the model cannot know where a patch is",
            );
        } else if name.contains("norm") && name.ends_with("weight") && all_zero {
            found.add(Severity::Warning, "norm", format!("`{name}` is all zero: the norm's output is constant"));
        } else if of.max.max(-of.min) > ABSURD {
            let text = format!("`{name}` ranges from {} to {}: no trained ViT has such weights", of.min, of.max);
            found.add(Severity::Warning, "values", text);
        }
        faults += found.findings.len() - before;
    }
    if let Some(text) = initial.verdict() {
        found.add(Severity::Warning, "values", format!("the model looks untrained: {text}"));
    } else if faults == 0 {
        found.add(Severity::Good, "values", "all finite; positions, head and norms look trained");
    }
}

fn preprocessing(source: &PreprocessSource, family: Option<&Family>, vit: &Vit, found: &mut Diagnosis) {
    const SUBJECT: &str = "preprocessing";
    let preprocess = match source.read() {
        None => {
            let text = "the files do not say how images are preprocessed; tensors work, images do not; add the library's \
                        own file, or describe the steps with `--config FILE`";
            found.add(Severity::Fault, SUBJECT, text);
            return;
        }
        Some(Err(error)) => {
            found.add(Severity::Fault, SUBJECT, error.to_string());
            return;
        }
        Some(Ok(preprocess)) => preprocess,
    };
    found.add(Severity::Good, SUBJECT, preprocess.to_string());
    let (channels, expected) = (preprocess.channels.count(), vit.config().channels);
    if channels != expected {
        found.add(Severity::Fault, SUBJECT, format!("it gives {channels} channels, the model takes {expected}"));
    }
    let own = vit.config().image_size;
    match preprocess.output_size() {
        Some(size) if vit.grid(size).is_err() => {
            found.add(Severity::Fault, SUBJECT, format!("it gives images of {size}, the model takes {own}"));
        }
        Some(size) if size != own => {
            let text = format!("it gives images of {size}, the positions are those of {own}: they are resampled");
            found.add(Severity::Note, SUBJECT, text);
        }
        _ => {}
    }
    let range = absurd_range(&preprocess);
    // Numbers that are far off say more than what makes them so.
    let others =
        family.filter(|_| range.is_none()).map_or_else(Vec::new, |family| family.unlike_preprocessing(&preprocess));
    for text in range.into_iter().chain(others) {
        found.add(Severity::Warning, SUBJECT, text);
    }
}

fn labels(labels: Option<&[String]>, classes: usize, found: &mut Diagnosis) {
    match labels {
        _ if classes == 0 => found.add(Severity::Note, "labels", "no classifier, so no labels"),
        None => found.add(Severity::Note, "labels", format!("none: the {classes} classes are known by index only")),
        Some(labels) if labels.len() != classes => {
            found.add(Severity::Fault, "labels", format!("{} labels for {classes} classes", labels.len()));
        }
        Some(labels) => {
            let distinct = labels.iter().collect::<HashSet<_>>().len();
            let generic = labels.iter().enumerate().all(|(i, label)| *label == format!("LABEL_{i}"));
            if generic {
                let text = format!("{classes}, all of the form LABEL_0: the classes have no real names");
                found.add(Severity::Warning, "labels", text);
            } else if distinct < labels.len() {
                found.add(
                    Severity::Note,
                    "labels",
                    format!("{classes}, {} of them duplicates", labels.len() - distinct),
                );
            } else {
                found.add(Severity::Good, "labels", format!("{classes}, one for each class"));
            }
        }
    }
}

/// Runs the model on its recorded input and compares the output.
fn recorded(path: &Path, options: &LoadOptions, device: &Device, found: &mut Diagnosis) {
    let file = path.join(CHECK_FILE);
    if !file.is_file() {
        found.add(Severity::Note, "recorded", format!("no `{CHECK_FILE}`: no recorded output to compare with"));
        return;
    }
    match compare(path, &file, options, device) {
        Ok((name, difference)) if difference.is_nan() => {
            let text = format!("`{name}`: expected the recorded values, found NaN or infinity on either side");
            found.add(Severity::Fault, "recorded", text);
        }
        Ok((name, difference)) => {
            let severity = if difference <= CHECK_TOLERANCE { Severity::Good } else { Severity::Fault };
            found.add(
                severity,
                "recorded",
                format!("`{name}` within {difference:.1e} standard deviations of the recorded values"),
            );
        }
        Err(fault) => found.add(Severity::Fault, "recorded", fault),
    }
}

fn compare(path: &Path, file: &Path, options: &LoadOptions, device: &Device) -> Result<(&'static str, f64), String> {
    let words = |error: &dyn fmt::Display| error.to_string();
    let container = Container::open(file).map_err(|error| words(&error))?;
    let values = |name: &str| {
        let view = container.tensor(name)?;
        let shape = view.shape.to_vec();
        floats(view, name).ok().map(|values| (shape, values.into_owned()))
    };
    let (shape, pixels) = values("pixel_values").ok_or(format!("`{CHECK_FILE}` has no `pixel_values`"))?;
    let model = Model::load(path, options, device).map_err(|error| words(&error))?;
    let [batch, channels, height, width] = shape[..] else { return Err(format!("`pixel_values` is {shape:?}")) };
    let pixels = device.upload([batch, channels, height, width], &pixels).map_err(|error| words(&error))?;
    let output = model.run(&pixels, None).map_err(|error| words(&error))?;
    let (name, found) = match output.logits {
        Some(logits) if container.contains("logits") => ("logits", logits),
        _ => ("features", output.features),
    };
    let (expected_shape, expected) = values(name).ok_or(format!("`{CHECK_FILE}` has no `{name}`"))?;
    if expected_shape[..] != found.shape()[..] {
        return Err(format!("`{name}` is {:?}, expected {expected_shape:?} as recorded", found.shape()));
    }
    let spread = Statistics::of(&expected).map_or(1.0, |of| of.std.max(1e-12));
    Ok((name, apart(&found.to_vec().map_err(|error| words(&error))?, &expected) / spread))
}
