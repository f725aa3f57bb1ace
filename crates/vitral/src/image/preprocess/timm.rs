//! timm's `pretrained_cfg`, and the evaluation transform that `timm.data.create_transform` builds from it.

use serde_json::Value;

use super::super::{Filter, ImageError};
use super::fields::Fields;
use super::{Channels, Halving, IMAGENET_MEAN, IMAGENET_STD, Preprocess, Rescale, Step, Target};
use crate::config::Size;
use crate::image::bands::MOST_BANDS;

const PLACE: &str = "`pretrained_cfg`";

impl Preprocess {
    /// Reads a `pretrained_cfg`, or a `config.json` that contains one. Missing keys have the defaults of timm's
    /// `resolve_data_config`: 3 × 224 × 224, bicubic, `crop_pct` 0.875, center crop, ImageNet's mean and standard
    /// deviation.
    pub fn from_timm(config: &Value) -> Result<Self, ImageError> {
        let fields = Fields::of(PLACE, config.get("pretrained_cfg").unwrap_or(config))?;
        let (channels, size) = input_size(&fields)?;
        let filter = match fields.text("interpolation")?.filter(|name| !name.is_empty()) {
            None => Filter::Bicubic,
            Some(name) => Filter::from_name(name)
                .ok_or_else(|| fields.fault("interpolation", "nearest, box, bilinear, hamming, bicubic or lanczos"))?,
        };
        let crop_pct = fields.positive("crop_pct")?.unwrap_or(0.875);
        let (normalize, of_mean) = fields.normalize("mean", "std", (IMAGENET_MEAN, IMAGENET_STD))?;
        if of_mean != channels {
            let expected = format!("a list of {}, one per channel of `input_size`", channels.count());
            return Err(fields.fault("mean", &expected));
        }

        let scaled = |side: usize| (side as f64 / crop_pct).floor() as usize;
        let scale = Size { height: scaled(size.height), width: scaled(size.width) };
        if scale.height.min(scale.width) == 0 || scale.height.max(scale.width) > 1 << 15 {
            return Err(fields.fault("crop_pct", "a fraction that leaves a side from 1 to 32768"));
        }
        let (to, fill) = match fields.text("crop_mode")?.filter(|mode| !mode.is_empty()) {
            Some("squash") => (Target::Exact(scale), [0; 3]),
            Some("border") if matches!(channels, Channels::Bands(_)) => {
                return Err(fields.fault("crop_mode", "center or squash, for images of bands"));
            }
            Some("border") => (Target::Fit(scale), border(&normalize.mean)),
            None | Some("center") if scale.height == scale.width => (Target::ShortSide(scale.height), [0; 3]),
            None | Some("center") => (Target::Cover(scale), [0; 3]),
            Some(_) => return Err(fields.fault("crop_mode", "center, squash or border")),
        };
        Ok(Preprocess {
            channels,
            steps: vec![Step::Resize { to, filter }, Step::CenterCrop { size, halving: Halving::Even, fill }],
            rescale: Some(match channels {
                Channels::Rgb | Channels::Gray => Rescale::Divide255,
                Channels::Bands(_) => Rescale::TypeRange,
            }),
            normalize: Some(normalize),
        })
    }
}

/// `[channels, height, width]`.
fn input_size(fields: &Fields) -> Result<(Channels, Size), ImageError> {
    let fault = || fields.fault("input_size", "a list of channels, height and width");
    match fields.get("input_size") {
        None => Ok((Channels::Rgb, Size::square(224))),
        Some(Value::Array(list)) => {
            let [channels, sides @ ..] = list.as_slice() else { return Err(fault()) };
            let channels = channels.as_u64().and_then(|channels| usize::try_from(channels).ok());
            let channels = channels.filter(|channels| (1..=MOST_BANDS).contains(channels)).ok_or_else(fault)?;
            let channels = Channels::of_count(channels);
            Ok((channels, fields.pair("input_size", sides)?))
        }
        Some(_) => Err(fault()),
    }
}

/// The mean as a color, rounded half to even.
fn border(mean: &[f32]) -> [u8; 3] {
    // In 64 bits, like Python: 0.5 · 255 must stay a half.
    let value = |mean: f32| (255.0 * mean.to_string().parse::<f64>().unwrap_or(0.0)).round_ties_even() as u8;
    match mean {
        [red, green, blue] => [value(*red), value(*green), value(*blue)],
        _ => [value(mean[0]); 3],
    }
}
