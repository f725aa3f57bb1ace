//! Hugging Face's `preprocessor_config.json`.
//!
//! A file may omit any key, which then has the default of its processor's class, so the class must be known. The
//! classes and their defaults are in one table. Newer (`…ImageProcessor`, `…Fast`, `…Pil`) and older names
//! (`…FeatureExtractor`) of a class are treated alike; all of them resize like Pillow, unless torchvision's arithmetic is
//! chosen ([`Preprocess::with_backend`]): a file does not say which of the two its model was trained or measured with.

use serde_json::Value;

use super::super::{Filter, ImageError};
use super::fields::{Fields, brief};
use super::{
    CLIP_MEAN, CLIP_STD, Channels, HALF, Halving, IMAGENET_MEAN, IMAGENET_STD, Preprocess, Rescale, Step, Target,
};
use crate::config::Size;

const PLACE: &str = "`preprocessor_config.json`";

/// A processor's class and its defaults.
struct Class {
    /// The name without `ImageProcessor` or `FeatureExtractor`.
    name: &'static str,
    /// Models that use it, for files that do not name a class.
    models: &'static [&'static str],
    size: Target,
    /// Whether a single number gives both sides, or only the short one.
    number_is_square: bool,
    filter: Filter,
    crop: Option<usize>,
    mean: [f32; 3],
    std: [f32; 3],
}

const SQUARE_224: Target = Target::Exact(Size::square(224));

/// Every class, as in transformers 5; `ViTHybrid` as in transformers 4.
const CLASSES: [Class; 9] = [
    Class {
        name: "ViT",
        models: &["vit", "vit_mae", "vit_msn", "ijepa"],
        size: SQUARE_224,
        number_is_square: true,
        filter: Filter::Bilinear,
        crop: None,
        mean: HALF,
        std: HALF,
    },
    Class {
        name: "DeiT",
        models: &["deit"],
        size: Target::Exact(Size::square(256)),
        number_is_square: true,
        filter: Filter::Bicubic,
        crop: Some(224),
        mean: HALF,
        std: HALF,
    },
    Class {
        name: "Bit",
        models: &["bit", "dinov2", "dinov2_with_registers", "pixio"],
        size: Target::ShortSide(224),
        number_is_square: false,
        filter: Filter::Bicubic,
        crop: Some(224),
        mean: CLIP_MEAN,
        std: CLIP_STD,
    },
    Class {
        name: "ViTHybrid",
        models: &["vit-hybrid"],
        size: Target::ShortSide(224),
        number_is_square: false,
        filter: Filter::Bicubic,
        crop: Some(224),
        mean: CLIP_MEAN,
        std: CLIP_STD,
    },
    Class {
        name: "CLIP",
        models: &["clip", "clip_vision_model", "metaclip_2", "mlcd", "mlcd_vision_model"],
        size: Target::ShortSide(224),
        number_is_square: false,
        filter: Filter::Bicubic,
        crop: Some(224),
        mean: CLIP_MEAN,
        std: CLIP_STD,
    },
    Class {
        name: "Siglip",
        models: &["siglip", "siglip_vision_model"],
        size: SQUARE_224,
        number_is_square: false,
        filter: Filter::Bicubic,
        crop: None,
        mean: HALF,
        std: HALF,
    },
    Class {
        name: "Siglip2",
        models: &["siglip2", "siglip2_vision_model"],
        size: Target::Patches { patch: Size::square(16), most: 256 },
        number_is_square: false,
        filter: Filter::Bilinear,
        crop: None,
        mean: HALF,
        std: HALF,
    },
    Class {
        name: "Beit",
        models: &["beit", "data2vec-vision"],
        size: SQUARE_224,
        number_is_square: true,
        filter: Filter::Bicubic,
        crop: None,
        mean: HALF,
        std: HALF,
    },
    Class {
        name: "DINOv3ViT",
        models: &["dinov3_vit"],
        size: SQUARE_224,
        number_is_square: true,
        filter: Filter::Bilinear,
        crop: None,
        mean: IMAGENET_MEAN,
        std: IMAGENET_STD,
    },
];

/// Steps that a file may switch on or off.
const FLAGS: [&str; 5] = ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"];

/// Other keys that would change the tensor if set, and are not supported.
const REFUSED: [&str; 5] = ["crop_pct", "pad_size", "size_divisor", "use_square_size", "do_pad"];

impl Class {
    fn named(name: &str) -> Option<&'static Class> {
        let stem = name.strip_suffix("Fast").or_else(|| name.strip_suffix("Pil")).unwrap_or(name);
        let stem = stem.strip_suffix("ImageProcessor").or_else(|| stem.strip_suffix("FeatureExtractor"))?;
        CLASSES.iter().find(|class| class.name == stem)
    }

    /// The class named by the file, or else that of the model.
    fn of(fields: &Fields, model_type: Option<&str>) -> Result<&'static Class, ImageError> {
        let named = match fields.text("image_processor_type")? {
            Some(name) => Some(name),
            None => fields.text("feature_extractor_type")?,
        };
        let (class, found) = match (named, model_type) {
            (Some(name), _) => (Class::named(name), name.to_string()),
            (None, Some(model)) => (
                CLASSES.iter().find(|class| class.models.contains(&model)),
                format!("no image_processor_type, and model_type {model}"),
            ),
            (None, None) => (None, "no image_processor_type, and no model_type".to_string()),
        };
        class.ok_or_else(|| {
            let known = CLASSES.map(|class| format!("`{}ImageProcessor`", class.name)).join(", ");
            ImageError::UnknownProcessor { found, place: PLACE, known }
        })
    }
}

