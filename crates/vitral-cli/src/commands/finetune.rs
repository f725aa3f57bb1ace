//! `vitral finetune`: fine-tune a pretrained model on your own images.

use std::path::PathBuf;

use clap::Args;
use vitral_train::recipe::{Finetuning, Recipe};

use crate::follow::follow;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::run_args::RunArgs;
use crate::settings::Settings;

/// Fine-tune a model on a folder of images
///
/// The model gets a new classifier for the folder's classes, and all of it is trained. Preprocessing is the model's
/// own. The run folder holds the same files as with `train`; running the same command again resumes where it stopped,
/// and the result is bit-identical to an uninterrupted run.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral finetune --model dinov2-small flowers/ --out runs/flowers
  vitral finetune --model hf:google/vit-base-patch16-224-in21k pets/ --out runs/pets --epochs 5 --image-size 384
  vitral finetune --model dinov2-small flowers/ --out runs/head --set 'groups.freeze=[\"blocks.*\", \"patches.*\"]'
  vitral finetune --model hf:google/vit-base-patch16-224-in21k pets/ --out runs/light --lora 8
  vitral finetune --model dinov2-small eurosat/ --out runs/eurosat --bands 13 --rgb-bands 4,3,2 --statistics
  vitral classify --model runs/flowers/best rose.jpg

Images: a folder with one sub-folder per class, optionally inside `train` and `test` (or `val`) folders, a tar of such a \
folder, a list (.csv, .jsonl), Parquet as on the Hugging Face hub, idx or CIFAR files. Without validation or test \
images, a tenth of each class is split off for validation.")]
pub(crate) struct FinetuneArgs {
    /// The images to train on
    data: PathBuf,
    /// The model to start from: a folder, a bundle, or a name on a hub
    #[arg(long, short, value_name = "PATH")]
    model: String,
    /// Validation images [default: those next to the training images, or a tenth split off]
    #[arg(long, value_name = "PATH")]
    test: Option<PathBuf>,
    /// A recipe [default: AdamW, layer decay 0.75, cosine, random crops, label smoothing]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Train only low-rank updates of this rank (LoRA) and the classifier; the model itself is frozen
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    lora: Option<u32>,
    /// A different image size, in pixels; position embeddings are resampled
    #[arg(long, alias = "img-size", alias = "input-size", value_name = "PIXELS")]
    image_size: Option<u32>,
    /// Number of bands of an image, if it is not in color: the patch embedding is adapted to them. Needs their mean and standard
    /// deviation: --statistics, or the recipe's `data.mean` and `data.std`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    bands: Option<u32>,
    /// Which bands are red, green and blue, numbered from 1: they get the kernels of these colors, all others their mean
    /// [default: the kernels are repeated]
    #[arg(long, value_name = "R,G,B", requires = "bands", value_parser = colors)]
    rgb_bands: Option<[u32; 3]>,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: &FinetuneArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut wanted = Finetuning::new(args.model.clone(), &args.data);
    wanted.test = args.test.clone();
    wanted.image_size = args.image_size;
    wanted.bands = args.bands;
    wanted.rgb_bands = args.rgb_bands;
    wanted.lora = args.lora;
    wanted.recipe = args.recipe.clone();
    let recipe = Recipe::finetuning(&wanted, &args.run.settings()?)?;
    follow(&recipe, &args.run.out, args.run.all_reduce.into(), settings, printer)
}

/// Three bands, numbered from 1.
fn colors(text: &str) -> Result<[u32; 3], String> {
    let bands: Option<Vec<u32>> =
        text.split(',').map(|band| band.trim().parse().ok().filter(|&band| band > 0)).collect();
    bands
        .and_then(|bands| bands.try_into().ok())
        .ok_or_else(|| "expected three bands, numbered from 1, such as `4,3,2`".to_owned())
}
