//! The model at the start of a run: a named size with initial values, or a pretrained model.

use vitral::config::{ModelConfig, OtherSizes, Pooling, Problem, Size, Stem};
use vitral::image::Preprocess;
use vitral::image::preprocess::{Channels, Normalize, Step, Target};
use vitral::model::init::initialize;
use vitral::model::{Vit, variants};
use vitral::weights::adapt::{Adaptation, HeadChoice};
use vitral::{Device, LoadOptions, Model};
use vitral_engine::Parameters;

use crate::balance::ChooseBy;
use crate::data::{Dataset, Sampling, plain};
use crate::error::TrainError;
use crate::labeling::Labeling;
use crate::loss::Loss;
use crate::recipe::{NewHead, Recipe};

/// The starting point of a run.
#[derive(Debug)]
pub struct Start {
    /// The model.
    pub vit: Vit,
    /// Its parameters, in one flat buffer.
    pub parameters: Parameters,
    /// Its preprocessing of images.
    pub preprocess: Preprocess,
}

/// Fields of `model.set` that change weights while loading.
const ADAPTED: [&str; 3] = ["image_size", "patch_size", "channels"];

fn fault(fault: impl Into<String>) -> TrainError {
    TrainError::Recipe { path: "[model]".into(), fault: fault.into() }
}

impl Recipe {
    /// Options for loading the pretrained model, for data with this many classes.
    ///
    /// # Errors
    /// If a field of `model.set` is invalid.
    pub fn load_options(&self, classes: usize) -> Result<LoadOptions, TrainError> {
        let wanted = overlaid(&ModelConfig::default(), &self.model.set)?;
        let given = |field: &str| self.model.set.contains_key(field);
        let head = match self.model.head {
            _ if self.pretraining.is_some() => HeadChoice::Drop,
            NewHead::Zeros => HeadChoice::Zeros { classes },
            NewHead::Random => HeadChoice::Initialized { classes, scheme: self.model.initialize, seed: self.run.seed },
            NewHead::Keep => HeadChoice::Keep,
        };
        let adapt = Adaptation {
            image_size: given("image_size").then_some(wanted.image_size),
            patch_size: given("patch_size").then_some(wanted.patch_size),
            channels: self.data.bands.or(given("channels").then_some(wanted.channels)),
            colors: self.model.rgb_bands.map(|bands| bands.map(|band| band.saturating_sub(1))),
            head,
            ..Adaptation::default()
        };
        Ok(LoadOptions::default().adapt(adapt))
    }

    /// The configuration of a model from scratch, or `None` if a pretrained model brings its own.
    ///
    /// # Errors
    /// If the size is unknown, or a field of `model.set` is invalid.
    pub fn configuration(&self, classes: usize) -> Result<Option<ModelConfig>, TrainError> {
        let Some(variant) = &self.model.variant else { return Ok(None) };
        let base = variants::find(variant)
            .ok_or_else(|| fault(format!("no model `{variant}`; `vitral models` lists them")))?;
        let config = ModelConfig { classes, ..overlaid(&base, &self.model.set)? };
        let config = ModelConfig { channels: self.data.bands.unwrap_or(config.channels), ..config };
        config.check().map_err(|error| fault(error.to_string()))?;
        Ok(Some(config))
    }

    /// The loss for images with one label or several.
    ///
    /// # Errors
    /// If the recipe asks for one that takes a single label, or for a teacher, which gives a single one; or if targets are to be
    /// decided by a threshold and the loss does not take single decisions.
    pub fn loss(&self, labeling: Labeling) -> Result<Loss, TrainError> {
        let loss = self.loss_for(labeling)?;
        let decides = self.augment.target_threshold.is_some();
        if decides && !matches!(loss, Loss::Binary | Loss::BinaryFocal { .. }) {
            return Err(fault(
                "`augment.target_threshold` is for `run.loss` = \"binary\" or \"binary-focal\"; leave it out",
            ));
        }
        Ok(loss)
    }

