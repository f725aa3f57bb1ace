//! Tensors compared with transformers, timm and torchvision; and files that must be rejected.

use safetensors::SafeTensors;
use serde_json::{Value, json};
use vitral::config::Size;
use vitral::image::{ImageError, Limits, Preprocess, RgbImage, open};

use super::{described, golden, golden_bytes, golden_json, levels_apart};

#[test]
fn tensors_match_transformers_timm_and_torchvision() {
    let bytes = golden_bytes("preprocessed.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for (index, case) in golden_json("preprocessed.json").as_array().unwrap().iter().enumerate() {
        let image = open(golden(case["image"].as_str().unwrap()), &Limits::default()).unwrap();
        let apart = levels_apart(case, &super::numbers(&tensors, &index.to_string()), &image);
        assert!(apart < 1e-3, "{case}: {apart} levels away");
    }
}

/// DINOv3 resizes floats, not pixels: no value is rounded on the way.
#[test]
fn tensors_match_the_processors_of_dinov3_and_beit() {
    for name in ["dinov3", "beit", "siglip2"] {
        let bytes = golden_bytes(&format!("{name}.safetensors"));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (index, case) in golden_json(&format!("{name}.json")).as_array().unwrap().iter().enumerate() {
            let image = open(golden(case["image"].as_str().unwrap()), &Limits::default()).unwrap();
            let apart = levels_apart(case, &super::numbers(&tensors, &index.to_string()), &image);
            assert!(apart < 1e-3, "{case}: {apart} levels away");
            let preprocess = described(case).unwrap();
            let shown = preprocess.image(&image).unwrap();
            assert_eq!(shown.size(), preprocess.output_size_for(image.size()));
            let text = serde_json::to_string(&preprocess).unwrap();
            assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), preprocess, "{text}");
        }
    }
    let later = json!({"image_processor_type": "DINOv3ViTImageProcessorFast", "do_center_crop": true, "crop_size": 8});
    assert!(Preprocess::from_huggingface(&later, None).unwrap_err().to_string().contains("do_center_crop"));
}

#[test]
fn a_description_survives_being_written_and_read() {
    for case in golden_json("preprocessed.json").as_array().unwrap() {
        let preprocess = described(case).unwrap();
        let text = serde_json::to_string(&preprocess).unwrap();
        assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), preprocess, "{text}");
        let mut other = serde_json::to_value(&preprocess).unwrap();
        other["sharpen"] = json!(true);
        let error = serde_json::from_value::<Preprocess>(other).unwrap_err().to_string();
        assert!(error.contains("sharpen"), "{error}");
    }
}

