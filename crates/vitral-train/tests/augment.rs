//! Augmentation compared with Pillow, timm and torchvision (`tools/golden/augment.py`), and its own guarantees.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::Value;
use vitral::config::Size;
use vitral::image::{Filter, RgbImage};
use vitral::numbers::apart;
use vitral_train::augment::{Augment, Blend, Choice, Crop, Mixing, Operation, Padding, Policy, RandomResized, mixed};
use vitral_train::draws::Draws;
use vitral_train::labeling::Labeling;

struct Golden {
    record: Value,
    bytes: Vec<u8>,
}

impl Golden {
    fn read() -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/augment");
        let text = std::fs::read_to_string(folder.join("cases.json")).expect("a committed golden");
        let bytes = std::fs::read(folder.join("expected.safetensors")).expect("a committed golden");
        Golden { record: serde_json::from_str(&text).expect("JSON"), bytes }
    }

    fn bytes(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        let view = file.tensor(name).unwrap_or_else(|_| panic!("a tensor {name}"));
        (view.shape().to_vec(), view.data().to_vec())
    }

    fn floats(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, bytes) = self.bytes(name);
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        (shape, bytes.chunks_exact(4).map(number).collect())
    }

    fn cases(&self, key: &str) -> &[Value] {
        self.record[key].as_array().expect("a list")
    }

    fn image(&self) -> RgbImage {
        let (shape, pixels) = self.bytes("image");
        RgbImage::new(shape[1], shape[0], pixels).expect("an image")
    }
}

#[test]
fn operations_equal_pillow() {
    let golden = Golden::read();
    let fill = serde_json::from_value(golden.record["fill"].clone()).expect("a color");
    for (index, case) in golden.cases("operations").iter().enumerate() {
        let operation: Operation = serde_json::from_value(case["operation"].clone()).expect("an operation");
        let filter = Filter::from_name(case["filter"].as_str().expect("a word")).expect("a filter");
        let ours = operation.apply(golden.image(), filter, fill);
        let (_, theirs) = golden.bytes(&format!("operation.{index}"));
        let differences: Vec<u8> = ours.pixels().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
        let wrong = differences.iter().filter(|&&d| d > 0).count();
        // Pillow's nearest neighbor uses 16-bit fractions: a pixel on an edge may round differently.
        let allowed = if filter == Filter::Nearest { theirs.len() / 200 } else { 0 };
        let most = differences.iter().max();
        assert!(wrong <= allowed, "{operation:?} {filter}: {wrong} of {} levels, up to {most:?}", theirs.len());
    }
}

#[test]
fn mixed_chains_equal_timm() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/augment");
    let text = std::fs::read_to_string(folder.join("augmix.json")).expect("a committed golden");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    let bytes = std::fs::read(folder.join("augmix.safetensors")).expect("a committed golden");
    let (golden, mixed_by_timm) = (Golden::read(), Golden { record, bytes });
    let fill = serde_json::from_value(golden.record["fill"].clone()).expect("a color");
    for (index, case) in mixed_by_timm.cases("cases").iter().enumerate() {
        let chain = |links: &Value| -> Vec<(Operation, Filter)> {
            let link = |link: &Value| {
                let operation = serde_json::from_value(link["operation"].clone()).expect("an operation");
                (operation, Filter::from_name(link["filter"].as_str().expect("a word")).expect("a filter"))
            };
            links.as_array().expect("links").iter().map(link).collect()
        };
        let weights = case["weights"].as_array().expect("weights").iter();
        let weights = weights.map(|weight| weight.as_f64().expect("a number") as f32);
        let chains = weights.zip(case["chains"].as_array().expect("chains").iter().map(chain)).collect::<Vec<_>>();
        let share = case["share"].as_f64().expect("a number") as f32;
        let ours = mixed(&golden.image(), &chains, share, fill);
        let (_, theirs) = mixed_by_timm.bytes(&format!("mixed.{index}"));
        assert_eq!(ours.pixels(), theirs, "case {index}");
    }
}

#[test]
fn magnitudes_equal_timm() {
    let golden = Golden::read();
    for case in golden.cases("levels") {
        let choice = match case["choice"].as_str().expect("a word") {
            "Posterize" => Choice::Posterize,
            "Solarize" => Choice::Solarize,
            "SolarizeAdd" => Choice::SolarizeAdd,
            "Rotate" => Choice::Rotate,
            "Color" => Choice::Color,
            "Contrast" => Choice::Contrast,
            "Brightness" => Choice::Brightness,
            "Sharpness" => Choice::Sharpness,
            "ShearX" => Choice::ShearX,
            "ShearY" => Choice::ShearY,
            "TranslateXRel" => Choice::TranslateXRel,
            _ => Choice::TranslateYRel,
        };
        let flag = |key: &str| case[key].as_bool().expect("a flag");
        let magnitude = case["magnitude"].as_f64().expect("a number");
        let ours = choice.at(magnitude, flag("increasing"), flag("negative"));
        let ours = serde_json::to_value(ours).expect("plain data");
        let number =
            |value: &Value| value.as_object().and_then(|map| map.values().next()?.as_f64()).expect("one number");
        let keys = |value: &Value| value.as_object().expect("an operation").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&case["operation"]));
        assert!((number(&ours) - number(&case["operation"])).abs() < 1e-12, "{case}: {ours}");
    }
}

