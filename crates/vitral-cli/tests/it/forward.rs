use safetensors::tensor::{Dtype, TensorView};

use super::*;

/// Runs `forward` on a golden model.
fn forward(model: &[&str], input: &Path, output: &Path, more: &[&str]) -> Run {
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let mut args = vec!["forward"];
    args.extend(model);
    args.extend(["--input", &input, "--output", &output]);
    args.extend(more);
    vitral(args)
}

/// The largest difference, in standard deviations of the reference.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let count = expected.len() as f32;
    let mean = expected.iter().sum::<f32>() / count;
    let deviation = (expected.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count).sqrt();
    ::vitral::numbers::apart(found, expected) as f32 / deviation
}

#[test]
fn golden_models_reproduce_their_librarys_outputs() {
    let folder = folder();
    let output = folder.path().join("out.safetensors");
    for case in ["timm_plain", "timm_masked", "timm_deit_distilled", "hf_vit_masked", "hf_dinov2_registers_model"] {
        let case = golden(case);
        let model = case.display().to_string();
        let model = ["--model", &model];
        let input = case.join("input.safetensors");
        forward(&model, &input, &output, &["--hidden-states", "--attentions", "--batch", "1"]).ok();
        let expected = std::fs::read(case.join("expected.safetensors")).expect("a golden");
        for name in SafeTensors::deserialize(&expected).expect("safetensors").names() {
            let (shape, values) = tensor(&case.join("expected.safetensors"), name);
            let (found_shape, found) = tensor(&output, name);
            assert_eq!(found_shape, shape, "{} `{name}`", case.display());
            let apart = difference(&found, &values);
            assert!(apart <= 2e-4, "{} `{name}`: {apart}", case.display());
        }
        // Neither the batch size nor recording intermediates changes any bit.
        let bytes = std::fs::read(&output).expect("written");
        forward(&model, &input, &output, &["--hidden-states", "--attentions", "--threads", "1"]).ok();
        assert_eq!(std::fs::read(&output).expect("written"), bytes, "{}", case.display());
        let features = tensor(&output, "features");
        forward(&model, &input, &output, &[]).ok();
        assert_eq!(tensor(&output, "features"), features, "{}", case.display());
    }
}

#[test]
fn a_config_file_describes_a_checkpoint() {
    let folder = folder();
    let output = folder.path().join("out.safetensors");
    let case = golden("lucidrains_cls");
    let [model, config] = ["model.pth", "config.json"].map(|name| case.join(name).display().to_string());
    let model = ["--model", &model, "--config", &config];
    forward(&model, &case.join("input.safetensors"), &output, &[]).ok();
    let apart = difference(&tensor(&output, "logits").1, &tensor(&case.join("expected.safetensors"), "logits").1);
    assert!(apart <= 2e-4, "{apart}");
    let bare = forward(&model[..2], &case.join("input.safetensors"), &output, &[]).fails(1);
    assert!(bare.contains("describe it with `--config FILE`"), "{bare}");
}

fn write(path: &Path, tensors: &[(&str, Dtype, &[usize])]) {
    let width = |kind| {
        if kind == Dtype::F32 {
            4
        } else if kind == Dtype::U8 {
            1
        } else {
            2
        }
    };
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, kind, shape)| vec![0; shape.iter().product::<usize>() * width(*kind)]).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, kind, shape), bytes)| (*name, TensorView::new(*kind, shape.to_vec(), bytes).expect("whole")));
    safetensors::serialize_to_file(views, None, path).expect("written");
}

#[test]
fn invalid_inputs_are_reported() {
    let folder = folder();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    let model = golden("timm_plain").display().to_string();
    let model = ["--model", &model];
    let pixels = ("pixel_values", Dtype::F32, [1, 3, 32, 32].as_slice());
    for (tensors, expected) in [
        (vec![("pixels", Dtype::F32, [1].as_slice())], "expected a tensor `pixel_values`, found `pixels`"),
        (vec![("pixel_values", Dtype::F16, &[1, 3, 32, 32])], "in float32, found Float16"),
        (vec![("pixel_values", Dtype::F32, &[3, 32, 32])], "[images, 3, height, width], found [3, 32, 32]"),
        (vec![("pixel_values", Dtype::F32, &[1, 1, 32, 32])], "with 3 channels, found [1, 1, 32, 32]"),
        (vec![("pixel_values", Dtype::F32, &[0, 3, 32, 32])], "at least one image"),
        (vec![("pixel_values", Dtype::F32, &[1, 3, 40, 40])], "takes images of 32 pixels, found 40"),
        (vec![pixels, ("mask", Dtype::F32, &[1, 4, 4])], "`mask` in uint8"),
        (vec![pixels, ("mask", Dtype::U8, &[1, 16])], "`mask` of shape [1, 4, 4], found [1, 16]"),
    ] {
        write(&input, &tensors);
        let said = forward(&model, &input, &output, &[]).fails(1);
        assert!(said.contains(expected) && said.contains("in.safetensors"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    std::fs::write(&input, "no tensors").expect("written");
    forward(&model, &input, &output, &[]).fails(1);
    forward(&model, &folder.path().join("missing"), &output, &[]).fails(1);
    assert_eq!(names_in(folder.path()), ["in.safetensors"]);
}

#[test]
fn preprocessed_images_give_the_same_logits_through_forward() {
    let folder = folder();
    let [pixels, output] = ["in.safetensors", "out.safetensors"].map(|name| folder.path().join(name));
    let to = pixels.display().to_string();
    let out = vitral(["preprocess", &digit("seven"), &digit("two"), "--output", &to]).ok();
    assert_eq!(out, "gray | resize exactly 28 bilinear | /255 | mean .1307 std .3081\n");
    assert_eq!(tensor(&pixels, "pixel_values").0, [2, 1, 28, 28]);
    forward(&["--model", "assets/digits"], &pixels, &output, &[]).ok();
    let (shape, logits) = tensor(&output, "logits");
    assert_eq!(shape, [2, 10]);
    let best = |logits: &[f32]| (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    assert_eq!([best(&logits[..10]), best(&logits[10..])], [Some(7), Some(2)]);
}