#[test]
fn the_summary_lists_all_steps() {
    let line = |preprocess: Result<Preprocess, ImageError>| preprocess.unwrap().to_string();
    let vit = json!({"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]});
    assert_eq!(line(Preprocess::from_timm(&vit)), "resize short 248 bicubic | center crop 224 | /255 | mean .5 std .5");
    let torchvision = Preprocess::from_torchvision("vit_l_16", "IMAGENET1K_V1");
    let imagenet = "mean .485 .456 .406 std .229 .224 .225";
    assert_eq!(line(torchvision), format!("resize short 242 bilinear | center crop 224 | /255 | {imagenet}"));
    let deit = json!({"image_processor_type": "DeiTImageProcessorFast"});
    let steps = "resize exactly 256 bicubic | center crop 224 | /255 | mean .5 std .5";
    assert_eq!(line(Preprocess::from_huggingface(&deit, None)), steps);
}

#[test]
fn missing_keys_have_the_defaults_of_the_class() {
    let mean = |class: &str| {
        let config = json!({"image_processor_type": class});
        Preprocess::from_huggingface(&config, None).unwrap().normalize.unwrap().mean
    };
    assert_eq!(mean("ViTImageProcessor"), [0.5; 3]);
    assert_eq!(mean("BitImageProcessor"), vitral::image::preprocess::CLIP_MEAN);
    let nameless = json!({"do_normalize": true, "size": 224});
    assert!(Preprocess::from_huggingface(&nameless, Some("vit")).is_ok());
    for (config, model_type) in [
        (nameless, None),
        (json!({"image_processor_type": "ConvNextImageProcessor"}), Some("vit")),
        (json!({}), Some("swin_of_my_own")),
    ] {
        let error = Preprocess::from_huggingface(&config, model_type).unwrap_err().to_string();
        assert!(error.contains("`ViTImageProcessor`") && error.contains("`SiglipImageProcessor`"), "{error}");
    }
}

#[test]
fn faulty_files_are_rejected_by_key() {
    let huggingface = |change: Value| {
        let mut config = json!({"image_processor_type": "ViTImageProcessor"});
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Preprocess::from_huggingface(&config, None).unwrap_err().to_string()
    };
    let timm = |config: Value| Preprocess::from_timm(&config).unwrap_err().to_string();
    for (error, word) in [
        (huggingface(json!({"do_sharpen": true})), "do_sharpen"),
        (huggingface(json!({"do_pad": true})), "do_pad"),
        (huggingface(json!({"crop_pct": 0.9})), "crop_pct"),
        (huggingface(json!({"size": {"max_height": 3, "max_width": 4}})), "size"),
        (huggingface(json!({"size": 0})), "size"),
        (huggingface(json!({"size": 9_000_000})), "size"),
        (huggingface(json!({"do_center_crop": true})), "crop_size"),
        (huggingface(json!({"resample": 9})), "resample"),
        (huggingface(json!({"resample": "bicubic"})), "resample"),
        (huggingface(json!({"image_mean": [0.5, 0.5]})), "image_mean"),
        (huggingface(json!({"image_std": [0.5, 0.0, 0.5]})), "image_std"),
        (huggingface(json!({"do_resize": "yes"})), "do_resize"),
        (timm(json!({"interpolation": "random"})), "interpolation"),
        (timm(json!({"crop_mode": "corner"})), "crop_mode"),
        (timm(json!({"crop_pct": -1.0})), "crop_pct"),
        (timm(json!({"crop_pct": 1e-9})), "crop_pct"),
        (timm(json!({"input_size": [2, 224, 224]})), "input_size"),
        (timm(json!({"input_size": [1, 28, 28]})), "mean"),
        (timm(json!([])), "an object"),
    ] {
        assert!(error.contains(&format!("`{word}`")) || error.contains(word), "{word}: {error}");
    }
    assert!(Preprocess::from_torchvision("vit_b_16", "V9").unwrap_err().to_string().contains("vit_h_14"));
}

#[test]
fn sizes_are_known_in_advance_and_buffers_are_checked() {
    let preprocess = Preprocess::from_torchvision("vit_b_16", "IMAGENET1K_V1").unwrap();
    assert_eq!(preprocess.output_size(), Some(Size::square(224)));
    let image = RgbImage::from_gray(30, 20, &[9; 600]).unwrap();
    let error = preprocess.apply_into(&image, &mut [0.0; 7]).unwrap_err().to_string();
    assert!(error.contains("[3, 224, 224]") && error.contains("found 7"), "{error}");
    let mut tensor = vec![0.0; 3 * 224 * 224];
    preprocess.apply_into(&image, &mut tensor).unwrap();
    assert_eq!(tensor, preprocess.apply(&image).unwrap());
    assert_eq!(preprocess.image(&image).unwrap().size(), Size::square(224));
}

#[test]
fn a_narrow_image_does_not_become_enormous() {
    let sliver = RgbImage::from_gray(1, 3_000_000, &vec![5; 3_000_000]).unwrap();
    let preprocess = Preprocess::from_torchvision("vit_b_16", "IMAGENET1K_V1").unwrap();
    let error = preprocess.apply(&sliver).unwrap_err().to_string();
    assert!(error.contains("resize short 256"), "{error}");
}

#[test]
fn a_mean_with_the_wrong_number_of_channels_is_an_error() {
    let mut preprocess = Preprocess::from_torchvision("vit_b_16", "IMAGENET1K_V1").unwrap();
    preprocess.normalize.as_mut().unwrap().mean.pop();
    let image = RgbImage::from_gray(2, 2, &[1; 4]).unwrap();
    let error = preprocess.apply(&image).unwrap_err().to_string();
    assert!(error.contains("`mean`") && error.contains("a list of 3"), "{error}");
}
