//! Arguments of `vitral explain`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use vitral::explain::attention::Fusion;
use vitral::explain::perturb::RiseOptions;
use vitral::explain::rollout::RolloutOptions;
use vitral::explain::{Method, Options};

use crate::fault::Usage;
use crate::inputs::OptionalInputArgs;
use crate::labels::LabelArgs;
use crate::output::Format;
use crate::settings::ImageModelArgs;
use crate::tiles::TileArgs;

/// See inside a model: maps over images, and the ViT paper's figures
///
/// Every map is drawn over its image as a PNG and saved as numbers; figures are SVG or PNG, and numbers. Everything
/// goes into the --output folder, with one sub-folder per image; `gallery.png` there has all maps of all images, with
/// their values. --report writes everything to one page that works offline.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Maps over an image:
  attention             what the output tokens attend to in a layer (--layer, --head)
  dino                  last-layer attention, each head thresholded to 60 % of its mass (--mass)
  patch                 what one patch attends to (--at, --layer, --head)
  rollout               attention through all layers (--fusion, --discard, --no-identity)
  gradient-rollout      the same, weighted by the gradient
  chefer                class-specific relevance through all layers
  gradcam gradcam++ xgradcam hirescam layercam eigencam
                        class activation maps over tokens (--layer)
  gradient smoothgrad integrated-gradients
                        gradients of the pixels (--samples, --noise, --steps)
  occlusion rise        effect of hiding parts of the image: forward passes only (--window, --masks)
  similarity            similarity of the other patches to one (--at)
  norms                 norms of patch tokens, and their histogram
  random                a random map, as a baseline
  heads                 attention of all layers and heads, on one sheet
  pca                   principal components of patch tokens as colors, the same in all images;
                        drawn after all images have been read
  lens                  what the head would predict after each layer

Figures over all images:
  distance              mean attention distance of each head in pixels (ViT paper, figures 7 and 11)
  entropy               how evenly each head attends
  rank                  effective rank of patch tokens in each layer
  cka                   similarity of layers; with --compare, across two models

Figures of the model, which need no image:
  positions             similarity of position embeddings (ViT paper, figure 7)
  filters               principal components of the patch embedding (ViT paper, figure 7)

Examples:
  vitral explain digit.png
  vitral explain --model vit-base-patch16-224 cat.jpg --method chefer,gradcam --class 'tabby cat'
  vitral explain --model dinov2-small --method positions,filters --output figures
  vitral explain --model dinov2-small photos/ --method distance,norms --layer 3,7,-1
  vitral explain --model vit-base-patch16-224 cat.jpg --method attention --layer -1 --head 0,3,5
  vitral explain --model dinov2-small cat.jpg --method patch,similarity --at 200,120
  vitral explain --model my-model slide.tif --tiles --class tumor --method gradcam
  vitral explain --model vit-base-patch16-224 photos/ --method all --faithfulness --report report.html

With --tiles, an image of any size is looked at in overlapping windows, and their maps are joined: `score`, what the model \
says about each window, and those maps over an image that are named with --method, without --at. The classes of the image \
are the mean over its windows, and maps that explain a class count each window by its score.

With --faithfulness, a table says how much each map shows of what the model uses, and how to read it:
  deletion    the mean score while patches are hidden, the most important first; smaller is better
  insertion   the mean score while they are revealed over a blurred image; larger is better
  shuffled    rank correlation with the map of the model with shuffled weights; near 0 is better
The map `random` is always tested, as the baseline.

