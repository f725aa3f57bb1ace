//! Images prepared in torchvision's arithmetic, compared with Hugging Face's processors: not one bit may differ.

use safetensors::SafeTensors;
use serde_json::{Value, json};
use vitral::config::Size;
use vitral::image::preprocess::{Channels, Halving, Step, Target};
use vitral::image::{Backend, Filter, Limits, Preprocess, RgbImage, open};
use vitral::{Device, Error, LoadOptions, Model};

use super::{described, golden, golden_bytes, golden_json, levels_apart, numbers};
use crate::shared_data;
use crate::weights::goldens;

fn image(name: &str) -> RgbImage {
    open(golden(name), &Limits::default()).unwrap()
}

/// A resize in torchvision's arithmetic, and nothing else.
fn only_resize(size: Size, filter: Filter) -> Preprocess {
    let steps = vec![Step::ResizeTensor { to: Target::Exact(size), filter }];
    Preprocess { channels: Channels::Rgb, steps, rescale: None, normalize: None }
}

#[test]
fn every_filter_of_tensors_matches_torchvision() {
    let bytes = golden_bytes("torchvision_resized.safetensors");
    let mut unlike_pillow = 0;
    for (name, expected) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let mut words = name.split(' ');
        let image = image(words.next().unwrap());
        let mut side = || words.next().unwrap().parse().unwrap();
        let size = Size { height: side(), width: side() };
        let filter = match words.next().unwrap() {
            "nearest-exact" => Filter::Nearest,
            name => Filter::from_name(name).unwrap(),
        };
        let found = only_resize(size, filter).image(&image).unwrap();
        assert!(found.pixels() == expected.data(), "`{name}`");
        let pillow = only_resize(size, filter).with_backend(Backend::Pil).unwrap().image(&image).unwrap();
        unlike_pillow += usize::from(found != pillow);
    }
    assert!(unlike_pillow > 20, "the goldens do not tell the two apart: {unlike_pillow}");
}

#[test]
fn tensors_match_the_processors_on_torchvision() {
    let bytes = golden_bytes("torchvision.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (mut floats, mut unlike_pil) = (0, 0);
    for (index, case) in golden_json("torchvision.json").as_array().unwrap().iter().enumerate() {
        let (image, expected) = (image(case["image"].as_str().unwrap()), numbers(&tensors, &index.to_string()));
        let pil = described(case).unwrap();
        let preprocess = pil.clone().with_backend(Backend::Torchvision).unwrap();
        let text = serde_json::to_string(&preprocess).unwrap();
        assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), preprocess, "{text}");
        assert_eq!(preprocess.clone().with_backend(Backend::Torchvision).unwrap(), preprocess, "{case}");
        assert_eq!(preprocess.clone().with_backend(Backend::Pil).unwrap(), pil, "{case}");
        // DINOv3 scales before it resizes: sums of floats, which are not the same to the bit.
        if case["config"].to_string().contains("DINOv3") {
            assert!(preprocess == pil || case["config"]["do_resize"] == false, "{case}");
            let apart = levels_apart(case, &expected, &image);
            assert!(apart < 1e-3, "{case}: {apart} levels away");
            floats += 1;
            continue;
        }
        let found = strided(case, &preprocess, &image);
        let unlike = found.iter().zip(&expected).filter(|(ours, theirs)| ours.to_bits() != theirs.to_bits()).count();
        assert!(found.len() == expected.len() && unlike == 0, "{case}: {unlike} of {} differ", expected.len());
        unlike_pil += usize::from(found != strided(case, &pil, &image));
    }
    assert!(floats == 8 && unlike_pil > 30, "{floats} {unlike_pil}");
}

