//! Models exported to other libraries and back.

use std::collections::BTreeMap;
use std::path::Path;

use vitral::config::{Pooling, Positions, Size};
use vitral::weights::adapt::{Adaptation, HeadChoice};
use vitral::weights::error::Difference;
use vitral::weights::export::{self, ConvertOptions, ExportSource, Target, export};
use vitral::weights::{Container, ResolveOptions, WeightsError, load_description, resolve};
use vitral::{DType, Device, LoadOptions, Model};

use super::{cases, dialect, goldens, specs_of};

/// Converts with everything but the image size.
fn convert(
    source: &Path,
    config: Option<&Path>,
    destination: &Path,
    target: Target,
    allow: &[String],
    storage: DType,
) -> Result<Vec<Difference>, WeightsError> {
    let options = ConvertOptions::default().config(config.map(Path::to_owned)).allow(allow).storage(storage);
    export::convert(source, destination, target, &options)
}

/// The bits of every parameter.
fn bits(path: &Path, config: Option<&Path>) -> BTreeMap<String, Vec<u32>> {
    let description = load_description(path, config).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let container = description.open().unwrap();
    let specs = specs_of(&description.config);
    let options = ResolveOptions::for_model(&description.config);
    let assignment = resolve(&specs, &dialect(&description, &container), &container, &options)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read = |name: &str| assignment.read(name).unwrap().iter().map(|value| value.to_bits()).collect();
    specs.iter().map(|spec| (spec.name.clone(), read(&spec.name))).collect()
}

/// How the model at a path pools its tokens, and its kind of positions.
fn form(path: &Path, config: Option<&Path>) -> (Pooling, Positions) {
    let config = load_description(path, config).unwrap().config;
    (config.pooling, config.positions)
}

#[test]
fn every_golden_exports_to_its_own_library_and_a_bundle() {
    let scratch = tempfile::tempdir().unwrap();
    let (mut faults, mut written) = (Vec::new(), BTreeMap::<&str, usize>::new());
    for case in cases() {
        let source = goldens().join("models").join(&case);
        let own = source.join("vitral-config.json");
        let config = own.is_file().then_some(own.as_path());
        let original = bits(&source, config);
        for target in Target::ALL {
            let destination = scratch.path().join(format!("{case}-{target}"));
            // One hybrid is not from a library: no architecture of timm has its stages.
            let home = match target {
                Target::HuggingFace => case.starts_with("hf_"),
                // Published architectures fix a hybrid's stem, and these are narrower.
                Target::Timm => {
                    case.starts_with("timm_") && !matches!(case.as_str(), "timm_hybrid_stages" | "timm_hybrid_resnet_d")
                }
                Target::Jax => case.starts_with("jax_") || case.starts_with("big_vision"),
                Target::BigVision => case.starts_with("big_vision"),
                Target::Torchvision => case.starts_with("torchvision_"),
                Target::Bundle => true,
            };
            match convert(&source, config, &destination, target, &[], DType::F32) {
                Ok(_) => {
                    *written.entry(target.name()).or_default() += 1;
                    let (mut written, mut original) = (bits(&destination, None), original.clone());
                    // A classifier of the class token may become one of more features, and the token's position part of
                    // the token: other tests compare the outputs.
                    if form(&destination, None) != form(&source, config) {
                        for name in ["head.weight", "tokens.class", "positions"] {
                            written.remove(name);
                            original.remove(name);
                        }
                    }
                    if written != original {
                        faults.push(format!("{case} to {target}: values differ"));
                    }
                }
                Err(error) => {
                    assert!(!destination.exists(), "{case} to {target} left something behind");
                    if home {
                        faults.push(format!("{case} to {target}: {error}"));
                    } else if !matches!(error, WeightsError::Inexpressible { .. }) {
                        faults.push(format!("{case} to {target}: an unexpected {error}"));
                    }
                }
            }
        }
    }
    println!("{written:?}");
    if let Some(keep) = std::env::var_os("VITRAL_KEEP_EXPORTS") {
        std::fs::rename(scratch.keep(), keep).unwrap();
        return assert!(faults.is_empty(), "{faults:?}");
    }
    let left = std::fs::read_dir(scratch.path()).unwrap().flatten();
    let partial: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains("part")).collect();
    assert!(partial.is_empty(), "{partial:?}");
    assert!(faults.is_empty(), "{} errors:\n{}", faults.len(), faults.join("\n"));
}