With --json, one line for each image that has maps of its own, and one more line for the figures and the ranking. An \
image that cannot be used has, in its place: {\"image\": \"cat.jpg\", \"error\": \"…\"}")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(super) inputs: OptionalInputArgs,
    #[command(flatten)]
    pub(super) model: ImageModelArgs,
    #[command(flatten)]
    pub(super) labels: LabelArgs,
    #[command(flatten)]
    pub(super) tiles: TileArgs,
    /// What to make, separated by commas; `all` is everything that applies to the model and the images, and names what
    /// it leaves out [default: a few maps that suit the model]
    #[arg(long, value_name = "METHOD", value_delimiter = ',', value_parser = whats(), hide_possible_values = true)]
    pub(super) method: Vec<What>,
    /// Explain this class, by name or number [default: the most likely]
    #[arg(long, value_name = "CLASS")]
    pub(super) class: Option<String>,
    /// What to explain: a class, or for models without a classifier the pooled feature
    #[arg(long, value_enum, default_value = "class", conflicts_with = "class")]
    pub(super) target: TargetKind,
    /// The layer, numbered from 0 at the input, or from -1 at the output; several, separated by commas, give a map each
    /// [default: the last]
    #[arg(long, value_name = "L", value_delimiter = ',', allow_hyphen_values = true, value_parser = place)]
    pub(super) layer: Vec<i64>,
    /// The head, numbered from 0, or from -1 at the end; several, separated by commas, give a map each [default: the
    /// mean of all]
    #[arg(long, value_name = "H", value_delimiter = ',', allow_hyphen_values = true, value_parser = place)]
    pub(super) head: Vec<i64>,
    /// The pixel whose patch `patch` and `similarity` use, and outline, in the coordinates of the image file [default: the
    /// center]
    #[arg(long, value_name = "X,Y", value_parser = pixel)]
    pub(super) at: Option<[usize; 2]>,
    /// How rollout combines heads
    #[arg(long, value_enum, default_value = "mean")]
    pub(super) fusion: FusionKind,
    /// Fraction of the attention weights, weakest first, that rollout drops in each layer
    #[arg(long, value_name = "FRACTION", default_value = "0", value_parser = share)]
    pub(super) discard: f32,
    /// Leave the residual connection out of rollout
    #[arg(long)]
    pub(super) no_identity: bool,
    /// Fraction of each head's attention mass that `dino` keeps
    #[arg(long, value_name = "FRACTION", default_value = "0.6", value_parser = share)]
    pub(super) mass: f32,
    /// Steps of integrated gradients
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) steps: u32,
    /// Number of noisy images for SmoothGrad
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) samples: u32,
    /// SmoothGrad's noise, as a fraction of the range of the pixels
    #[arg(long, value_name = "FRACTION", default_value = "0.15", value_parser = share)]
    pub(super) noise: f32,
    /// Number of masks for RISE
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) masks: u32,
    /// Side of the square that occlusion hides, in patches
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) window: u16,
    /// Seed for masks, noise and random maps
    #[arg(long, value_name = "N", default_value = "0")]
    pub(super) seed: u64,
    /// Another model, whose layers `cka` compares with this one's
    #[arg(long, value_name = "PATH")]
    pub(super) compare: Option<PathBuf>,
    /// Test every map, and a random one as the baseline: insertion, deletion, and comparison with the same map of the model
    /// with shuffled weights
    #[arg(long)]
    pub(super) faithfulness: bool,
    /// Steps of insertion and deletion
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) test_steps: u16,
    /// Opacity of a map over its image
    #[arg(long, value_name = "FRACTION", default_value = "0.65", value_parser = share)]
    pub(super) opacity: f32,
    /// For models that take bands: those to show as red, green and blue under maps, numbered from 1, or one for gray; each is
    /// stretched [default: 1,2,3, or 1 if there are fewer than three]
    #[arg(long, value_name = "R,G,B", value_parser = bands)]
    pub(super) show_bands: Option<[usize; 3]>,
    /// Output folder for images and numbers
    #[arg(long, short, alias = "out", value_name = "FOLDER", default_value = "explained")]
    pub(super) output: PathBuf,
    /// File format for numbers
    #[arg(long, value_enum, default_value = "safetensors")]
    pub(super) numbers: Numbers,
    /// Write everything to one self-contained page
    #[arg(long, value_name = "FILE.html", value_parser = page)]
    pub(super) report: Option<PathBuf>,
}

