//! Values that a recipe's keys may have. What would be ignored, or would only fail later and elsewhere, is refused here
//! by name.

use vitral::image::bands::MOST_BANDS;

use super::keys::{NewHead, Recipe};
use crate::balance::{ChooseBy, ClassRule, ClassWeights};
use crate::data::Sampling;
use crate::hidden::{Corruption, Pretraining};
use crate::loss::{Distillation, Loss};
use crate::optimize::{Clip, Optimizer, Shape};

/// A key's value and the values that it may have.
struct Rule(&'static str, f64, &'static str, bool);

impl Rule {
    fn at_least_one(key: &'static str, value: impl TryInto<u32>) -> Self {
        let value = value.try_into().map_or(f64::from(u32::MAX), f64::from);
        Rule(key, value, "at least 1", value >= 1.0)
    }

    fn above_zero(key: &'static str, value: f32) -> Self {
        Rule(key, value.into(), "above 0", value > 0.0 && value.is_finite())
    }

    fn not_negative(key: &'static str, value: f32) -> Self {
        Rule(key, value.into(), "at least 0", value >= 0.0 && value.is_finite())
    }

    fn below_one(key: &'static str, value: f32) -> Self {
        Rule(key, value.into(), "from 0 to below 1", (0.0..1.0).contains(&value))
    }

    fn share(key: &'static str, value: f32) -> Self {
        Rule(key, value.into(), "from 0 to 1", (0.0..=1.0).contains(&value))
    }
}