/// Exports golden models from one library to the next and checks that their outputs keep their bits.
fn keep_the_bits(cases: &[&str], targets: &[Target], allow: &[&str]) {
    let scratch = tempfile::tempdir().unwrap();
    let allow: Vec<String> = allow.iter().map(|&name| name.to_owned()).collect();
    for case in cases {
        let mut at = goldens().join("models").join(case);
        let original = bits(&at, None);
        for (step, &target) in targets.iter().enumerate() {
            let next = scratch.path().join(format!("{case}-{step}"));
            convert(&at, None, &next, target, &allow, DType::F32)
                .unwrap_or_else(|error| panic!("{case} to {target}: {error}"));
            assert_eq!(bits(&next, None), original, "{case} after {target}");
            at = next;
        }
    }
}

#[test]
fn round_trips_through_all_libraries_keep_the_bits() {
    use Target::{Bundle, HuggingFace, Jax, Timm, Torchvision};
    keep_the_bits(
        &["hf_vit_classifier", "timm_plain", "jax_vit", "torchvision_plain"],
        &[HuggingFace, Timm, Jax, Torchvision, Bundle, Jax, HuggingFace],
        &["activation", "norm_epsilon", "preprocess", "labels"],
    );
}

#[test]
fn beit_and_dinov3_keep_the_bits_between_hugging_face_and_timm() {
    use Target::{Bundle, HuggingFace, Timm};
    keep_the_bits(
        &["hf_beit_classifier", "hf_beit_shared", "timm_beit", "timm_eva", "hf_dinov3_model", "timm_dinov3_qkvb"],
        &[Timm, HuggingFace, Bundle, Timm],
        &["preprocess", "labels", "norm_epsilon"],
    );
}

#[test]
fn big_vision_stacks_its_blocks() {
    let scratch = tempfile::tempdir().unwrap();
    let source = goldens().join("models/big_vision_map");
    let file = scratch.path().join("stacked.npz");
    convert(&source, None, &file, Target::BigVision, &[], DType::F32).unwrap();
    let [ours, theirs] = [file, source.join("model.npz")].map(|file| Container::open(&file).unwrap());
    for name in ours.names() {
        // In the golden, the image tower is beside the text tower.
        let golden = format!("params/img/{name}");
        assert_eq!(ours.shape(name), theirs.shape(&golden), "{name}");
        assert_eq!(ours.tensor(name).unwrap().bytes, theirs.tensor(&golden).unwrap().bytes, "{name}");
    }
    assert_eq!(ours.shape("Transformer/encoderblock/LayerNorm_0/scale").unwrap()[0], 2);
}

#[test]
fn what_a_target_cannot_express_is_reported_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let refuse = |case: &str, target, parts: &[&str]| {
        let source = goldens().join("models").join(case);
        let error =
            convert(&source, None, &scratch.path().join("out"), target, &[], DType::F32).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{case} to {target}: {error}");
        }
        assert!(!scratch.path().join("out").exists());
    };
    refuse("hf_vit_classifier", Target::Timm, &["timm cannot express", "`norm_epsilon`", "1e-12"]);
    refuse("timm_registers", Target::Torchvision, &["`tokens.registers`: the model has [3, 24] values"]);
    refuse("timm_qk_norm", Target::HuggingFace, &["query_norm.weight`"]);
    refuse("timm_plain", Target::Jax, &["`activation`", "gelu-tanh"]);
    refuse("jax_vit", Target::BigVision, &["big_vision cannot express", "`positions`"]);
    refuse("jax_vit_pre_logits", Target::HuggingFace, &["pre_logits"]);
    refuse("hf_beit_model", Target::Timm, &["timm cannot express", "`norm_epsilon`", "1e-12"]);
    refuse("timm_beit_rectangular", Target::HuggingFace, &["`image_size`", "24×40", "a square"]);
    refuse("timm_beit_swiglu", Target::HuggingFace, &["mlp.norm.weight`"]);
    refuse("timm_beit", Target::Torchvision, &["relative_positions`"]);
    refuse("hf_dinov3_key_bias", Target::Timm, &["`preprocess`", "without rounding"]);
    refuse("hf_siglip2_vision_wide", Target::Timm, &["`preprocess`", "at most 16 patches"]);
    refuse("timm_rope_axial", Target::HuggingFace, &["head.weight`"]);
    refuse("timm_dinov3", Target::HuggingFace, &["head.weight`"]);
}

