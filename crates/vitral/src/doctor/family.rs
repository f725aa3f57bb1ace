//! What the published models of each dialect have in common, so that a model that is only slightly wrong stands out.

use crate::config::{Activation, MlpKind, ModelConfig, Stem};
use crate::image::preprocess::{
    CLIP_MEAN, CLIP_STD, Channels, HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocess, Rescale, Step, Target,
};
use crate::model::variants::VARIANTS;
use crate::numbers::{largest, smallest};

/// A mean and its standard deviation.
type Colors = ([f32; 3], [f32; 3]);

const PLAIN: Colors = (HALF, HALF);
const IMAGENET: Colors = (IMAGENET_MEAN, IMAGENET_STD);
const CLIP: Colors = (CLIP_MEAN, CLIP_STD);

/// The customs of a dialect's published models.
pub(super) struct Family {
    dialect: &'static str,
    colors: &'static [Colors],
    /// Whether images are resized regardless of aspect ratio; either, if absent.
    squashed: Option<bool>,
    /// Whether images are cropped; either, if absent.
    cropped: Option<bool>,
    /// Activations of a plain MLP.
    activations: &'static [Activation],
    epsilons: &'static [f32],
}

const fn family(
    dialect: &'static str,
    colors: &'static [Colors],
    [squashed, cropped]: [Option<bool>; 2],
    activations: &'static [Activation],
    epsilons: &'static [f32],
) -> Family {
    Family { dialect, colors, squashed, cropped, activations, epsilons }
}

/// The customs of every dialect. Google's, DINO's and MAE's models all have ViT's names in transformers, and models that
/// were converted from other libraries keep their epsilon.
const FAMILIES: [Family; 14] = {
    use Activation::{Gelu, GeluTanh, QuickGelu};
    [
        family("huggingface-vit", &[PLAIN, IMAGENET], [None, None], &[Gelu], &[1e-12, 1e-6]),
        family("huggingface-deit", &[IMAGENET], [None, Some(true)], &[Gelu], &[1e-12, 1e-6]),
        family("huggingface-dinov2", &[IMAGENET], [Some(false), Some(true)], &[Gelu], &[1e-6]),
        family("huggingface-dinov3", &[IMAGENET], [Some(true), Some(false)], &[Gelu], &[1e-5]),
        family("huggingface-beit", &[PLAIN, IMAGENET], [None, None], &[Gelu], &[1e-12, 1e-6]),
        family("huggingface-clip", &[CLIP], [Some(false), Some(true)], &[QuickGelu, Gelu], &[1e-5]),
        family("huggingface-siglip", &[PLAIN], [Some(true), Some(false)], &[GeluTanh], &[1e-6]),
        family("timm", &[PLAIN, IMAGENET, CLIP], [None, None], &[Gelu, GeluTanh, QuickGelu], &[1e-6, 1e-5]),
        family("timm-beit", &[PLAIN, IMAGENET, CLIP], [None, None], &[Gelu], &[1e-6, 1e-5]),
        family("timm-resnet", &[PLAIN, IMAGENET], [None, None], &[], &[]),
        family("torchvision", &[IMAGENET], [Some(false), Some(true)], &[Gelu], &[1e-6]),
        family("openai-clip", &[CLIP], [Some(false), Some(true)], &[QuickGelu, Gelu], &[1e-5]),
        family("jax", &[PLAIN], [Some(true), Some(false)], &[GeluTanh, Gelu], &[1e-6]),
        family("big-vision", &[PLAIN], [Some(true), Some(false)], &[GeluTanh, Gelu], &[1e-6]),
    ]
};