/// Checks every number of a recipe that is not checked where it is used.
///
/// # Errors
/// The first that is out of range, with what was expected.
pub(super) fn check(recipe: &Recipe) -> Result<(), String> {
    let (run, schedule, groups, data) = (&recipe.run, &recipe.schedule, &recipe.groups, &recipe.data);
    let mut rules = vec![
        Rule::at_least_one("run.epochs", run.epochs),
        Rule::at_least_one("run.batch", run.batch),
        Rule::at_least_one("run.accumulate", run.accumulate),
        Rule::at_least_one("run.keep", run.keep),
        Rule::above_zero("schedule.learning_rate", schedule.learning_rate),
        Rule::not_negative("schedule.warmup_learning_rate", schedule.warmup_learning_rate),
        Rule::not_negative("schedule.final_learning_rate", schedule.final_learning_rate),
        Rule::not_negative("schedule.warmup_epochs", schedule.warmup_epochs),
        Rule::not_negative("schedule.cooldown_epochs", schedule.cooldown_epochs),
        Rule::not_negative("groups.weight_decay", groups.weight_decay),
        Rule(
            "groups.layer_decay",
            groups.layer_decay.into(),
            "above 0 and at most 1",
            groups.layer_decay > 0.0 && groups.layer_decay <= 1.0,
        ),
        Rule(
            "data.validation_split.fraction",
            data.validation_split.fraction.into(),
            "above 0 and below 1",
            data.validation_split.fraction > 0.0 && data.validation_split.fraction < 1.0,
        ),
    ];
    rules.extend(schedule.learning_rate_batch.map(|batch| Rule::at_least_one("schedule.learning_rate_batch", batch)));
    rules.extend(run.ema_decay.map(|decay| Rule::below_one("run.ema_decay", decay)));
    rules.extend(run.clip.map(|clip| match clip {
        Clip::Norm(limit) => Rule::above_zero("run.clip.norm", limit),
        Clip::Value(limit) => Rule::above_zero("run.clip.value", limit),
        Clip::Adaptive(share) => Rule::above_zero("run.clip.adaptive", share),
    }));
    rules.extend(match run.loss {
        Some(Loss::Focal { gamma }) => Some(Rule::not_negative("run.loss.focal.gamma", gamma)),
        Some(Loss::BinaryFocal { gamma }) => Some(Rule::not_negative("run.loss.binary-focal.gamma", gamma)),
        Some(Loss::CrossEntropy | Loss::Binary | Loss::Squared) | None => None,
    });
    match &run.class_weights {
        Some(ClassWeights::By(ClassRule::Effective { beta })) => {
            rules.push(Rule("run.class_weights.effective.beta", *beta, "from 0 to below 1", (0.0..1.0).contains(beta)));
        }
        Some(ClassWeights::Given(weights)) => {
            rules.extend(weights.values().map(|&weight| Rule::not_negative("run.class_weights", weight)));
        }
        Some(ClassWeights::By(ClassRule::Inverse)) | None => {}
    }
    rules.extend(data.std.iter().flatten().map(|&std| Rule::above_zero("data.std", std)));
    if let Some(lora) = &recipe.lora {
        rules.extend([
            Rule::at_least_one("lora.rank", lora.rank),
            Rule::above_zero("lora.alpha", lora.alpha),
            Rule::below_one("lora.dropout", lora.dropout),
        ]);
    }
    match recipe.distillation.as_ref().map(|teaching| teaching.how) {
        Some(Distillation::Soft { share, temperature }) => rules.extend([
            Rule::share("distillation.share", share),
            Rule::above_zero("distillation.temperature", temperature),
        ]),
        Some(Distillation::Hard { share }) => rules.push(Rule::share("distillation.share", share)),
        None => {}
    }
    match recipe.optimizer {
        Optimizer::Adamw { beta1, beta2, epsilon }
        | Optimizer::Lamb { beta1, beta2, epsilon }
        | Optimizer::Muon { beta1, beta2, epsilon, .. } => rules.extend([
            Rule::below_one("optimizer.beta1", beta1),
            Rule::below_one("optimizer.beta2", beta2),
            Rule::above_zero("optimizer.epsilon", epsilon),
        ]),
        Optimizer::Lion { beta1, beta2 } => {
            rules.extend([Rule::below_one("optimizer.beta1", beta1), Rule::below_one("optimizer.beta2", beta2)]);
        }
        Optimizer::Sgd { .. } => {}
    }
    if let Optimizer::Sgd { momentum, .. } | Optimizer::Muon { momentum, .. } = recipe.optimizer {
        rules.push(Rule::below_one("optimizer.momentum", momentum));
    }
    match &recipe.pretraining {
        Some(Pretraining::MaskedAutoencoder(removal)) => rules.extend([
            Rule("pretraining.hidden", removal.hidden.into(), "above 0 and below 1", {
                removal.hidden > 0.0 && removal.hidden < 1.0
            }),
            Rule::at_least_one("pretraining.decoder_width", removal.decoder_width as u64),
            Rule::at_least_one("pretraining.decoder_depth", removal.decoder_depth as u64),
            Rule::at_least_one("pretraining.decoder_heads", removal.decoder_heads as u64),
        ]),
        Some(Pretraining::MaskedPatches(Corruption { corrupted })) => {
            rules.push(Rule("pretraining.corrupted", (*corrupted).into(), "above 0 and at most 1", {
                *corrupted > 0.0 && *corrupted <= 1.0
            }));
        }
        None => {}
    }
    if let Some(Rule(key, found, expected, _)) = rules.into_iter().find(|Rule(.., fits)| !fits) {
        return Err(format!("expected `{key}` to be {expected}, found {found}"));
    }
    if let (Some(mean), Some(std)) = (&data.mean, &data.std)
        && (mean.len() != std.len() || mean.is_empty())
    {
        let (mean, std) = (mean.len(), std.len());
        return Err(format!(
            "expected `data.mean` and `data.std` with one number per channel, found {mean} and {std} numbers"
        ));
    }
    if let Some(mean) = data.mean.iter().flatten().find(|mean| !mean.is_finite()) {
        return Err(format!("expected `data.mean` to be numbers, found {mean}"));
    }
    if matches!(schedule.shape, Shape::Constant | Shape::Step)
        && schedule.final_learning_rate > 0.0
        && schedule.cooldown_epochs == 0.0
    {
        return Err("`schedule.final_learning_rate` is for the shapes `cosine` and `linear`, and for a cool-down \
                    (`schedule.cooldown_epochs`); leave it out"
            .to_owned());
    }
    if matches!(schedule.shape, Shape::Constant | Shape::Step)
        && schedule.cooldown_epochs > 0.0
        && schedule.final_learning_rate == 0.0
    {
        return Err("`schedule.cooldown_epochs` after the shape `constant` or `step` needs a `schedule.final_learning_rate`; nothing \
                    is learned at a rate of 0"
            .to_owned());
    }
    if let Some(threshold) = recipe.augment.target_threshold
        && threshold < recipe.augment.label_smoothing
    {
        return Err(format!(
            "`augment.target_threshold` = {threshold} is below `augment.label_smoothing`, so that every class would count; \
             raise it, or leave the smoothing out"
        ));
    }
    if recipe.model.from.is_none() && recipe.model.head != NewHead::default() {
        return Err("`model.head` is for a pretrained model (`model.from`); leave it out".to_owned());
    }
    if recipe.pretraining.is_some()
        && let Some(key) = needs_labels(recipe)
    {
        return Err(format!("`{key}` needs labels, and `pretraining` has none; leave it out"));
    }
    if recipe.pretraining.is_some() && (data.statistics || data.bands.is_some()) {
        return Err("`data.bands` and `data.statistics` are not for `pretraining`, which takes color; leave them out"
            .to_owned());
    }
    if data.statistics && data.mean.is_some() {
        return Err(
            "`data.statistics` computes `data.mean` and `data.std`, which are given; keep one of the two".to_owned()
        );
    }
    check_bands(recipe)?;
    if recipe.model.set.contains_key("classes") {
        return Err("`model.set.classes` cannot be set: the classes come from the data".to_owned());
    }
    if recipe.model.set.contains_key("problem") {
        return Err("`model.set.problem` cannot be set: it follows from `run.loss`".to_owned());
    }
    Ok(())
}

