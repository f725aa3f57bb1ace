//! Everything that does not match is listed in one error; names given by the caller are ignored; folders without a
//! model are reported.

use std::fs;
use std::path::Path;

use vitral::config::{Activation, ModelConfig, Positions, Size};
use vitral::weights::{Container, ResolveOptions, WeightsError, load_description, recognize, resolve};
use vitral_engine::ParameterSpec;

use super::{describe, dialect, goldens, specs_of};

fn spec(name: &str, shape: &[usize]) -> ParameterSpec {
    ParameterSpec { name: name.into(), shape: shape.into() }
}

#[test]
fn everything_that_does_not_match_is_in_one_error() {
    let mut description = describe("timm_plain");
    description.config.classes = 9;
    description.config.qk_norm = true;
    description.config.final_norm = false;
    let container = description.open().unwrap();
    let specs = specs_of(&description.config);
    let options = ResolveOptions::for_model(&description.config);
    let dialect = dialect(&description, &container);
    let error = resolve(&specs, &dialect, &container, &options).unwrap_err();
    let text = error.to_string();
    let WeightsError::Mismatch(mismatch) = error else { panic!("{text}") };
    assert_eq!((mismatch.missing.len(), mismatch.unused.len(), mismatch.misshapen.len()), (8, 2, 2), "{text}");
    for part in
        ["`blocks.1.attention.key_norm.bias` [8]", "`norm.weight` [24]", "expected [9, 24], `head.weight` has [5, 24]"]
    {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let allowed = options.ignoring(["head.*", "norm.*", "*_norm.*"]);
    let assignment = resolve(&specs, &dialect, &container, &allowed).unwrap();
    assert!(assignment.is_assigned("blocks.0.norm1.bias") && !assignment.is_assigned("head.weight"));
    assert!(matches!(assignment.read("head.weight"), Err(WeightsError::NotAssigned(_))));
}

#[test]
fn a_shared_tensor_must_be_used_up() {
    let mut description = describe("timm_parallel_scaling");
    description.config.mlp_width += 1;
    let container = description.open().unwrap();
    let options = ResolveOptions::for_model(&description.config);
    let specs = specs_of(&description.config);
    let error = resolve(&specs, &dialect(&description, &container), &container, &options).unwrap_err();
    assert!(error.to_string().contains("blocks.0.in_proj.weight"), "{error}");
}

#[test]
fn unknown_names_are_reported_with_the_closest_dialect() {
    let description = describe("timm_qk_norm");
    let container = description.open().unwrap();
    let mut specs = specs_of(&description.config);
    specs.push(spec("tokens.distillation", &[24]));
    let options = ResolveOptions::for_model(&description.config);
    let error = recognize(&specs, &container, &options).unwrap_err().to_string();
    assert!(error.contains("closest is `timm`") && error.contains("`dist_token`"), "{error}");
}

#[test]
fn another_grid_is_an_error_if_the_model_rejects_other_sizes() {
    let mut description = describe("timm_plain");
    description.config.image_size = vitral::config::Size::square(48);
    let container = description.open().unwrap();
    let options = ResolveOptions::for_model(&description.config);
    let specs = specs_of(&description.config);
    let error = resolve(&specs, &dialect(&description, &container), &container, &options).unwrap_err();
    assert!(error.to_string().contains("shape of `positions`: expected [37, 24]"), "{error}");
}

#[test]
fn values_that_are_not_finite_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let source = goldens().join("models/torchvision_plain");
    let mut bytes = fs::read(source.join("model.safetensors")).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let description = load_description(folder.path(), Some(&source.join("config.json"))).unwrap();
    let container = description.open().unwrap();
    let options = ResolveOptions::for_model(&description.config);
    let specs = specs_of(&description.config);
    let dialect = dialect(&description, &container);
    let assignment = resolve(&specs, &dialect, &container, &options).unwrap();
    let error = assignment.check_finite().unwrap_err();
    assert!(error.to_string().contains("NaN"), "{error}");
}

fn described(config: &str) -> Result<vitral::weights::Description, WeightsError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    fs::write(folder.path().join("model.safetensors"), b"").unwrap();
    load_description(folder.path(), None)
}