/// One thing to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    All,
    Map(Method),
    Figure(Figure),
}

/// Outputs that are not maps.
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

/// All methods with their names.
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
    /// The most likely class, or that of --class
    Class,
    /// The pooled feature, along its own direction
    Feature,
}

/// How heads are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FusionKind {
    /// Their mean
    Mean,
    /// Their elementwise maximum
    Max,
    /// Their elementwise minimum
    Min,
}

/// File format for numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Numbers {
    /// All in one file
    Safetensors,
    /// One file each
    Npy,
    /// All in one file
    Json,
}

fn share(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "expected a fraction from 0 to 1".into())
}

fn place(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| "expected an integer: from 0 at the start, or from -1 at the end".into())
}

fn pixel(text: &str) -> Result<[usize; 2], String> {
    let parsed = text.split_once(',').and_then(|(x, y)| Some([x.trim().parse().ok()?, y.trim().parse().ok()?]));
    parsed.ok_or_else(|| "expected two integers, column and row from the top left, such as `120,80`".into())
}

/// Bands from 1, as they are counted by people, to bands from 0.
fn bands(text: &str) -> Result<[usize; 3], String> {
    let band = |text: &str| text.trim().parse::<usize>().ok()?.checked_sub(1);
    let bands: Option<Vec<usize>> = text.split(',').map(band).collect();
    match bands.as_deref() {
        Some(&[red, green, blue]) => Ok([red, green, blue]),
        Some(&[gray]) => Ok([gray; 3]),
        _ => Err("expected three bands, or one, numbered from 1, such as `4,3,2`".into()),
    }
}

impl What {
    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            What::All => "all",
            What::Map(method) => method.name(),
            What::Figure(figure) => figure.name(),
        }
    }

    /// Whether it is made from images, not from the model alone.
    pub(super) const fn needs_images(self) -> bool {
        !matches!(self, What::Figure(Figure::Positions | Figure::Filters))
    }
}

impl ExplainArgs {
    /// Refuses to go on without images if what is to be made needs some.
    pub(super) fn check_images(&self) -> Result<(), Usage> {
        let needing = self.method.iter().find(|what| what.needs_images());
        if !self.inputs.is_empty() || (needing.is_none() && !self.method.is_empty()) {
            return Ok(());
        }
        let who = needing.map_or("`explain` without `--method`".to_owned(), |what| format!("`{}`", what.name()));
        Err(Usage(format!(
            "{who} needs images, found none: name files or folders, such as `vitral explain photo.jpg`; only `positions` \
             and `filters` need no image"
        )))
    }

    /// The options for all maps; layers and heads are those of each map.
    pub(super) fn options(&self) -> Options {
        let mut options = Options::default();
        options.fusion = match self.fusion {
            FusionKind::Mean => Fusion::Mean,
            FusionKind::Max => Fusion::Max,
            FusionKind::Min => Fusion::Min,
        };
        options.rollout = RolloutOptions { discard: self.discard, identity: !self.no_identity };
        options.mass = self.mass;
        options.steps = self.steps as usize;
        options.samples = self.samples as usize;
        options.noise = self.noise;
        options.window = usize::from(self.window);
        options.rise = RiseOptions { masks: self.masks as usize, ..RiseOptions::default() };
        options.seed = self.seed;
        options
    }
}

fn page(text: &str) -> Result<PathBuf, String> {
    Format::ending(text, &["html"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_methods_and_pixels() {
        let mut names: Vec<&str> = named().map(|(name, _)| name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert_eq!(pixel("12, 7"), Ok([12, 7]));
        assert!(pixel("12").is_err() && pixel("-1,2").is_err());
        assert_eq!((bands("4,3,2"), bands("5")), (Ok([3, 2, 1]), Ok([4; 3])));
        assert!(bands("0,1,2").is_err() && bands("1,2").is_err());
        assert!(share("1.5").is_err() && share("nan").is_err());
    }
}
