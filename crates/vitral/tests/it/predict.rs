//! What `Model::classify` and `Model::pixels` reject.

use std::ops::ControlFlow;

use vitral::explain::{Aim, InputImage, Method, Options};
use vitral::image::RgbImage;
use vitral::{Device, LoadOptions, Model};

use crate::parity::load;
use crate::weights::goldens;

fn even(height: usize, width: usize) -> RgbImage {
    RgbImage::new(width, height, vec![100; 3 * height * width]).expect("an image")
}

#[test]
fn a_model_that_does_not_pool_gives_no_ranking() {
    let model = load(&goldens().join("models/timm_no_pool"), &Device::cpu(1));
    let image = even(32, 32);
    let pixels = model.pixels(std::slice::from_ref(&image)).expect("pixels");
    let refused = [
        model.classify(std::slice::from_ref(&image), 1).map(|_| ()),
        model.logits(&pixels).map(|_| ()),
        model.check_classifies(),
        model.class("3").map(|_| ()),
    ];
    for refused in refused {
        let said = refused.expect_err("a ranking for each token").to_string();
        let expected = "expected one ranking per image, found one per token; use a model that pools";
        assert!(said.contains(model.name()) && said.contains(expected), "{said}");
    }
    // Methods without a target still work.
    let image = InputImage::new(&model, "even", &image).expect("taken");
    let prediction = model.explained(&image, Aim::Predicted, 1).expect("nothing to explain");
    assert!(prediction.ranked.is_empty() && prediction.target.is_none());
    model
        .explain(&image, Method::Rollout, None, &Options::default(), &mut |_| ControlFlow::Continue(()))
        .expect("a map");
    for aim in [Aim::Class(3), Aim::Feature] {
        let said = model.explained(&image, aim, 1).expect_err("an answer for each token").to_string();
        assert!(said.contains("expected one output per image"), "{said}");
    }
}

#[test]
fn images_with_different_sizes_after_preprocessing_are_rejected_by_index() {
    let (folder, golden) = (tempfile::tempdir().expect("a folder"), goldens().join("models/hf_vit_classifier"));
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), folder.path().join(name)).expect("copied");
    }
    let text = std::fs::read_to_string(golden.join("preprocessor_config.json")).expect("a file");
    let text = text.replace(r#""do_resize": true"#, r#""do_resize": false"#);
    std::fs::write(folder.path().join("preprocessor_config.json"), text).expect("written");
    let model = Model::load(folder.path(), &LoadOptions::default(), &Device::cpu(1)).expect("loaded");
    assert_eq!(model.pixels(&[even(32, 32), even(32, 32)]).expect("of one size").shape()[..], [2, 3, 32, 32]);
    // The same number of pixels in total, and fewer.
    for (height, width, found) in [(16, 64, "16×64"), (16, 16, "16")] {
        let said = model.pixels(&[even(32, 32), even(32, 32), even(height, width)]).expect_err("refused").to_string();
        let expected = "image 2 of the batch: expected 32 pixels after preprocessing, like image 0, found ";
        assert!(said.contains(&format!("{expected}{found};")), "{said}");
    }
}

/// An image without two parts alike.
fn drawn(height: usize, width: usize) -> RgbImage {
    let level = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8;
    RgbImage::new(width, height, (0..3 * height * width).map(level).collect()).expect("an image")
}

#[test]
fn images_of_any_proportions_are_classified_on_their_own_grids_in_their_order() {
    let naflex = goldens().join("models/hf_siglip2_classifier_tall");
    let images = [drawn(40, 90), drawn(90, 40), drawn(41, 92), drawn(12, 300), drawn(40, 90)];
    let model = load(&naflex, &Device::cpu(1));
    // At most 16 patches of 8 pixels.
    let sizes = images.each_ref().map(|image| model.preprocess().expect("described").output_size_for(image.size()));
    assert_eq!(sizes.map(|size| (size.height, size.width)), [(24, 40), (40, 24), (24, 40), (8, 128), (24, 40)]);
    let scores = |images: &[RgbImage]| -> Vec<Vec<f32>> {
        let ranked = model.classify(images, 5).expect("classified");
        ranked.iter().map(|one| one.iter().map(|class| class.logit).collect()).collect()
    };
    let together = scores(&images);
    let alone: Vec<Vec<f32>> = images.iter().flat_map(|image| scores(std::slice::from_ref(image))).collect();
    assert_eq!(together, alone);
    assert_eq!(together[0], together[4]);
}

#[test]
fn a_number_of_patches_may_be_asked_for_of_models_that_take_any_size() {
    let load = |case: &str| {
        let options = LoadOptions::default().max_patches(std::num::NonZero::new(20));
        Model::load(goldens().join("models").join(case), &options, &Device::cpu(1))
    };
    let model = load("timm_dynamic_size").expect("takes any size");
    let (wide, size) = (drawn(40, 120), model.preprocess().expect("described").output_size_for(drawn(40, 120).size()));
    assert_eq!((size.height, size.width), (16, 48), "patches of 8");
    assert_eq!(model.classify(&[wide, drawn(120, 40)], 1).expect("classified").len(), 2);
    let said = load("timm_plain").expect_err("takes one size").to_string();
    assert!(said.contains("takes 32 pixels only"), "{said}");
}