#[test]
fn descriptions_that_cannot_be_followed() {
    for (config, part) in [
        ("", "not valid JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "expected `model_type`"),
        (r#"{"model_type": "bert"}"#, "`bert` is not a known Vision Transformer"),
        (
            r#"{"model_type": "vit", "hidden_size": "wide"}"#,
            "`hidden_size`: expected a whole number of at most a billion, found `\"wide\"`",
        ),
        (r#"{"model_type": "vit", "hidden_act": "mish"}"#, "`hidden_act`: expected one of gelu"),
        (r#"{"model_type": "vit", "num_attention_heads": 7}"#, "is not a multiple of 7 heads"),
        (r#"{"architecture": "resnet50"}"#, "`resnet50` is not a known timm Vision Transformer"),
        (r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"rope": true}}"#, "`model_args.rope`"),
        (r#"{"architecture": "vit_dlittle_patch16_reg1_gap_256"}"#, "`diff`"),
        (r#"{"architecture": "vit_base_mci_224"}"#, "`conv`"),
        (r#"{"model": {"wings": 2}}"#, "wings"),
        (r#"{"model": {}, "dialect": "keras"}"#, "no dialect `keras`"),
        (r#"{"model": {}, "names": {"norm.weight": 3}}"#, "`names.norm.weight`"),
    ] {
        let error = described(config).unwrap_err().to_string();
        assert!(error.contains(part), "{config}: {error}");
    }
}

#[test]
fn older_formats_of_either_file() {
    let flat = r#"{"architecture": "vit_tiny_patch16_224", "num_classes": 2, "input_size": [1, 64, 64],
        "fixed_input_size": true, "labels": ["cat", "dog"], "license": "mit", "mean": [0.5]}"#;
    let timm = described(flat).unwrap();
    assert_eq!((timm.config.channels, timm.config.classes, timm.config.image_size.height), (1, 2, 64));
    assert_eq!(timm.labels.as_deref(), Some(&["cat".to_owned(), "dog".to_owned()][..]));
    assert_eq!(timm.license.as_deref(), Some("mit"));
    assert!(timm.preprocess.value().is_some_and(|value| value.get("mean").is_some()));
    let tagged = r#"{"architecture": "vit_tiny_patch16_224.augreg_in21k", "model_args": {"dynamic_img_size": true},
        "pretrained_cfg": {"input_size": [3, 518, 518], "fixed_input_size": true}}"#;
    assert_eq!(described(tagged).unwrap().config.image_size.height, 224);
    let clip = r#"{"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 6,
        "vision_config": null, "vision_config_dict": {"hidden_size": 48, "num_attention_heads": 4}}"#;
    let clip = described(clip).unwrap().config;
    assert_eq!((clip.width, clip.classes, clip.head_width), (48, 6, 12));
    // Where both are there, the older one counts, as in transformers.
    let both = r#"{"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 6,
        "vision_config": {"hidden_act": "gelu"}, "vision_config_dict": {"hidden_act": "quick_gelu"}}"#;
    assert_eq!(described(both).unwrap().config.activation, Activation::QuickGelu);
}

/// As in transformers' `DINOv3ViTConfig`, whatever else is there.
#[test]
fn keys_that_a_file_leaves_out_have_the_library_s_defaults() {
    let dinov3 = |more: &str| {
        let config = described(&format!(r#"{{"model_type": "dinov3_vit"{more}}}"#)).unwrap().config;
        (config.width, config.heads, config.head_width, config.mlp_width)
    };
    assert_eq!(dinov3(""), (384, 6, 64, 1536));
    assert_eq!(dinov3(r#", "num_attention_heads": 12"#), (384, 12, 32, 1536));
    assert_eq!(dinov3(r#", "hidden_size": 192, "intermediate_size": 768"#), (192, 6, 32, 768));
}

#[test]
fn sizes_that_no_model_has_are_refused_before_anything_is_allocated() {
    let error = |more: &str| {
        let text = format!(r#"{{"model_type": "vit", "architectures": ["ViTForImageClassification"], {more}}}"#);
        match described(&text) {
            Err(error) => error.to_string(),
            Ok(description) => vitral::model::Vit::new(description.config).unwrap_err().to_string(),
        }
    };
    let blocks =
        r#""hidden_size": 1, "num_attention_heads": 1, "intermediate_size": 1, "num_hidden_layers": 1000000000"#;
    assert!(error(blocks).contains("at most 10000 blocks"), "{}", error(blocks));
    let side = r#""image_size": 4294967296"#;
    assert!(error(side).contains("image_size") && error(side).contains("4294967296"), "{}", error(side));
    let positions = ModelConfig {
        width: 4,
        positions: Positions::SinCos2d,
        image_size: Size::square(1 << 20),
        ..ModelConfig::default()
    };
    let error = vitral::model::Vit::new(positions).unwrap_err().to_string();
    assert!(error.contains("4294967297 tokens of width 4"), "{error}");
}

#[test]
fn architectures_of_timm_translate() {
    let table = include_str!("../../../src/weights/description/timm_architectures.json");
    let table: serde_json::Map<String, serde_json::Value> = serde_json::from_str(table).unwrap();
    let mut refused = Vec::new();
    for name in table.keys() {
        let config = format!(r#"{{"architecture": "{name}", "pretrained_cfg": {{"input_size": [3, 224, 224]}}}}"#);
        match described(&config) {
            Ok(description) => assert!(!specs_of(&description.config).is_empty()),
            Err(_) => refused.push(name.as_str()),
        }
    }
    // Differential attention, a hybrid on another network, positions that are a sum of rows' and columns'.
    let expected = [
        "vit_base_mci_224",
        "vit_dlittle_patch16_reg1_gap_256",
        "vit_dwee_patch16_reg1_gap_256",
        "vit_dpwee_patch16_reg1_gap_256",
        "naflexvit_base_patch16_parfac_gap",
    ];
    // Fewer keys than queries; positions without antialiasing, or with aligned corners.
    let families = ["_sapiens2", "_radio_v"];
    refused.retain(|name| !expected.contains(name) && !families.iter().any(|part| name.contains(part)));
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn paths_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_description(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("expected `config.json` or `vitral.json`"), "{error}");
    let error = load_description(Path::new("nowhere/at/all"), None).unwrap_err().to_string();
    assert!(error.contains("no such file or folder"), "{error}");
    let file = goldens().join("models/torchvision_plain/model.pth");
    let error = load_description(&file, None).unwrap_err().to_string();
    assert!(error.contains("`--config FILE`"), "{error}");
    let error = load_description(Path::new("vit_base_patch16_224"), None).unwrap_err().to_string();
    assert!(error.contains("or a name on the hub, such as `timm/vit_base"), "{error}");
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("best")).unwrap();
    fs::write(run.join("best/vitral.json"), "{}").unwrap();
    let error = load_description(&run, None).unwrap_err().to_string();
    assert!(error.contains(&format!("found a run's; its model is `{}`", run.join("best").display())), "{error}");
    for (name, bytes, expected) in [
        ("cat.jpg", &b"\xFF\xD8\xFF\xE0\0"[..], "found an image (JPEG)"),
        ("d.onnx", b"\x08\x08", "found an ONNX graph, which Vitral writes but does not read"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let error = load_description(&file, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    fs::write(folder.path().join("config.json"), r#"{"model_type": "vit"}"#).unwrap();
    let error = load_description(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("no weights; expected one of `model.safetensors`"), "{error}");
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"a": "../../etc/passwd"}}"#).unwrap();
    let error = Container::open(&index).unwrap_err().to_string();
    assert!(error.contains("not a file beside the index"), "{error}");
}

#[test]
fn a_bundle_is_read_with_our_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"format": 2, "name": "mine", "license": "MIT", "labels": ["a", "b"],
        "preprocess": {"mean": [0.5]},
        "model": {"depth": 0, "width": 2, "heads": 1, "head_width": 2, "classes": 2, "positions": "none",
                  "patch_size": 1, "channels": 1, "final_norm": false}}"#;
    fs::write(folder.path().join("vitral.json"), config).unwrap();
    let bytes: Vec<u8> = (0..12).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let view = |shape: &[usize], from: usize, to: usize| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes[from * 4..to * 4]).unwrap()
    };
    let tensors = [
        ("patches.weight", view(&[2, 1], 0, 2)),
        ("patches.bias", view(&[2], 2, 4)),
        ("tokens.class", view(&[2], 4, 6)),
        ("head.weight", view(&[2, 2], 6, 10)),
        ("head.bias", view(&[2], 10, 12)),
    ];
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
    let description = load_description(folder.path(), None).unwrap();
    assert_eq!((description.name.as_str(), description.license.as_deref()), ("mine", Some("MIT")));
    let container = description.open().unwrap();
    let specs = specs_of(&description.config);
    let options = ResolveOptions::for_model(&description.config);
    let assignment = resolve(&specs, &dialect(&description, &container), &container, &options).unwrap();
    assert_eq!(*assignment.read("head.weight").unwrap(), [6.0, 7.0, 8.0, 9.0]);
}

#[test]
fn bundles_of_the_first_format_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let written = |format: u32, license: &str, gray: &str, center: &str, normalize: &str| {
        let config = format!(
            r#"{{"format": {format}, "{license}": "MIT", "model": {{"channels": 1}}, "preprocess": {{"channels": "{gray}",
            "steps": [{{"{center}": {{"size": 224, "halving": "even", "fill": [0, 0, 0]}}}}], "rescale": "divide255",
            "{normalize}": {{"mean": [0.5], "std": [0.5]}}}}}}"#
        );
        fs::write(folder.path().join("vitral.json"), config).unwrap();
        fs::write(folder.path().join("model.safetensors"), []).unwrap();
        load_description(folder.path(), None)
    };
    let of = |description: vitral::weights::Description| {
        let preprocess = description.preprocess.read().expect("preprocessing").expect("in order");
        (description.license, format!("{preprocess:?}"))
    };
    let new = of(written(2, "license", "gray", "center-crop", "normalize").expect("format 2"));
    assert_eq!(of(written(1, "licence", "grey", "centre-crop", "normalise").expect("format 1")), new);
    let error = written(4, "license", "gray", "center-crop", "normalize").expect_err("format 4").to_string();
    assert!(error.contains("expected format 1, 2 or 3, found 4; use a newer Vitral"), "{error}");
}