/// The first key that says something about labels, or about parts of the model that pre-training does not know.
fn needs_labels(recipe: &Recipe) -> Option<&'static str> {
    let (run, augment) = (&recipe.run, &recipe.augment);
    let keys = [
        ("distillation", recipe.distillation.is_some()),
        ("lora", recipe.lora.is_some()),
        ("groups.freeze", !recipe.groups.freeze.is_empty()),
        ("run.loss", run.loss.is_some()),
        ("run.class_weights", run.class_weights.is_some()),
        ("run.sampling", run.sampling != Sampling::Each),
        ("run.choose_by", run.choose_by != ChooseBy::Accuracy),
        ("augment.mixing", augment.mixing.is_some()),
        ("augment.erasing", augment.erasing.is_some()),
        ("augment.label_smoothing", augment.label_smoothing > 0.0),
        ("augment.target_threshold", augment.target_threshold.is_some()),
    ];
    keys.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
}

/// Checks the keys of images of bands against each other.
fn check_bands(recipe: &Recipe) -> Result<(), String> {
    let (data, model) = (&recipe.data, &recipe.model);
    let Some(bands) = data.bands else {
        let given = [("data.scale", data.scale.is_some()), ("model.rgb_bands", model.rgb_bands.is_some())];
        return match given.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!("`{key}` is for images of bands; give their number as `data.bands`")),
            None => Ok(()),
        };
    };
    if !(1..=MOST_BANDS).contains(&bands) {
        return Err(format!("expected `data.bands` to be from 1 to {MOST_BANDS}, found {bands}"));
    }
    if let Some(found) = data.mean.as_ref().map(Vec::len).filter(|&found| found != bands) {
        return Err(format!(
            "expected `data.mean` and `data.std` with one number for each of {bands} bands, found {found}"
        ));
    }
    if let Some(scale) = data.scale.filter(|scale| !(*scale > 0.0 && scale.is_finite())) {
        return Err(format!("expected `data.scale` to be above 0, found {scale}"));
    }
    let set = model.set.get("channels").and_then(toml::Value::as_integer);
    if let Some(found) = set.filter(|&found| usize::try_from(found) != Ok(bands)) {
        return Err(format!(
            "`model.set.channels` is {found}, but `data.bands` is {bands}; `data.bands` alone is enough"
        ));
    }
    let Some(colors) = model.rgb_bands else { return Ok(()) };
    if model.from.is_none() {
        return Err(
            "`model.rgb_bands` is for a pretrained model (`model.from`), whose kernels of colors it places".into()
        );
    }
    let repeated = (0..3).any(|color| colors[..color].contains(&colors[color]));
    match repeated || colors.iter().any(|band| !(1..=bands).contains(band)) {
        true => Err(format!("expected `model.rgb_bands` to be three of the bands 1 to {bands}, found {colors:?}")),
        false => Ok(()),
    }
}
