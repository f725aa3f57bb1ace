//! Models as ONNX files: what they hold, what is refused, and what damaged files do. What the graphs compute is compared with
//! the models in `src/onnx/tests.rs`, and with other people's runtimes by `tools/onnx/check.py`.

use std::path::{Path, PathBuf};

use vitral::config::Size;
use vitral::onnx::{Contents, OnnxError, OnnxOptions, Opset, convert, export, inspect};
use vitral::weights::WeightsError;
use vitral::weights::export::ExportSource;
use vitral::{DType, Device, LoadOptions, Model};

use crate::weights::goldens;

fn golden(name: &str) -> PathBuf {
    goldens().join("models").join(name)
}

fn options() -> OnnxOptions {
    OnnxOptions::default()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Exports a golden and reads it back.
fn exported(name: &str, options: &OnnxOptions) -> Contents {
    let folder = folder();
    let path = folder.path().join("model.onnx");
    convert(&golden(name), &path, options).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    inspect(&path).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// Asserts that a folder holds nothing.
fn assert_empty(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    assert!(left.is_empty(), "{left:?} was left behind");
}

#[test]
fn constants_have_the_names_of_parameters() {
    let contents = exported("timm_plain", &options());
    for (name, extents) in [
        ("patches.weight", vec![24, 3, 8, 8]),
        ("blocks.0.attention.qkv.weight", vec![24, 72]),
        ("blocks.1.mlp.down.bias", vec![24]),
        ("tokens.table", vec![17, 24]),
        ("head.weight", vec![5, 24]),
    ] {
        assert_eq!(contents.constants.get(name), Some(&(extents, "f32")), "{name}");
    }
    let outputs: Vec<&str> = contents.outputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(outputs, ["logits", "features"]);
    // One product for queries, keys and values, one for each linear map, two for attention.
    assert_eq!(contents.operators["MatMul"], 2 * (4 + 2));
    assert_eq!((contents.operators["LayerNormalization"], contents.operators["Gemm"]), (5, 1));
}

#[test]
fn operators_are_those_of_the_set() {
    for (opset, gelu, rms) in [(Opset::V17, false, false), (Opset::V20, true, false), (Opset::V23, true, true)] {
        let contents = exported("timm_parallel_scaling_rms", &options().opset(opset));
        assert_eq!(contents.opset, opset.number());
        let has = |operator: &str| contents.operators.contains_key(operator);
        let found = (has("Gelu"), has("Erf"), has("RMSNormalization"), has("Attention"));
        assert_eq!(found, (gelu, !gelu, rms, rms), "opset {opset}");
    }
    assert_eq!("20".parse(), Ok(Opset::V20));
    let said = "18".parse::<Opset>().unwrap_err();
    assert_eq!(said, "expected opset 17, 20 or 23, found `18`");
}

#[test]
fn a_graph_says_where_it_comes_from_and_what_it_takes() {
    let contents = exported("hf_vit_classifier", &options());
    let entry = |key: &str| contents.metadata[key].as_str();
    assert_eq!((entry("source"), entry("image_size"), entry("weights")), ("huggingface-vit", "[32,32]", "f32"));
    assert_eq!((entry("problem"), entry("channels")), ("single-label", "rgb"));
    let labels: Vec<String> = serde_json::from_str(entry("labels")).expect("a list");
    assert_eq!(labels.len(), 5);
    for key in ["mean", "std"] {
        assert_eq!(serde_json::from_str::<Vec<f32>>(entry(key)).expect("numbers").len(), 3);
    }
    let model: serde_json::Value = serde_json::from_str(entry("model")).expect("JSON");
    assert_eq!(model["width"], 24);
    assert!(serde_json::from_str::<serde_json::Value>(entry("preprocess")).expect("JSON").is_object());
}

#[test]
fn sixteen_bits_are_for_matrices_and_take_half_the_room() {
    for (storage, kind) in [(DType::Bf16, "bf16"), (DType::F16, "f16")] {
        let contents = exported("timm_plain", &options().storage(storage));
        for (name, (extents, found)) in &contents.constants {
            let matrix = name.ends_with(".weight") && extents.len() > 1;
            let expected = if matrix { kind } else { found };
            assert_eq!(*found, expected, "{name} {extents:?}");
        }
        assert_eq!(contents.constants["blocks.0.mlp.up.weight"].1, kind);
        assert_eq!((contents.constants["norm.weight"].1, contents.metadata["weights"].as_str()), ("f32", kind));
        // Each is made 32 bits again in the graph.
        assert_eq!(contents.operators["Cast"], 2 * 4 + 2);
    }
    let folder = folder();
    let refused = convert(&golden("timm_plain"), &folder.path().join("a.onnx"), &options().storage(DType::I8));
    assert!(matches!(refused, Err(OnnxError::Storage)), "{refused:?}");
    assert_empty(folder.path());
}

#[test]
fn weights_beside_the_graph_begin_at_pages_and_must_be_there() {
    let folder = folder();
    let [path, data] = ["model.onnx", "model.onnx.data"].map(|name| folder.path().join(name));
    let exported = convert(&golden("timm_plain"), &path, &options().external_data(true)).expect("exported");
    let files: Vec<&Path> = exported.files.iter().map(|(path, _)| path.as_path()).collect();
    assert_eq!(files, [&path, &data]);
    let inside = self::exported("timm_plain", &options());
    assert_eq!(inspect(&path).expect("whole").constants, inside.constants);
    // The graph alone is small, and each constant in the file is where the graph says.
    let bytes = std::fs::read(&data).expect("weights");
    assert!(exported.files[0].1 < 60_000 && bytes.len() > 16 * 4096, "{exported:?}");
    let (_, values) = Model::load(golden("timm_plain"), &LoadOptions::default(), &Device::cpu(1)).unwrap().into_parts();
    let id = values.declarations().find("blocks.0.mlp.up.weight").unwrap();
    let first = values.read(id).unwrap()[0].to_le_bytes();
    assert!(bytes.chunks(4096).any(|page| page[..4] == first), "no page begins with the matrix");

    for damage in [&bytes[..bytes.len() - 1], b""] {
        std::fs::write(&data, damage).expect("written");
        let said = inspect(&path).unwrap_err().to_string();
        assert!(said.contains("cannot be read"), "{said}");
    }
    std::fs::remove_file(&data).expect("removed");
    assert!(matches!(inspect(&path), Err(OnnxError::NotWhole { .. })));
    // A place outside of the folder is not read.
    let text = std::fs::read(&path).expect("a graph");
    let moved: Vec<u8> = replaced(&text, b"model.onnx.data", b"../../etc/a.dat");
    std::fs::write(&path, moved).expect("written");
    let said = inspect(&path).unwrap_err().to_string();
    assert!(said.contains("is not in a file beside the graph"), "{said}");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = out[at..].windows(from.len()).position(|window| window == from) {
        out[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    assert!(at > 0, "nothing to replace");
    out
}

#[test]
fn images_have_the_size_of_the_preprocessing_or_the_one_that_is_asked_for() {
    let size = |name: &str, options: &OnnxOptions| {
        let contents = exported(name, options);
        let [_, _, height, width] = contents.inputs[0].1[..] else { panic!("an image") };
        (Size { height: height.unwrap(), width: width.unwrap() }, contents.constants["tokens.table"].0[0])
    };
    let asked = Size { height: 48, width: 24 };
    assert_eq!(size("timm_plain", &options()), (Size::square(32), 17));
    // A model that takes one size is brought to another, as `convert` does for other libraries.
    assert_eq!(size("timm_plain", &options().image_size(asked)), (asked, 1 + 6 * 3));
    assert_eq!(size("timm_dynamic_size", &options().image_size(asked)), (asked, 1 + 6 * 3));
    // Zeros make the patches at the border whole.
    let odd = Size { height: 37, width: 29 };
    assert_eq!(size("timm_dynamic_pad", &options().image_size(odd)), (odd, 1 + 5 * 4));

    let scratch = folder();
    for (name, asked) in [("timm_plain", 30), ("hf_vit_classifier", 33), ("timm_dynamic_size", 4)] {
        let path = scratch.path().join("model.onnx");
        let refused = convert(&golden(name), &path, &options().image_size(Size::square(asked)));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("do not divide into patches of 8: resize them to a multiple"), "{name}: {said}");
        assert_empty(scratch.path());
    }
    let small = scratch.path().join("dinov2");
    std::fs::create_dir(&small).unwrap();
    for file in std::fs::read_dir(golden("hf_dinov2_model")).unwrap().flatten() {
        let text = std::fs::read(file.path()).unwrap();
        let text = if file.file_name() == "preprocessor_config.json" {
            let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            value["crop_size"] = serde_json::json!({ "height": 16, "width": 16 });
            value.to_string().into_bytes()
        } else {
            text
        };
        std::fs::write(small.join(file.file_name()), text).unwrap();
    }
    let path = scratch.path().join("small.onnx");
    assert_eq!(convert(&small, &path, &options()).expect("exported").image_size, Size::square(16));
}

#[test]
fn nothing_is_overwritten_or_left_behind() {
    let scratch = folder();
    let at = |name: &str| scratch.path().join(name);
    let to = |path: &Path, options: &OnnxOptions| convert(&golden("timm_plain"), path, options).unwrap_err();
    let said = to(&at("missing/model.onnx"), &options()).to_string();
    assert!(said.contains("found no folder") && said.contains("make it first"), "{said}");
    for path in [at(".."), PathBuf::from("/"), PathBuf::new()] {
        assert!(matches!(to(&path, &options()), OnnxError::NoName { .. }), "{}", path.display());
    }
    assert_empty(scratch.path());
    for taken in ["model.onnx", "model.onnx.data"] {
        std::fs::write(at(taken), "mine").unwrap();
        let said = to(&at("model.onnx"), &options()).to_string();
        assert!(said.contains("already exists and is not overwritten"), "{said}");
        assert_eq!(std::fs::read(at(taken)).unwrap(), b"mine");
        std::fs::remove_file(at(taken)).unwrap();
    }

    // What breaks off in between leaves nothing.
    let model = Model::load(golden("timm_plain"), &LoadOptions::default(), &Device::cpu(1)).unwrap();
    let (source, size) = (model.exported(), Size::square(32));
    let broken = ExportSource {
        read: Box::new(|spec| match spec.name.as_str() {
            "head.weight" => Err(WeightsError::NotAssigned(spec.name.clone())),
            "head.bias" => Ok(vec![f32::NAN; spec.count()].into()),
            _ => Ok(vec![1e30; spec.count()].into()),
        }),
        ..model.exported()
    };
    for external in [false, true] {
        let options = options().external_data(external);
        let fault = export(&broken, "timm", size, &at("model.onnx"), &options).unwrap_err();
        assert!(fault.to_string().contains("`head."), "{fault}");
        assert_empty(scratch.path());
    }
    let half = ExportSource { storage: DType::F16, ..broken };
    let said = export(&half, "timm", size, &at("model.onnx"), &options()).unwrap_err().to_string();
    assert!(said.contains("beyond what 16-bit floats"), "{said}");
    assert_empty(scratch.path());

    // A model that was loaded is written as one that was not.
    export(&source, model.dialect(), size, &at("a.onnx"), &options()).expect("exported");
    convert(&golden("timm_plain"), &at("b.onnx"), &options()).expect("exported");
    assert!(std::fs::read(at("a.onnx")).unwrap() == std::fs::read(at("b.onnx")).unwrap());
}

#[test]
fn damaged_graphs_are_refused_or_read_and_never_panic() {
    let scratch = folder();
    let path = scratch.path().join("model.onnx");
    for (name, opset) in [("timm_plain", Opset::V17), ("timm_dinov3", Opset::V23), ("timm_bit", Opset::V20)] {
        let _ = std::fs::remove_file(&path);
        convert(&golden(name), &path, &options().opset(opset)).expect("exported");
        let bytes = std::fs::read(&path).unwrap();
        // Nodes come first, the values of constants last.
        let graph = bytes.len().min(24_000);
        let mut state = 7u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..600 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + round % 3 {
                damaged[draw(graph)] = draw(256) as u8;
            }
            if round % 10 == 0 {
                damaged.truncate(draw(bytes.len()));
            }
            std::fs::write(&path, &damaged).unwrap();
            let _ = inspect(&path);
        }
    }
    std::fs::write(&path, "no graph").unwrap();
    assert!(matches!(inspect(&path), Err(OnnxError::NotWhole { .. })));
}