    fn loss_for(&self, labeling: Labeling) -> Result<Loss, TrainError> {
        let problem = |found: &str, hint: &str| {
            fault(format!("expected what fits images with several labels each, found {found}; {hint}"))
        };
        match (labeling, self.run.loss) {
            (Labeling::Several, Some(Loss::CrossEntropy)) => {
                Err(problem("`run.loss` = \"cross-entropy\", which is for one label", "set it to \"binary\""))
            }
            (Labeling::Several, _) if self.distillation.is_some() => {
                Err(problem("a teacher, which gives one label", "train without `distillation`"))
            }
            (Labeling::Several, Some(Loss::Focal { gamma } | Loss::BinaryFocal { gamma })) => {
                Ok(Loss::BinaryFocal { gamma })
            }
            (Labeling::Several, _) => Ok(Loss::Binary),
            (Labeling::One, loss) => Ok(loss.unwrap_or_default()),
            (Labeling::Number, _) if self.distillation.is_some() => {
                Err(fault("`distillation` is for classes, and the labels are numbers; train without it"))
            }
            (Labeling::Number, _) => Ok(Loss::Squared),
        }
    }

    /// Refuses keys for uneven classes that do not fit what the images are labeled with.
    ///
    /// # Errors
    /// If one does not; the error names it.
    fn check_balance(&self, labeling: Labeling) -> Result<(), TrainError> {
        let run = &self.run;
        let refused = |key: &str, fits: &str| {
            let found = if labeling == Labeling::Number { "numbers in place of classes" } else { "several labels" };
            Err(fault(format!("`run.{key}` is for images with {fits}, and these have {found}; leave it out")))
        };
        match labeling {
            Labeling::Number if run.class_weights.is_some() => refused("class_weights", "classes"),
            Labeling::Number if run.sampling != Sampling::Each => refused("sampling", "classes"),
            Labeling::Number | Labeling::Several if run.choose_by != ChooseBy::Accuracy => {
                refused("choose_by", "one label each")
            }
            _ => Ok(()),
        }
    }

    /// What the classes of the training images count in the loss, if they do not all count the same.
    ///
    /// # Errors
    /// If the recipe names a class that there is not, or what is for classes and the images have none.
    pub(crate) fn class_weights(&self, dataset: &dyn Dataset) -> Result<Option<Vec<f32>>, TrainError> {
        self.check_balance(dataset.labeling())?;
        self.run.class_weights.as_ref().map(|weights| weights.of(dataset)).transpose()
    }

    /// The model to train on data with this many classes, with a loss from [`Recipe::loss`]. `learned` is the model in
    /// `model.from`, loaded with [`Recipe::load_options`].
    ///
    /// # Errors
    /// If the size is unknown, a field of `model.set` is invalid, or the model and the data do not match.
    pub fn start(
        &self,
        classes: usize,
        loss: Loss,
        learned: Option<&Model>,
        device: &Device,
    ) -> Result<Start, TrainError> {
        let config = match (self.configuration(classes)?, learned) {
            (Some(config), _) => config,
            (None, Some(learned)) => {
                let mut set = self.model.set.clone();
                set.retain(|field, _| !ADAPTED.contains(&field));
                overlaid(learned.vit().config(), &set)?
            }
            (None, None) => return Err(fault("`model.from` was not loaded")),
        };
        // With a binary loss for each class, any number of classes can apply.
        let problem = match loss {
            Loss::CrossEntropy | Loss::Focal { .. } => Problem::SingleLabel,
            Loss::Binary | Loss::BinaryFocal { .. } => Problem::MultiLabel,
            Loss::Squared => Problem::Regression,
        };
        let config = ModelConfig { problem, ..config };
        if self.model.set.contains_key("image_size") {
            check_patches(&config)?;
        }
        if config.classes != classes {
            let found = config.classes;
            return Err(fault(format!("`model.head` is kept for {found} classes, the data has {classes}")));
        }
        if config.pooling == Pooling::None {
            let problem = "expected a model that pools its tokens, found `pooling` = \"none\", which gives a \
                prediction for each token; set another `pooling` in `model.set`";
            return Err(fault(problem));
        }
        let vit = Vit::new(config).map_err(|error| fault(error.to_string()))?;
        device.check_memory(4 * vit.declarations().count() as u64)?;
        let mut parameters = Parameters::zeros(vit.declarations().clone(), device.clone());
        initialize(&vit, &mut parameters, self.model.initialize, self.run.seed);
        if let Some(learned) = learned {
            take_over(&vit, &mut parameters, learned)?;
        }
        let preprocess = self.preprocess(vit.config(), learned)?;
        if preprocess.channels.count() != vit.config().channels {
            let (found, expected) = (preprocess.channels.count(), vit.config().channels);
            return Err(fault(format!("images are prepared with {found} channels, the model takes {expected}")));
        }
        Ok(Start { vit, parameters, preprocess })
    }