/// The tensor at the rows and columns that a golden keeps.
fn strided(case: &Value, preprocess: &Preprocess, image: &RgbImage) -> Vec<f32> {
    let tensor = preprocess.apply(image).unwrap();
    let shape: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
    assert_eq!(shape.iter().product::<usize>(), tensor.len(), "{case}");
    let stride = case["stride"].as_u64().unwrap() as usize;
    let rows = tensor.chunks_exact(shape[2]).enumerate();
    let kept = rows.filter(|(row, _)| (row % shape[1]).is_multiple_of(stride));
    kept.flat_map(|(_, row)| row.iter().copied().step_by(stride)).collect()
}

#[test]
fn a_crop_keeps_the_same_pixels_whether_the_rest_is_computed_or_not() {
    let image = image("tall.png");
    let whole = only_resize(Size { height: 90, width: 34 }, Filter::Bicubic);
    let mut part = whole.clone();
    let size = Size { height: 41, width: 12 };
    part.steps.push(Step::CenterCrop { size, halving: Halving::TowardZero, fill: [0; 3] });
    let (whole, part) = (whole.image(&image).unwrap(), part.image(&image).unwrap());
    for row in 0..size.height {
        for column in 0..size.width {
            assert_eq!(part.pixel(row, column), whole.pixel(24 + row, 11 + column));
        }
    }
}

#[test]
fn what_torchvision_s_processors_do_not_do_is_refused_by_name() {
    let fault = |preprocess: Preprocess| preprocess.with_backend(Backend::Torchvision).unwrap_err().to_string();
    let vit = |resample: u8| {
        let config = json!({ "image_processor_type": "ViTImageProcessor", "resample": resample });
        Preprocess::from_huggingface(&config, None).unwrap()
    };
    for (error, word) in [
        (fault(vit(4)), "`box`"),
        (fault(vit(5)), "`hamming`"),
        (fault(Preprocess::from_timm(&json!({})).unwrap()), "timm"),
        (fault(Preprocess::from_torchvision("vit_b_16", "IMAGENET1K_V1").unwrap()), "presets"),
    ] {
        assert!(error.contains(word) && error.contains("leave out"), "{error}");
    }
    let summary = vit(3).with_backend(Backend::Torchvision).unwrap().to_string();
    assert_eq!(summary, "resize exactly 224 bicubic by torchvision | /255 | mean .5 std .5");
}

#[test]
fn a_model_is_loaded_with_a_backend_or_refused() {
    let options = LoadOptions::default().backend(Backend::Torchvision);
    let folder = goldens().join("models");
    let model = Model::load(folder.join("hf_clip_classifier"), &options, &Device::cpu(1)).unwrap();
    assert!(model.preprocess().unwrap().to_string().contains("by torchvision"));
    let own = Model::load(folder.join("hf_clip_classifier"), &LoadOptions::default(), &Device::cpu(1)).unwrap();
    assert_eq!(model.preprocess().unwrap().with_backend(Backend::Pil).unwrap(), own.preprocess().unwrap());
    let error = Model::load(folder.join("timm_plain"), &options, &Device::cpu(1)).unwrap_err();
    assert!(matches!(error, Error::Backend { .. }) && error.to_string().contains("timm_plain"), "{error}");
}

/// Two models with the logits that transformers gives for them with its default backend.
#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn logits_are_those_of_transformers_with_shared_data() {
    let folder = shared_data("field-cases").join("F01-patch-does-not-divide");
    let image = open(folder.join("plain.png"), &Limits::default()).unwrap();
    for (name, expected) in [
        ("so400m_cls", [-0.3898, 0.0598, -0.1862, 1.3756, 0.6177]),
        ("vit36", [0.1356, 0.0590, 1.0958, 1.0843, 0.4556]),
    ] {
        let options = LoadOptions::default().backend(Backend::Torchvision);
        let model = Model::load(folder.join(name), &options, &Device::cpu(1)).unwrap();
        let found = model.logits(&model.pixels(std::slice::from_ref(&image)).unwrap()).unwrap().to_vec().unwrap();
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 6e-5);
        assert!(found.len() == 5 && near, "{name}: {found:?}");
    }
}