impl Preprocess {
    /// Reads the contents of a `preprocessor_config.json` of any version. `model_type` is from the `config.json` beside
    /// it, and is used if the file does not name a processor class.
    pub fn from_huggingface(config: &Value, model_type: Option<&str>) -> Result<Self, ImageError> {
        let fields = Fields::of(PLACE, config)?;
        let class = Class::of(&fields, model_type)?;
        refuse_unknown_steps(&fields)?;

        let mut steps = Vec::new();
        if fields.flag("do_resize", true)? {
            let filter = fields.filter_number("resample", class.filter)?;
            let to = target(&fields, class)?;
            // DINOv3's class rescales first, so that its resize does not round.
            let numbers = class.name == "DINOv3ViT";
            steps.push(if numbers { Step::ResizeNumbers { to, filter } } else { Step::Resize { to, filter } });
            if numbers && fields.flag("do_center_crop", false)? {
                let key = "do_center_crop".to_owned();
                return Err(ImageError::UnknownStep {
                    place: PLACE,
                    key,
                    found: "true".into(),
                    known: FLAGS.join(", "),
                });
            }
        }
        if fields.flag("do_center_crop", class.crop.is_some())? {
            steps.push(Step::CenterCrop { size: crop(&fields, class)?, halving: Halving::Down, fill: [0; 3] });
        }
        let rescale = if fields.flag("do_rescale", true)? {
            let factor = fields.positive("rescale_factor")?.unwrap_or(1.0 / 255.0);
            let offset = if fields.flag("rescale_offset", false)? { -1.0 } else { 0.0 };
            Some(Rescale::Multiply { factor, offset })
        } else {
            None
        };
        let (normalize, channels) = if fields.flag("do_normalize", true)? {
            let (normalize, channels) = fields.normalize("image_mean", "image_std", (class.mean, class.std))?;
            (Some(normalize), channels)
        } else {
            (None, Channels::Rgb)
        };
        Ok(Preprocess { channels, steps, rescale, normalize })
    }
}

fn refuse_unknown_steps(fields: &Fields) -> Result<(), ImageError> {
    for (key, value) in fields.object {
        let off = value.is_null() || *value == Value::Bool(false);
        // `do_reduce_labels`, `do_flip_channel_order: false` and the like do not affect anything here.
        let unknown = key.starts_with("do_") && !FLAGS.contains(&key.as_str()) || REFUSED.contains(&key.as_str());
        if unknown && !off {
            let known = FLAGS.map(|flag| format!("`{flag}`")).join(", ");
            return Err(ImageError::UnknownStep { place: PLACE, key: key.clone(), found: brief(value), known });
        }
    }
    Ok(())
}

/// `size`: a number, a list, `{height, width}`, `{shortest_edge}`, `{shortest_edge, longest_edge}` or `{longest_edge}`.
/// SigLIP 2's class has `patch_size` and `max_num_patches` instead.
fn target(fields: &Fields, class: &Class) -> Result<Target, ImageError> {
    if let Target::Patches { patch, most } = class.size {
        let number = |key: &str, default: usize| match fields.get(key) {
            Some(value) => fields.side(key, value),
            None => Ok(default),
        };
        let (patch, most) = (number("patch_size", patch.height)?, number("max_num_patches", most)?);
        return Ok(Target::Patches { patch: Size::square(patch), most });
    }
    let Some(value) = fields.get("size") else { return Ok(class.size) };
    let square = fields.flag("default_to_square", class.number_is_square)?;
    match value {
        Value::Array(list) => Ok(Target::Exact(fields.pair("size", list)?)),
        Value::Object(object) => {
            let side = |key: &str| match object.get(key).filter(|side| !side.is_null()) {
                Some(side) => fields.side("size", side).map(Some),
                None => Ok(None),
            };
            let known = ["height", "width", "shortest_edge", "longest_edge"];
            let unknown = object.iter().any(|(key, side)| !known.contains(&key.as_str()) && !side.is_null());
            match (side("height")?, side("width")?, side("shortest_edge")?, side("longest_edge")?) {
                _ if unknown => Err(size_fault(fields)),
                (Some(height), Some(width), None, None) => Ok(Target::Exact(Size { height, width })),
                (None, None, Some(short), None) => Ok(Target::ShortSide(short)),
                (None, None, Some(short), Some(longest)) => Ok(Target::ShortSideWithin { short, longest }),
                (None, None, None, Some(longest)) => Ok(Target::LongSide(longest)),
                _ => Err(size_fault(fields)),
            }
        }
        number => {
            let side = fields.side("size", number)?;
            Ok(if square { Target::Exact(Size::square(side)) } else { Target::ShortSide(side) })
        }
    }
}

fn size_fault(fields: &Fields) -> ImageError {
    fields.fault("size", "a number, `height` and `width`, `shortest_edge`, `longest_edge`, or both edges")
}

/// `crop_size`: a number, a list or `{height, width}`.
fn crop(fields: &Fields, class: &Class) -> Result<Size, ImageError> {
    let fault = || fields.fault("crop_size", "a number, or `height` and `width`");
    match (fields.get("crop_size"), class.crop) {
        (None, Some(side)) => Ok(Size::square(side)),
        // A class that does not crop has no default crop size.
        (None, None) => Err(fault()),
        (Some(Value::Array(list)), _) => fields.pair("crop_size", list),
        (Some(Value::Object(object)), _) => match (object.get("height"), object.get("width")) {
            (Some(height), Some(width)) if object.len() == 2 => {
                Ok(Size { height: fields.side("crop_size", height)?, width: fields.side("crop_size", width)? })
            }
            _ => Err(fault()),
        },
        (Some(number), _) => Ok(Size::square(fields.side("crop_size", number)?)),
    }
}