    /// The preprocessing of images: from the recipe, or else the model's own.
    fn preprocess(&self, config: &ModelConfig, learned: Option<&Model>) -> Result<Preprocess, TrainError> {
        let own = match (&self.data.mean, &self.data.std) {
            (Some(mean), Some(std)) => Some((mean.clone(), std.clone())),
            _ => None,
        };
        if let Some(bands) = self.data.bands {
            return self.preprocess_of_bands(bands, own, config, learned);
        }
        match (learned.map(Model::preprocess), own) {
            (Some(Ok(learned)), Some((mean, _))) if mean.len() != learned.channels.count() => {
                let (expected, found) = (learned.channels.count(), mean.len());
                Err(fault(format!("`data.mean` has {found} numbers, but the model takes {expected} channels")))
            }
            (Some(Ok(learned)), None) => Ok(learned),
            (Some(Ok(learned)), Some((mean, std))) => {
                Ok(Preprocess { normalize: Some(Normalize { mean, std }), ..learned })
            }
            (Some(Err(error)), None) => Err(error.into()),
            (_, Some((mean, std))) => Ok(in_common_terms(plain(config.image_size, self.data.filter, &mean, &std))),
            (None, None) => Err(fault("`data.mean` and `data.std` are not set")),
        }
    }
}

impl Recipe {
    /// The preprocessing of images of bands: the steps of the pretrained model, if there is one, with the bands' own scale, mean
    /// and standard deviation.
    fn preprocess_of_bands(
        &self,
        bands: usize,
        own: Option<(Vec<f32>, Vec<f32>)>,
        config: &ModelConfig,
        learned: Option<&Model>,
    ) -> Result<Preprocess, TrainError> {
        let described = learned.and_then(|learned| learned.described_preprocess().ok());
        let rescale = self.data.rescale();
        match (described, own) {
            (Some(described), None) if described.channels == Channels::Bands(bands) => match self.data.scale {
                Some(_) => Err(fault("`data.scale` is given without `data.mean` and `data.std`, which depend on it")),
                None => Ok(described),
            },
            (_, None) => Err(fault(format!(
                "`data.mean` and `data.std` of {bands} bands are not set; `--statistics` computes them from the training images"
            ))),
            (described, Some((mean, std))) => {
                let plain = || in_common_terms(plain(config.image_size, self.data.filter, &mean, &std)).steps;
                let steps = described.map_or_else(plain, |described| described.steps);
                let normalize = Some(Normalize { mean, std });
                Ok(Preprocess { channels: Channels::Bands(bands), steps, rescale: Some(rescale), normalize })
            }
        }
    }
}

/// Refuses an image size that was asked for and leaves a strip of pixels that no patch covers.
fn check_patches(config: &ModelConfig) -> Result<(), TrainError> {
    let (image, stride) = (config.image_size, config.token_stride());
    // The convolutions of other stems round up.
    let covers = config.stem != Stem::Patches || matches!(config.other_sizes, OtherSizes::Resample { pad: true, .. });
    if covers || (image.height.is_multiple_of(stride.height) && image.width.is_multiple_of(stride.width)) {
        return Ok(());
    }
    let below = Size { height: image.height / stride.height, width: image.width / stride.width };
    let [less, more] = [below, Size { height: below.height + 1, width: below.width + 1 }]
        .map(|grid| Size { height: grid.height * stride.height, width: grid.width * stride.width });
    Err(fault(format!(
        "`image_size`: expected whole patches of {stride} pixels, found images of {image}; take {less} or {more}"
    )))
}

/// The same steps as other libraries can say them: an image that covers a square has a short side of that length. (They
/// round the long side down.)
fn in_common_terms(mut preprocess: Preprocess) -> Preprocess {
    for step in &mut preprocess.steps {
        if let Step::Resize { to, .. } = step
            && let Target::Cover(size) = *to
            && size.height == size.width
        {
            *to = Target::ShortSide(size.height);
        }
    }
    preprocess
}

