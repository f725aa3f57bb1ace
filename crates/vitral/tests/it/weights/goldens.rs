//! Every golden model is described, opened and resolved completely.

use std::borrow::Cow;

use vitral::weights::{Container, Dialect, PreprocessSource, ResolveOptions, load_description, recognize, resolve};

use super::{cases, describe, dialect, goldens, specs_of};

#[test]
fn every_model_resolves_strictly() {
    let mut faults = Vec::new();
    for case in cases() {
        let description = describe(&case);
        let container = description.open().unwrap_or_else(|error| panic!("{case}: {error}"));
        let specs = specs_of(&description.config);
        let options = ResolveOptions::for_model(&description.config);
        match resolve(&specs, &dialect(&description, &container), &container, &options) {
            Err(error) => faults.push(format!("{case}: {error}")),
            Ok(assignment) => {
                for spec in &specs {
                    let values = assignment.read(&spec.name).unwrap();
                    assert_eq!(values.len(), spec.shape.iter().product::<usize>(), "{case}: {}", spec.name);
                }
                assignment.check_finite().unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn dialects_are_recognized_by_their_names() {
    for case in cases() {
        let description = describe(&case);
        let container = description.open().unwrap();
        let specs = specs_of(&description.config);
        let options = ResolveOptions::for_model(&description.config);
        let found = recognize(&specs, &container, &options).unwrap_or_else(|error| panic!("{case}: {error}"));
        // If two dialects name all of a model's tensors alike, either is fine.
        resolve(&specs, &found, &container, &options).unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

#[test]
fn every_dialect_has_a_golden() {
    let mut without: Vec<&str> = Dialect::built_in().iter().map(Dialect::name).collect();
    for case in cases() {
        let description = describe(&case);
        let container = description.open().unwrap();
        let used = dialect(&description, &container);
        without.retain(|name| *name != used.name());
    }
    assert!(without.is_empty(), "dialects without a golden: {without:?}");
}

#[test]
fn the_same_model_in_every_container() {
    let read = |case: &str| {
        let description = describe(case);
        let container = description.open().unwrap();
        let specs = specs_of(&description.config);
        let options = ResolveOptions::for_model(&description.config);
        let dialect = dialect(&description, &container);
        let assignment = resolve(&specs, &dialect, &container, &options).unwrap();
        specs.iter().map(|spec| assignment.read(&spec.name).unwrap().into_owned()).collect::<Vec<_>>()
    };
    let folder = goldens().join("models/torchvision_plain");
    let (zip, safe) = (folder.join("model.pth"), folder.join("model.safetensors"));
    let (zip, safe) = (Container::open(&zip).unwrap(), Container::open(&safe).unwrap());
    assert_eq!(zip.names().collect::<Vec<_>>(), safe.names().collect::<Vec<_>>());
    for name in safe.names() {
        let (ours, theirs) = (zip.tensor(name).unwrap(), safe.tensor(name).unwrap());
        assert_eq!((ours.shape, &ours.bytes), (theirs.shape, &theirs.bytes), "{name}");
        assert!(matches!(ours.bytes, Cow::Borrowed(_)), "{name} was copied");
    }
    // These cases have different weights; the number of values must match.
    for case in ["hf_vit_sharded", "hf_vit_pytorch_bin", "hf_vit_bfloat16"] {
        let sizes = |values: Vec<Vec<f32>>| values.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(read(case)), sizes(read("hf_vit_classifier")), "{case}");
    }
}

#[test]
fn sections_and_wrappers() {
    let folder = goldens().join("models");
    let lightning = Container::open(&folder.join("torchvision_wrapped/model.pth")).unwrap();
    assert_eq!(lightning.section(), Some("state_dict"));
    assert!(lightning.contains("class_token"));
    let compiled = Container::open(&folder.join("lucidrains_compiled/model.pth")).unwrap();
    assert_eq!(compiled.section(), Some("model"));
    assert!(compiled.contains("pos_embedding"));
    let error = Container::open_section(&folder.join("lucidrains_compiled/model.pth"), Some("ema")).unwrap_err();
    assert!(error.to_string().contains("no `ema`") && error.to_string().contains("`model`"), "{error}");
}

#[test]
fn float32_weights_are_borrowed() {
    let description = describe("timm_plain");
    let container = description.open().unwrap();
    let specs = specs_of(&description.config);
    let options = ResolveOptions::for_model(&description.config);
    let assignment = resolve(&specs, &dialect(&description, &container), &container, &options).unwrap();
    let borrowed = specs.iter().filter(|spec| matches!(assignment.read(&spec.name), Ok(Cow::Borrowed(_)))).count();
    assert_eq!(borrowed, specs.len());
}

#[test]
fn descriptions_carry_labels_preprocessing_and_license() {
    let vit = describe("hf_vit_classifier");
    assert_eq!(vit.labels.as_deref().map(|labels| labels[3].as_str()), Some("class 3"));
    assert!(matches!(vit.preprocess, PreprocessSource::HuggingFace { .. }));
    let timm = describe("timm_plain");
    assert!(matches!(timm.preprocess, PreprocessSource::Timm(_)));
    assert_eq!(timm.license.as_deref(), Some("apache-2.0"));
    assert!(matches!(describe("lucidrains_cls").preprocess, PreprocessSource::Absent));
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn checkpoints_from_elsewhere_resolve_with_shared_data() {
    let data = crate::shared_data("tiny-vits");
    for (name, file) in [
        ("mnist_torchvision_p2", "vit_weights.pth"),
        ("mnist_lucid_p4", "vit_mnist_gpu.pt"),
        ("fashion_prenorm_p4", "best_vit_model.pth"),
        ("cifar10_prenorm_p4", "best_vit.pth"),
    ] {
        let config = goldens().join("tiny-vits").join(format!("{name}.json"));
        let description = load_description(&data.join(name).join(file), Some(&config)).unwrap();
        let container = description.open().unwrap();
        let specs = specs_of(&description.config);
        let options = ResolveOptions::for_model(&description.config);
        let assignment = resolve(&specs, &dialect(&description, &container), &container, &options);
        assignment.unwrap_or_else(|error| panic!("{name}: {error}")).check_finite().unwrap();
    }
}