impl Family {
    /// The customs of a dialect, if it has any.
    pub(super) fn of(dialect: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.dialect == dialect)
    }

    /// How preprocessing differs from that of published models.
    pub(super) fn unlike_preprocessing(&self, preprocess: &Preprocess) -> Vec<String> {
        let mut found = Vec::new();
        match &preprocess.normalize {
            Some(normalize) if normalize.mean.len() == 3 => {
                let near = |ours: &[f32], theirs: &[f32; 3]| ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 2e-3);
                let (mean, std) = (&normalize.mean, &normalize.std);
                let of_mean: Vec<&Colors> = self.colors.iter().filter(|(theirs, _)| near(mean, theirs)).collect();
                if of_mean.is_empty() {
                    let means: Vec<[f32; 3]> = self.colors.iter().map(|(mean, _)| *mean).collect();
                    found.push(format!("mean {mean:?} differs from published `{}` models, {means:?}", self.dialect));
                } else if !of_mean.iter().any(|(_, theirs)| near(std, theirs)) {
                    let theirs = of_mean[0].1;
                    found.push(format!(
                        "standard deviation {std:?} differs from published `{}` models of this mean, {theirs:?}",
                        self.dialect
                    ));
                }
            }
            Some(_) => {}
            // Google's code maps 0 to 255 onto −1 to 1 in one step.
            None if spans_one(preprocess) => {}
            None => found
                .push("pixels are not normalized (`do_normalize`); published models of this family: they are".into()),
        }
        let squashed = preprocess.steps.iter().find_map(Step::resize).map(|(to, _)| matches!(to, Target::Exact(_)));
        let says = |yes: bool, one: &str, other: &str| if yes { one.to_owned() } else { other.to_owned() };
        if let (Some(squashed), Some(expected)) = (squashed, self.squashed)
            && squashed != expected
        {
            let how =
                |squashed| says(squashed, "to an exact size, regardless of aspect ratio", "keeping its aspect ratio");
            found.push(format!(
                "an image is resized {}; published models of this family: {}",
                how(squashed),
                how(expected)
            ));
        }
        let cropped = preprocess.steps.iter().any(|step| matches!(step, Step::CenterCrop { .. }));
        if let Some(expected) = self.cropped.filter(|&expected| expected != cropped) {
            let how = |cropped| says(cropped, "the center is cropped", "nothing is cropped");
            found.push(format!("{}; published models of this family: {}", how(cropped), how(expected)));
        }
        found
    }

    /// How the numbers of the architecture differ from those of published models.
    pub(super) fn unlike_config(&self, config: &ModelConfig) -> Vec<String> {
        let mut found = Vec::new();
        if matches!(config.stem, Stem::ResNet(_)) {
            return found;
        }
        let plain = config.mlp == MlpKind::Plain;
        if plain && !self.activations.is_empty() && !self.activations.contains(&config.activation) {
            found.push(format!(
                "the activation is {}; published models of this family: {}",
                name(config.activation),
                self.activations.iter().map(|each| name(*each)).collect::<Vec<_>>().join(" or ")
            ));
        }
        let near = |theirs: &f32| (config.norm_epsilon / theirs - 1.0).abs() < 1e-3;
        if !self.epsilons.is_empty() && !self.epsilons.iter().any(near) {
            let theirs: Vec<String> = self.epsilons.iter().map(|epsilon| format!("{epsilon:e}")).collect();
            found.push(format!(
                "the norm's epsilon is {:e}; published models of this family: {}",
                config.norm_epsilon,
                theirs.join(" or ")
            ));
        }
        found
    }
}

/// Whether the heads are unlike those of the published model of the same width and depth: no tensor's shape depends on
/// their number.
pub(super) fn unlike_heads(config: &ModelConfig) -> Option<String> {
    let same = |variant: &&crate::model::variants::Variant| {
        variant.name != "test" && variant.width == config.width && variant.depth == config.depth
    };
    let known: Vec<usize> = VARIANTS.iter().filter(same).map(|variant| variant.heads).collect();
    // DINOv2's giant has heads of 64, unlike the paper's.
    let usual = config.heads * 64 == config.width;
    if known.is_empty() || known.contains(&config.heads) || usual {
        return None;
    }
    Some(format!(
        "{} heads; published models of width {} and depth {} have {}",
        config.heads, config.width, config.depth, known[0]
    ))
}

/// What preprocessing makes of black and white, if no model was trained on such numbers.
pub(super) fn absurd_range(preprocess: &Preprocess) -> Option<String> {
    const GREATEST: f64 = 8.0;
    const LEAST: f64 = 0.05;
    // Bytes have a black and a white; bands may be of any type.
    if matches!(preprocess.channels, Channels::Bands(_)) {
        return None;
    }
    let [low, high] = range(preprocess);
    let text = format!("black becomes {low:.3} and white {high:.3}");
    if low.abs().max(high.abs()) > GREATEST {
        Some(format!(
            "{text}: pixels are not rescaled (`do_rescale`, `rescale_factor`); expected numbers from about -3 to 3"
        ))
    } else if span(preprocess) < LEAST || span(preprocess).is_nan() {
        Some(format!("{text}: all images look alike to the model; is `rescale_factor` applied twice?"))
    } else {
        None
    }
}

/// Whether pixels are mapped onto −1 to 1.
fn spans_one(preprocess: &Preprocess) -> bool {
    let [low, high] = range(preprocess);
    (low + 1.0).abs() < 1e-3 && (high - 1.0).abs() < 1e-3
}

/// The least and the greatest number that a pixel can become.
fn range(preprocess: &Preprocess) -> [f64; 2] {
    let [black, white] = ends(preprocess);
    [smallest(black), largest(white)]
}

/// The greatest difference that black and white make in a channel.
fn span(preprocess: &Preprocess) -> f64 {
    let [black, white] = ends(preprocess);
    largest(black.iter().zip(&white).map(|(black, white)| (white - black).abs()))
}

/// What black and white become in each channel.
fn ends(preprocess: &Preprocess) -> [Vec<f64>; 2] {
    let (factor, offset) = preprocess.rescale.map_or((1.0, 0.0), Rescale::line);
    let rescaled = |value: f64| value * factor + f64::from(offset);
    let (mean, std) = match &preprocess.normalize {
        Some(normalize) => (normalize.mean.clone(), normalize.std.clone()),
        None => (vec![0.0], vec![1.0]),
    };
    let of = |value: f64| {
        let channels = mean.iter().zip(&std);
        channels.map(|(mean, std)| (rescaled(value) - f64::from(*mean)) / f64::from(*std)).collect::<Vec<_>>()
    };
    [of(0.0), of(255.0)]
}

fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "the exact GELU",
        Activation::GeluTanh => "GELU's tanh approximation",
        Activation::QuickGelu => "the quick GELU",
        Activation::Relu => "ReLU",
        Activation::Silu => "SiLU",
        Activation::Tanh => "tanh",
    }
}