/// A configuration with some fields replaced. Sizes that follow from others do so unless they are set themselves.
fn overlaid(base: &ModelConfig, set: &toml::Table) -> Result<ModelConfig, TrainError> {
    let mut fields = serde_json::to_value(base).expect("plain data");
    let given = serde_json::to_value(set).map_err(|error| fault(error.to_string()))?;
    if let (Some(fields), Some(given)) = (fields.as_object_mut(), given.as_object()) {
        for (field, value) in given {
            match (fields.get_mut(field).and_then(|field| field.as_object_mut()), value.as_object()) {
                // Single drop rates can be set while keeping the others.
                (Some(inner), Some(value)) if field == "drop" => inner.extend(value.clone()),
                _ => drop(fields.insert(field.clone(), value.clone())),
            }
        }
    }
    let mut config: ModelConfig = serde_json::from_value(fields).map_err(|error| fault(format!("`set`: {error}")))?;
    let has = |field: &str| set.contains_key(field);
    if (has("width") || has("heads")) && !has("head_width") && config.heads > 0 {
        let (width, heads) = (config.width, config.heads);
        if !width.is_multiple_of(heads) {
            return Err(fault(format!(
                "`set`: `width` = {width} is not a multiple of `heads` = {heads}; change one of them, or set `head_width`"
            )));
        }
        config.head_width = width / heads;
    }
    if has("width") && !has("mlp_width") && base.width > 0 && base.mlp_width.is_multiple_of(base.width) {
        config.mlp_width = base.mlp_width / base.width * config.width;
    }
    // A distillation token without a head of its own, or the other way around, would learn nothing.
    match (has("distillation_token"), has("distillation_head")) {
        (true, false) => config.distillation_head = config.distillation_token,
        (false, true) => config.distillation_token = config.distillation_head,
        _ => {}
    }
    Ok(config)
}

/// Whether a parameter of a pretrained model may be newly initialized.
fn may_be_new(name: &str) -> bool {
    ["head.", "distillation_head.", "tokens.distillation"].iter().any(|new| name.starts_with(new))
}

/// Copies the pretrained parameters; new ones already have their initial values.
fn take_over(vit: &Vit, parameters: &mut Parameters, learned: &Model) -> Result<(), TrainError> {
    let known = learned.parameters().declarations();
    for id in vit.declarations().ids() {
        let spec = vit.declarations().spec(id);
        match known.find(&spec.name) {
            Some(from) if known.spec(from).shape == spec.shape => {
                parameters.write(id, &learned.parameters().read(from)?);
            }
            Some(from) if !may_be_new(&spec.name) => {
                let (found, expected) = (&known.spec(from).shape, &spec.shape);
                let problem = format!("`set` requires `{}` of shape {expected:?}, the model's is {found:?}", spec.name);
                return Err(fault(problem));
            }
            None if !may_be_new(&spec.name) => {
                return Err(fault(format!("`set` requires `{}`, which the model does not have", spec.name)));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_for_uneven_classes_are_refused_where_there_are_none() {
        let fault = |key: &str, labeling| {
            let text = "[model]\nfrom = 'model'\n[data]\ntrain = 'images'\n[optimizer]\nkind = 'adamw'\n[schedule]\n\
                        [run]\nepochs = 1\nbatch = 1\n";
            let recipe = Recipe::parse(&format!("{text}{key}"), "recipe.toml".as_ref(), &[]).expect("a recipe");
            recipe.check_balance(labeling).err().map(|error| error.to_string())
        };
        for key in ["class_weights = 'inverse'", "sampling = 'sqrt'", "choose_by = 'balanced-accuracy'"] {
            let found = fault(key, Labeling::Number).expect(key);
            assert!(found.contains(key.split(' ').next().expect("a key")) && found.contains("numbers"), "{found}");
            assert_eq!(fault(key, Labeling::One), None);
            let found = fault(key, Labeling::Several);
            assert_eq!(found.is_some_and(|found| found.contains("several labels")), key.contains("choose_by"));
        }
    }
}
