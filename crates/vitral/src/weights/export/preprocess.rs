//! Preprocessing in each library's format, and a check that it is still equivalent.

use serde_json::{Map, Value, json};

use crate::config::Size;
use crate::image::Filter;
use crate::image::preprocess::{Channels, Normalize, Preprocess, Rescale, Step, Target};
use crate::weights::PreprocessSource;
use crate::weights::error::Difference;

/// The effect of the steps, independent of the format.
#[derive(Debug, PartialEq)]
struct Effect {
    channels: Channels,
    resize: Option<(Target, Filter)>,
    /// How the resize computes.
    sampling: Sampling,
    /// Whether samples are scaled by the largest value of their type, which for bytes is like any other scale.
    by_type: bool,
    crop: Option<Size>,
    /// `value · scale + offset` for every channel.
    numbers: Vec<[f64; 2]>,
}

/// How a resize computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampling {
    /// Antialiased, rounded to 8 bits.
    Rounded,
    /// Antialiased, in floats.
    Unrounded,
    /// Between the nearest pixels, not antialiased. Whether it is rounded is part of the code base, not of a file.
    Nearest,
}

impl Effect {
    fn of(preprocess: &Preprocess) -> Option<Self> {
        let (mut resize, mut crop, mut sampling) = (None, None, Sampling::Rounded);
        for step in &preprocess.steps {
            match step {
                // Whose integers it is resampled in is not part of a file.
                Step::Resize { to, filter } | Step::ResizeTensor { to, filter }
                    if resize.is_none() && crop.is_none() =>
                {
                    resize = Some((*to, *filter))
                }
                Step::ResizeNumbers { to, filter } if resize.is_none() && crop.is_none() => {
                    (resize, sampling) = (Some((*to, *filter)), Sampling::Unrounded);
                }
                Step::Interpolate { to, .. } if resize.is_none() && crop.is_none() => {
                    (resize, sampling) = (Some((*to, Filter::Bilinear)), Sampling::Nearest);
                }
                Step::CenterCrop { size, .. } if crop.is_none() => crop = Some(*size),
                _ => return None,
            }
        }
        // A crop to the resized size changes nothing.
        if let Some((Target::Exact(size), _)) = resize {
            crop = crop.filter(|crop| *crop != size);
        }
        let (factor, offset) = preprocess.rescale.map_or((1.0, 0.0), Rescale::line);
        let offset = f64::from(offset);
        let numbers = match &preprocess.normalize {
            None => vec![[factor, offset]; preprocess.channels.count()],
            Some(Normalize { mean, std }) => {
                let of = |(mean, std): (&f32, &f32)| {
                    [factor / f64::from(*std), (offset - f64::from(*mean)) / f64::from(*std)]
                };
                mean.iter().zip(std).map(of).collect()
            }
        };
        let bands = matches!(preprocess.channels, Channels::Bands(_));
        let by_type = bands && preprocess.rescale == Some(Rescale::TypeRange);
        // Bands are never rounded.
        let sampling = match sampling {
            Sampling::Unrounded if bands => Sampling::Rounded,
            sampling => sampling,
        };
        Some(Effect { channels: preprocess.channels, resize, sampling, by_type, crop, numbers })
    }

    fn is(&self, other: &Effect) -> bool {
        let near = |a: &[f64; 2], b: &[f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + a.abs()));
        (self.channels, &self.resize, self.sampling, self.by_type, self.crop)
            == (other.channels, &other.resize, other.sampling, other.by_type, other.crop)
            && self.numbers.len() == other.numbers.len()
            && self.numbers.iter().zip(&other.numbers).all(|(a, b)| near(a, b))
    }

    /// Mean and standard deviation for values from 0 to 1.
    fn mean_std(&self) -> [Vec<f64>; 2] {
        // Seven digits, the precision of 32 bits.
        let round = |value: f64| match self.channels {
            // Reflectances are small numbers, whose digits all count.
            Channels::Bands(_) => (value as f32).to_string().parse().unwrap_or(value),
            Channels::Rgb | Channels::Gray => format!("{value:.7}").parse().unwrap_or(value),
        };
        let std = |[scale, _]: &[f64; 2]| round(1.0 / (255.0 * scale));
        let mean = |[scale, offset]: &[f64; 2]| round(-offset / (255.0 * scale));
        [self.numbers.iter().map(mean).collect(), self.numbers.iter().map(std).collect()]
    }
}