#[test]
fn crop_windows_equal_torchvision() {
    let golden = Golden::read();
    for case in golden.cases("windows") {
        let pair = |key: &str| serde_json::from_value::<[f64; 2]>(case[key].clone()).expect("two numbers");
        let side = |key: &str| case[key].as_u64().expect("a number") as usize;
        let crop = RandomResized { scale: pair("scale"), ratio: pair("ratio"), filter: Filter::Bilinear };
        let draws: Vec<f64> = serde_json::from_value(case["draws"].clone()).expect("numbers");
        let mut draws = draws.into_iter();
        let of = Size { height: side("height"), width: side("width") };
        let window = crop.window(of, &mut || draws.next().expect("a number"));
        let ours = [window.top, window.left, window.size.height, window.size.width];
        assert_eq!(serde_json::json!(ours), case["window"], "{of}");
    }
}

#[test]
fn mixes_equal_timm() {
    let golden = Golden::read();
    for (index, case) in golden.cases("mixes").iter().enumerate() {
        let (shape, mut pixels) = golden.floats(&format!("mix.{index}.pixels"));
        let shape: [usize; 4] = shape.try_into().expect("four extents");
        let keep = case["keep"].as_f64().expect("a number");
        let blend = match serde_json::from_value::<Option<[usize; 2]>>(case["center"].clone()).expect("a place") {
            None => Blend::Mixup { keep },
            Some(center) => Blend::cutmix([shape[2], shape[3]], keep, center),
        };
        let smoothing = case["smoothing"].as_f64().expect("a number") as f32;
        let augment = Augment { label_smoothing: smoothing, ..Augment::default() };
        let mut targets = Vec::new();
        for label in case["labels"].as_array().expect("labels") {
            augment.target(&[label.as_u64().expect("a label") as usize], 7, Labeling::One, &mut targets);
        }
        blend.apply(shape, &mut pixels, &mut targets);
        for (name, ours) in [("mixed", &pixels), ("targets", &targets)] {
            let (_, theirs) = golden.floats(&format!("mix.{index}.{name}"));
            let far = apart(ours, &theirs);
            assert!(ours.len() == theirs.len() && far < 2e-7, "mix {index}: {name} differ by {far}");
        }
    }
}

#[test]
fn valid_settings_are_read_and_invalid_ones_refused() {
    let read = |text: &str| serde_json::from_str::<Augment>(text);
    let full = r#"{"crop": {"kind": "random-resized", "scale": [0.2, 1.0]}, "horizontal_flip": 0.5,
        "policy": "rand-m9-mstd0.5-inc1", "erasing": {"probability": 0.25, "filling": "pixel"},
        "mixing": {"mixup": 0.8, "cutmix": 1.0}, "label_smoothing": 0.1}"#;
    let augment = read(full).expect("a whole description");
    augment.check().expect("in range");
    let Some(Policy::Rand(rand)) = augment.policy else { panic!("RandAugment") };
    assert_eq!((rand.magnitude, rand.deviation, rand.count, rand.increasing), (9.0, 0.5, 2, true));
    let written = serde_json::to_string(&augment).expect("plain data");
    assert_eq!(read(&written).expect("what was written"), augment);
    for wrong in [
        r#"{"crops": 3}"#,
        r#"{"policy": "rand-q3"}"#,
        r#"{"policy": "random"}"#,
        r#"{"crop": {"kind": "padded", "pixel": 4}}"#,
        r#"{"erasing": {"filling": "noise"}}"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    for wrong in [
        r#"{"horizontal_flip": 1.5}"#,
        r#"{"repeats": 0}"#,
        r#"{"crop": {"kind": "random-resized", "scale": [1.0, 0.1]}}"#,
        r#"{"mixing": {"mixup": -1.0}}"#,
    ] {
        assert!(read(wrong).expect("valid syntax").check().is_err(), "{wrong}");
    }
}

#[test]
fn every_policy_and_crop_accepts_images_of_any_size() {
    let size = Size { height: 16, width: 12 };
    let crops = [
        Crop::RandomResized(RandomResized::default()),
        Crop::Padded(Padding::default()),
        Crop::Padded(Padding { reflect: true, ..Padding::default() }),
    ];
    for (width, height) in [(1, 1), (2, 1), (1, 3), (20_000, 20), (3, 4000), (40, 31)] {
        let pixels = (0..width * height * 3).map(|at| (at * 7 % 256) as u8).collect();
        let image = RgbImage::new(width, height, pixels).expect("an image");
        for crop in crops {
            for policy in
                ["rand-m9-mstd0.5-inc1", "rand-m15-n3-mstd101-mmax20-p1", "augmix-m3-w3", "auto", "trivial", "three"]
            {
                let policy = Policy::try_from(policy.to_owned()).expect("a policy");
                let augment = Augment { crop: Some(crop), policy: Some(policy), ..Augment::default() };
                for index in 0..20 {
                    let mut draws = Draws::new(1, 0, index);
                    let cut = augment.cut(&image, size, &mut draws).expect("a crop");
                    assert_eq!(augment.alter(cut, &mut draws).size(), size);
                }
            }
        }
    }
}

#[test]
fn mixing_draws_both_mixup_and_cutmix() {
    let mixing = Mixing { mixup: 0.8, cutmix: 1.0, probability: 0.8, ..Mixing::default() };
    let mut counts = [0i32; 3];
    for index in 0..4000 {
        let blend = mixing.draw([32, 32], &mut Draws::new(2, 0, index));
        counts[match blend {
            None => 0,
            Some(Blend::Mixup { .. }) => 1,
            Some(Blend::Cutmix { .. }) => 2,
        }] += 1;
        let share = blend.map_or(1.0, |blend| blend.share([32, 32]));
        assert!((0.0..=1.0).contains(&share), "{blend:?}");
    }
    for (count, expected) in counts.into_iter().zip([800, 1600, 1600]) {
        assert!((count - expected).abs() < 120, "{counts:?}");
    }
}
