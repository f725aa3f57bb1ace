//! What `vitral explain` is asked for.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use vitral::explain::attention::Fusion;
use vitral::explain::perturb::RiseOptions;
use vitral::explain::rollout::RolloutOptions;
use vitral::explain::{Method, Options};

use crate::inputs::InputArgs;
use crate::settings::ModelArgs;

/// See inside a model: maps over images, and the ViT paper's figures
///
/// Every map is painted over its image as PNG and kept as numbers; figures are SVG or PNG and numbers. All of it goes
/// into the folder --output, a folder for each image. --report makes one page of everything, to be opened offline.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Maps over an image:
  attention             what the answer's tokens attend to in a layer (--layer, --head)
  dino                  last-layer attention, each head cut to 60 % of its weight (--mass)
  patch                 what one patch looks at (--at, --layer, --head)
  rollout               attention through all layers (--fusion, --discard, --no-identity)
  gradient-rollout      the same, weighted by its gradient
  chefer                class-specific relevance through all layers
  gradcam gradcam++ xgradcam hirescam layercam eigencam
                        class activation maps over tokens (--layer)
  gradient smoothgrad integrated-gradients
                        gradients of the pixels (--samples, --noise, --steps)
  occlusion rise        parts of the image hidden: forward passes only (--window, --masks)
  similarity            how alike the other patches are to one (--at)
  norms                 lengths of patch tokens, and their histogram
  random                chance, the floor of every comparison
  heads                 a sheet of all layers and heads
  pca                   principal components of patch tokens as colors
  lens                  what the head would say after each layer

Figures over all images, or of the model:
  distance              mean attention distance of each head in pixels (ViT paper, figures 7 and 11)
  entropy               how evenly each head attends
  rank                  effective rank of patch tokens in each layer
  cka                   likeness of layers; with --compare, of two models
  positions             likeness of position embeddings (ViT paper, figure 7)
  filters               principal components of the patch embedding (ViT paper, figure 7)

Examples:
  vitral explain digit.png
  vitral explain --model vit-base-patch16-224 cat.jpg --method chefer,gradcam --class 'tabby cat'
  vitral explain --model dinov2-small photos/ --method distance,positions,filters --output figures
  vitral explain --model dinov2-small cat.jpg --method patch,similarity --at 200,120
  vitral explain --model vit-base-patch16-224 photos/ --method all --faithfulness --report report.html

With --json, every image that something is made of by itself is one line, and one more line holds the figures and the
ranking.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// What to make, commas between; `all` is everything that applies to the model and the images, what does not is left out and named [default: a few maps that suit the model]
    #[arg(long, value_name = "METHOD", value_delimiter = ',', value_parser = whats(), hide_possible_values = true)]
    pub(super) method: Vec<What>,
    /// Explain this class, by name or number [default: the likeliest]
    #[arg(long, value_name = "CLASS")]
    pub(super) class: Option<String>,
    /// What is explained: a class, or for models without a classifier the pooled feature
    #[arg(long, value_enum, default_value = "class", conflicts_with = "class")]
    pub(super) target: TargetKind,
    /// The layer, from 0 at the input [default: the last]
    #[arg(long, value_name = "L")]
    pub(super) layer: Option<usize>,
    /// The head, from 0 [default: the mean of all]
    #[arg(long, value_name = "H")]
    pub(super) head: Option<usize>,
    /// The pixel whose patch `patch` and `similarity` are about, in the image as it lies in its file [default: the
    /// middle]
    #[arg(long, value_name = "X,Y", value_parser = pixel)]
    pub(super) at: Option<[usize; 2]>,
    /// How rollout makes heads one
    #[arg(long, value_enum, default_value = "mean")]
    pub(super) fusion: FusionKind,
    /// The share of the weakest attention that rollout leaves out of each layer
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub(super) discard: f32,
    /// Leave the residual connection out of rollout
    #[arg(long)]
    pub(super) no_identity: bool,
    /// The share of each head's weight that `dino` keeps
    #[arg(long, value_name = "SHARE", default_value = "0.6", value_parser = share)]
    pub(super) mass: f32,
    /// Steps of integrated gradients
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) steps: u32,
    /// Noisy images of SmoothGrad
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) samples: u32,
    /// SmoothGrad's noise, as a share of the range of the pixels
    #[arg(long, value_name = "SHARE", default_value = "0.15", value_parser = share)]
    pub(super) noise: f32,
    /// Masks of RISE
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) masks: u32,
    /// Patches along each side of the square that occlusion hides
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) window: u16,
    /// Seeds masks, noise and chance
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) seed: u64,
    /// Another model, whose layers `cka` holds against this one's
    #[arg(long, value_name = "PATH")]
    pub(super) compare: Option<PathBuf>,
    /// Put every map to the test: insertion, deletion, and the same map of the model with its weights shuffled
    #[arg(long)]
    pub(super) faithfulness: bool,
    /// Steps of insertion and deletion
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) test_steps: u16,
    /// How much of a map covers its image
    #[arg(long, value_name = "SHARE", default_value = "0.65", value_parser = share)]
    pub(super) opacity: f32,
    /// The folder for images and numbers
    #[arg(long, short, value_name = "FOLDER", default_value = "explained")]
    pub(super) output: PathBuf,
    /// How numbers are kept
    #[arg(long, value_enum, default_value = "safetensors")]
    pub(super) numbers: Numbers,
    /// Make one page of everything, which needs no network
    #[arg(long, value_name = "FILE.html")]
    pub(super) report: Option<PathBuf>,
}

