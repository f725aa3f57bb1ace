//! Arguments of `vitral embed`.

use std::path::PathBuf;

use clap::Args;
use vitral::features::FeatureKind;

use crate::inputs::OptionalInputArgs;
use crate::output::Format;
use crate::pool::vectors_or_tokens;
use crate::settings::ImageModelArgs;
use crate::tiles::TileArgs;

/// Turn images into feature vectors
///
/// Rows are in the order the images were given. An image that cannot be read is reported on standard error and gets no
/// row; the exit code is then 1. The output file appears only once it is complete.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral embed --model dinov2-small photos/ --output photos.npy
  vitral embed --model vit-base-patch16-224 --pool mean 'photos/*.jpg' --output photos.safetensors
  vitral embed --model clip-vit-base-patch32 --text 'a cat on a sofa' --text 'a dog' --output texts.npy
  vitral embed --model dinov2-small cat.jpg | jq .features[0]
  vitral embed --model dinov2-small --tiles --pool tokens slide.tif --output grid.npy
  vitral embed --model dinov2-small --tiles=448 slides/ --output windows.parquet

Formats, by the extension of the output file:
  .npy          float32 [images, width]; names in a .txt next to it, one per line
  .safetensors  the tensor `features`; names in the metadata `names`, as a JSON list
  .csv          image,0,1,…  (with --pool tokens: image,token,0,1,…)
  .jsonl        {\"image\": …, \"features\": […]}, as on standard output
  .parquet      image, features: a list of floats (with --pool tokens: image, token, features)

With --tiles, an image of any size is looked at in overlapping windows. --pool tokens joins them to one grid of patch \
tokens for each image, [rows, columns, width], in a .npy for one image or in a .safetensors with one tensor for each; \
other kinds of features give one row for each window, named `IMAGE#xywh=LEFT,TOP,WIDTH,HEIGHT`.

On standard output, an image that cannot be read has a line in its place: {\"image\": …, \"error\": …}")]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(super) inputs: OptionalInputArgs,
    #[command(flatten)]
    pub(super) model: ImageModelArgs,
    /// A text, in place of images, for a model of images and texts (CLIP, SigLIP); may be given several times. Its vector is
    /// to be compared with those of images by the cosine
    #[arg(long, value_name = "TEXT")]
    pub(super) text: Vec<String>,
    /// A file of texts, one on each line
    #[arg(long, value_name = "FILE")]
    pub(super) texts_from: Option<PathBuf>,
    /// Which features to extract
    #[arg(long, value_name = "POOL", value_parser = vectors_or_tokens(), default_value = "pooled")]
    pub(super) pool: FeatureKind,
    #[command(flatten)]
    pub(super) tiles: TileArgs,
    /// Where to write: .npy, .safetensors, .csv, .jsonl or .parquet [default: JSON Lines on standard output]
    #[arg(long, short, alias = "out", value_name = "FILE", value_parser = output)]
    pub(super) output: Option<(PathBuf, Format)>,
}

fn output(text: &str) -> Result<(PathBuf, Format), String> {
    let path = PathBuf::from(text);
    let format = Format::of(&path)?;
    Ok((path, format))
}

/// The name of the values, in formats that name them.
pub(super) const TENSOR: &str = "features";
