//! What a graph says about itself: where it comes from, its labels and its preprocessing.

use serde::Serialize;
use vitral_engine::DType;

use super::proto::StringStringEntryProto;
use crate::config::Size;
use crate::image::Preprocess;
use crate::image::preprocess::{Channels, Rescale, Step};
use crate::weights::export::ExportSource;

/// Keys and values, each a text or JSON.
pub(super) fn metadata(model: &ExportSource<'_>, dialect: &str, image: Size) -> Vec<StringStringEntryProto> {
    let config = model.vit.config();
    let stored = match model.storage {
        DType::F32 => "f32",
        DType::I8 => "int8",
        DType::Bf16 => "bf16",
        DType::F16 => "f16",
    };
    let mut entries = vec![
        ("name", model.name.to_owned()),
        ("source", dialect.to_owned()),
        ("problem", config.problem.name().to_owned()),
        ("image_size", written(&[image.height, image.width])),
        ("weights", stored.to_owned()),
        ("model", written(config)),
    ];
    entries.extend(model.license.map(|license| ("license", license.to_owned())));
    entries.extend(model.labels.map(|labels| ("labels", written(labels))));
    if let Some(preprocess) = &model.preprocess {
        entries.push(("preprocess", written(preprocess)));
        entries.extend(steps(preprocess));
    }
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    entries.into_iter().map(entry).collect()
}

/// Plain data as JSON. Numbers of 32 bits are written as such: 0.485, not the nearest of 64.
fn written<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with texts as keys")
}

/// The preprocessing in single entries, for programs that do not read ours: `(value · scale + offset − mean) / std` after
/// the steps that there are.
fn steps(preprocess: &Preprocess) -> Vec<(&'static str, String)> {
    let channels = match preprocess.channels {
        Channels::Rgb => "rgb",
        Channels::Gray => "gray",
        Channels::Bands(_) => "bands",
    };
    let (scale, offset) = preprocess.rescale.map_or((1.0, 0.0), Rescale::line);
    let count = preprocess.channels.count();
    let (mean, std) = match &preprocess.normalize {
        Some(normalize) => (normalize.mean.clone(), normalize.std.clone()),
        None => (vec![0.0; count], vec![1.0; count]),
    };
    let mut entries = vec![
        ("channels", channels.to_owned()),
        // By the largest value that the type of an image's samples has.
        (
            "scale",
            if preprocess.rescale == Some(Rescale::TypeRange) { "type-range".to_owned() } else { written(&scale) },
        ),
        ("offset", written(&offset)),
        ("mean", written(&mean)),
        ("std", written(&std)),
    ];
    for step in &preprocess.steps {
        match step {
            Step::Resize { to, filter } | Step::ResizeTensor { to, filter } | Step::ResizeNumbers { to, filter } => {
                entries.push(("resize", written(to)));
                entries.push(("interpolation", filter.to_string().to_lowercase()));
            }
            Step::Interpolate { to, .. } => {
                entries.push(("resize", written(to)));
                entries.push(("interpolation", "bilinear without antialiasing".to_owned()));
            }
            Step::CenterCrop { size, .. } => entries.push(("crop", written(&[size.height, size.width]))),
        }
    }
    entries
}