/// One thing to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    All,
    Map(Method),
    Figure(Figure),
}

/// What is made that is no map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Heads,
    Pca,
    Lens,
    Distance,
    Entropy,
    Rank,
    Cka,
    Positions,
    Filters,
}

impl Figure {
    pub(super) const ALL: [Figure; 9] = [
        Figure::Heads,
        Figure::Pca,
        Figure::Lens,
        Figure::Distance,
        Figure::Entropy,
        Figure::Rank,
        Figure::Cka,
        Figure::Positions,
        Figure::Filters,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Figure::Heads => "heads",
            Figure::Pca => "pca",
            Figure::Lens => "lens",
            Figure::Distance => "distance",
            Figure::Entropy => "entropy",
            Figure::Rank => "rank",
            Figure::Cka => "cka",
            Figure::Positions => "positions",
            Figure::Filters => "filters",
        }
    }
}

/// Everything by its name.
fn named() -> impl Iterator<Item = (&'static str, What)> {
    let maps = Method::ALL.into_iter().map(|method| (method.name(), What::Map(method)));
    let figures = Figure::ALL.into_iter().map(|figure| (figure.name(), What::Figure(figure)));
    std::iter::once(("all", What::All)).chain(maps).chain(figures)
}

fn whats() -> impl TypedValueParser<Value = What> {
    let names = PossibleValuesParser::new(named().map(|(name, _)| PossibleValue::new(name)));
    names.map(|text| named().find(|(name, _)| *name == text).map_or(What::All, |(_, what)| what))
}

/// What is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TargetKind {
    /// The likeliest class, or that of --class
    Class,
    /// The pooled feature, along its own direction
    Feature,
}

/// How heads become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FusionKind {
    /// Their mean
    Mean,
    /// The greatest weight of any
    Max,
    /// The least weight of any
    Min,
}

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Numbers {
    /// All in one file
    Safetensors,
    /// A file each
    Npy,
    /// All in one file
    Json,
}

fn share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "expected a share from 0 to 1".into())
}

fn pixel(text: &str) -> Result<[usize; 2], String> {
    let parsed = text.split_once(',').and_then(|(x, y)| Some([x.trim().parse().ok()?, y.trim().parse().ok()?]));
    parsed.ok_or_else(|| "expected two whole numbers, column and row from the top left, such as `120,80`".into())
}

impl ExplainArgs {
    pub(super) fn options(&self) -> Options {
        Options {
            layer: self.layer,
            head: self.head,
            patch: None,
            fusion: match self.fusion {
                FusionKind::Mean => Fusion::Mean,
                FusionKind::Max => Fusion::Max,
                FusionKind::Min => Fusion::Min,
            },
            rollout: RolloutOptions { discard: self.discard, identity: !self.no_identity },
            mass: self.mass,
            steps: self.steps as usize,
            samples: self.samples as usize,
            noise: self.noise,
            window: usize::from(self.window),
            rise: RiseOptions { masks: self.masks as usize, ..RiseOptions::default() },
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_pixels_read() {
        let mut names: Vec<&str> = named().map(|(name, _)| name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert_eq!(pixel("12, 7"), Ok([12, 7]));
        assert!(pixel("12").is_err() && pixel("-1,2").is_err());
        assert!(share("1.5").is_err() && share("nan").is_err());
    }
}