#[test]
fn a_loaded_and_adapted_model_is_written_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let device = Device::cpu(1);
    let adapt = Adaptation {
        image_size: Some(Size::square(48)),
        head: HeadChoice::Zeros { classes: 3 },
        ..Adaptation::default()
    };
    let options = LoadOptions::default().adapt(adapt);
    let model = Model::load(goldens().join("models/timm_plain"), &options, &device).unwrap();
    for target in [Target::Bundle, Target::Timm, Target::HuggingFace] {
        let destination = scratch.path().join(target.name());
        export(&model.exported(), &destination, target, &[]).unwrap();
        let again = Model::load(&destination, &LoadOptions::default(), &device).unwrap();
        assert_eq!(again.vit().config().classes, 3);
        for id in model.parameters().declarations().ids() {
            assert_eq!(again.parameters().read(id), model.parameters().read(id));
        }
    }
}

#[test]
fn a_destination_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let source = goldens().join("models/timm_plain");
    let destination = scratch.path().join("model");
    convert(&source, None, &destination, Target::Bundle, &[], DType::F32).unwrap();
    let error = convert(&source, None, &destination, Target::Bundle, &[], DType::F32).unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    let file = scratch.path().join("model.npz");
    convert(&goldens().join("models/jax_vit"), None, &file, Target::Jax, &[], DType::F32).unwrap();
    assert!(file.is_file());
}

#[test]
fn sixteen_bits_halve_the_file_and_round_every_value() {
    let scratch = tempfile::tempdir().unwrap();
    let source = goldens().join("models/timm_plain");
    let device = Device::cpu(1);
    let model = Model::load(&source, &LoadOptions::default(), &device).unwrap();
    let size = |folder: &Path| std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    for target in [Target::Bundle, Target::Timm] {
        let whole = scratch.path().join(format!("{target}"));
        convert(&source, None, &whole, target, &[], DType::F32).unwrap();
        for (storage, round) in [
            (DType::F16, (|x| half::f16::from_f32(x).to_f32()) as fn(f32) -> f32),
            (DType::Bf16, |x| half::bf16::from_f32(x).to_f32()),
        ] {
            let destination = scratch.path().join(format!("{target}-{storage:?}"));
            convert(&source, None, &destination, target, &[], storage).unwrap();
            assert!(2 * size(&destination) < size(&whole) + 20_000);
            let again = Model::load(&destination, &LoadOptions::default(), &device).unwrap();
            for id in model.parameters().declarations().ids() {
                let expected: Vec<f32> = model.parameters().read(id).unwrap().into_iter().map(round).collect();
                assert_eq!(again.parameters().read(id).unwrap(), expected);
            }
        }
    }
    let npz = scratch.path().join("model.npz");
    let error = convert(&goldens().join("models/jax_vit"), None, &npz, Target::Jax, &[], DType::F16).unwrap_err();
    assert!(error.to_string().contains("float32"), "{error}");
    assert!(!npz.exists());
    // A value out of the range of 16 bits is rejected by its tensor's name.
    let mut exported = ExportSource { storage: DType::F16, ..model.exported() };
    exported.read = Box::new(|spec| Ok(vec![1e6; spec.count()].into()));
    let destination = scratch.path().join("large");
    let error = export(&exported, &destination, Target::Bundle, &[]).unwrap_err().to_string();
    assert!(error.contains("65504") && !destination.exists(), "{error}");
}