/// How the written preprocessing differs.
pub(super) fn difference(ours: Option<&Preprocess>, written: &PreprocessSource) -> Option<Difference> {
    let ours = ours?;
    let theirs = written.read().and_then(Result::ok);
    let same = match (Effect::of(ours), theirs.as_ref().and_then(Effect::of)) {
        (Some(ours), Some(theirs)) => ours.is(&theirs),
        _ => theirs.as_ref() == Some(ours),
    };
    (!same).then(|| Difference {
        field: "preprocess".into(),
        ours: format!("`{ours}`"),
        theirs: theirs.map_or("none".into(), |theirs| format!("`{theirs}`")),
    })
}

/// Pillow's code of a filter.
fn resample(filter: Filter) -> u8 {
    match filter {
        Filter::Nearest => 0,
        Filter::Lanczos => 1,
        Filter::Bilinear => 2,
        Filter::Bicubic => 3,
        Filter::Box => 4,
        Filter::Hamming => 5,
    }
}

/// `preprocessor_config.json`, for the class that performs these steps.
pub(super) fn huggingface(preprocess: &Preprocess, kind: &str) -> Option<Value> {
    let effect = Effect::of(preprocess)?;
    let (to, filter) = effect.resize?;
    let [mean, std] = effect.mean_std();
    let sides = |size: Size| json!({ "height": size.height, "width": size.width });
    let (class, size) = match (to, effect.crop) {
        (Target::Exact(size), None) if effect.sampling == Sampling::Unrounded => {
            ("DINOv3ViTImageProcessor", sides(size))
        }
        _ if effect.sampling == Sampling::Unrounded => return None,
        (Target::Patches { patch, most }, None) if kind.starts_with("siglip2") && patch.height == patch.width => {
            ("Siglip2ImageProcessor", json!({ "patch_size": patch.height, "max_num_patches": most }))
        }
        (Target::Exact(size), None) if kind.starts_with("siglip") => ("SiglipImageProcessor", sides(size)),
        (Target::Exact(size), None) => ("ViTImageProcessor", sides(size)),
        (Target::Exact(size), Some(_)) => ("DeiTImageProcessor", sides(size)),
        (Target::ShortSide(side), _) if kind.starts_with("dinov2") => {
            ("BitImageProcessor", json!({ "shortest_edge": side }))
        }
        // The nearest that this library has; reading back reports that the long side is rounded in another way.
        (Target::Cover(size), Some(_)) if size.height == size.width => {
            ("CLIPImageProcessor", json!({ "shortest_edge": size.height }))
        }
        (Target::ShortSide(side), _) => ("CLIPImageProcessor", json!({ "shortest_edge": side })),
        _ => return None,
    };
    let mut value = json!({
        "image_processor_type": class,
        "do_resize": true,
        "resample": resample(filter),
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
    });
    match (to, size) {
        (Target::Patches { .. }, Value::Object(numbers)) => value.as_object_mut().expect("an object").extend(numbers),
        (_, size) => value["size"] = size,
    }
    if effect.channels != Channels::Rgb {
        // Most classes would make three channels of another image.
        value["do_convert_rgb"] = json!(false);
    }
    match effect.crop {
        Some(crop) => {
            value["do_center_crop"] = json!(true);
            value["crop_size"] = sides(crop);
        }
        None if !["ViTImageProcessor", "SiglipImageProcessor", "Siglip2ImageProcessor", "DINOv3ViTImageProcessor"]
            .contains(&class) =>
        {
            value["do_center_crop"] = json!(false)
        }
        None => {}
    }
    Some(value)
}

/// The keys of timm's `pretrained_cfg`.
pub(super) fn timm(preprocess: &Preprocess) -> Option<Map<String, Value>> {
    let effect = Effect::of(preprocess).filter(|effect| effect.sampling != Sampling::Unrounded)?;
    let (to, filter) = effect.resize?;
    let [mean, std] = effect.mean_std();
    let fraction = |crop: usize, side: usize| {
        let mut fraction = crop as f64 / side as f64;
        // timm divides and rounds down.
        while ((crop as f64 / fraction).floor() as usize) < side {
            fraction = fraction.next_down();
        }
        fraction
    };
    let of_both = |crop: Size, size: Size| fraction(crop.height, size.height).min(fraction(crop.width, size.width));
    let (mode, crop_pct) = match (to, effect.crop) {
        (Target::Exact(_), None) => ("squash", 1.0),
        (Target::Exact(size), Some(crop)) => ("squash", of_both(crop, size)),
        (Target::ShortSide(side), Some(crop)) => ("center", fraction(crop.height, side)),
        (Target::Cover(size), Some(crop)) => ("center", of_both(crop, size)),
        (Target::Fit(size), Some(crop)) => ("border", of_both(crop, size)),
        _ => return None,
    };
    let name = filter.to_string().to_lowercase();
    let value = json!({ "interpolation": name, "crop_pct": crop_pct, "crop_mode": mode, "mean": mean, "std": std });
    value.as_object().cloned()
}
