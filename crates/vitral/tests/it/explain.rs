//! Explanations compared with independent implementations, and properties that hold for every model.

use std::ops::ControlFlow;

use vitral::config::Size;
use vitral::explain::attention::Fusion;
use vitral::explain::figures::{self, Gathered, Statistics};
use vitral::explain::rollout::RolloutOptions;
use vitral::explain::{InputImage, Layout, Method, Options, Target, faithfulness, pixels};
use vitral::image::RgbImage;
use vitral::numbers::{apart, largest};
use vitral::{Device, LoadOptions, Model, Tensor};

use crate::parity::{Stored, load};
use crate::weights::goldens;

/// Relative to the largest value.
/// Options with a change.
fn with(mut options: Options, change: impl FnOnce(&mut Options)) -> Options {
    change(&mut options);
    options
}

const TOLERANCE: f32 = 1e-4;
const CLASS: Target = Target::Class(1);

fn cases(stored: &Stored) -> Vec<String> {
    let mut cases: Vec<String> =
        stored.names().iter().filter_map(|name| name.strip_suffix(".chefer")).map(str::to_owned).collect();
    cases.sort();
    cases
}

/// The first image of a golden input as an image. Its content does not matter here.
fn first(model: &Model, all: &Tensor) -> InputImage {
    let size = Size { height: all.extent(2), width: all.extent(3) };
    let one = &all.to_vec().unwrap()[..all.to_vec().unwrap().len() / all.extent(0)];
    let pixels = Device::cpu(1).upload([1, all.extent(1), size.height, size.width], one).unwrap();
    let grid = model.vit().grid(size).expect("the model's size");
    let bytes = vec![128; size.area() * 3];
    let image = RgbImage::new(size.width, size.height, bytes).expect("an image");
    let mut input = InputImage::new(model, "golden", &image).expect("an image");
    input.pixels = pixels;
    input.layout = Layout::new(model.vit().config(), size, grid);
    input
}

struct Compared<'a> {
    stored: &'a Stored,
    case: &'a str,
    worst: f32,
    faults: Vec<String>,
}

impl Compared<'_> {
    fn hold(&mut self, name: &str, found: &[f32]) {
        let name = format!("{}.{name}", self.case);
        let (_, expected) = self.stored.values(&name).unwrap_or_else(|| panic!("no `{name}`"));
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = largest(expected.iter().map(|x| x.abs()).chain([f32::MIN_POSITIVE]));
        let apart = apart(found, &expected) as f32 / scale;
        self.worst = largest([self.worst, apart]);
        // NaN is an error too.
        if apart.is_nan() || apart > TOLERANCE {
            self.faults.push(format!("{name}: {apart:e} of the largest value {scale}"));
        }
    }
}

fn narrow(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|x| x as f32).collect()
}

#[test]
fn maps_and_figures_match_the_goldens() {
    let stored = Stored::open(&goldens().join("explain.safetensors"));
    let cases = cases(&stored);
    assert!(cases.len() >= 7);
    let mut faults = Vec::new();
    for case in &cases {
        let folder = goldens().join("models").join(case);
        let model = load(&folder, &Device::cpu(2));
        let all = Stored::open(&folder.join("input.safetensors")).pixels(&Device::cpu(2));
        let input = first(&model, &all);
        let mut compared = Compared { stored: &stored, case, worst: 0.0, faults: vec![] };
        let map = |method: Method, options: Options| {
            model
                .explain(&input, method, Some(&CLASS), &options, &mut |_| ControlFlow::Continue(()))
                .expect("a map")
                .values
        };
        let plain = Options::default();
        for (name, fusion) in [("mean", Fusion::Mean), ("max", Fusion::Max), ("min", Fusion::Min)] {
            compared.hold(&format!("rollout.{name}"), &map(Method::Rollout, with(plain, |o| o.fusion = fusion)));
        }
        let discard = RolloutOptions { discard: 0.3, ..RolloutOptions::default() };
        compared.hold("rollout.discard", &map(Method::Rollout, with(plain, |o| o.rollout = discard)));
        let identity = RolloutOptions { identity: false, ..RolloutOptions::default() };
        compared.hold("rollout.no_identity", &map(Method::Rollout, with(plain, |o| o.rollout = identity)));
        for method in [
            Method::GradientRollout,
            Method::Chefer,
            Method::Attention,
            Method::GradCam,
            Method::GradCamPlusPlus,
            Method::XGradCam,
            Method::HiResCam,
            Method::LayerCam,
            Method::EigenCam,
        ] {
            compared.hold(method.name(), &map(method, plain));
        }
        compared.hold("gradient", &pixels::gradient(&model, &input.pixels, &CLASS).expect("gradients"));
        let black = Device::cpu(1).zeros(input.pixels.shape());
        let found = pixels::integrated(&model, &input.pixels, &CLASS, &black, 8, &mut |_| ControlFlow::Continue(()))
            .expect("gradients");
        compared.hold("integrated", &found.values);

        let gathered = Gathered { distance: true, entropy: true, ..Gathered::default() };
        let mut statistics = Statistics::new(&model, None, gathered);
        statistics.add(&all, None).expect("statistics");
        compared.hold("distance", &narrow(statistics.distances()));
        compared.hold("entropy", &narrow(statistics.entropies()));
        let mut statistics = Statistics::new(&model, None, Gathered { tokens: true, ..Gathered::default() });
        statistics.add(&input.pixels, None).expect("statistics");
        compared.hold("rank", &narrow(statistics.ranks()));
        let mut statistics = Statistics::new(&model, None, Gathered { likeness: true, ..Gathered::default() });
        assert!(statistics.likeness().is_err(), "too few images to compare");
        statistics.add(&variants(&all), None).expect("statistics");
        compared.hold("cka", &narrow(statistics.likeness().expect("six images")));
        if stored.values(&format!("{case}.positions")).is_some() {
            compared.hold("positions", &figures::positions(&model).expect("learned").1);
        }
        let filters = figures::filters(&model, 1).expect("over pixels");
        compared.hold("filter", &planes(&filters.values, filters.channels));
        println!("{case}: {:e}", compared.worst);
        faults.extend(compared.faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Both images, then both at half strength in reverse order, then both reversed.
fn variants(all: &Tensor) -> Tensor {
    let (values, one) = (all.to_vec().unwrap(), all.to_vec().unwrap().len() / 2);
    let halves = values[one..].iter().chain(&values[..one]).map(|x| 0.5 * x);
    let turned = values.iter().map(|x| -x);
    let values: Vec<f32> = values.iter().copied().chain(halves).chain(turned).collect();
    Device::cpu(1).upload([6, all.extent(1), all.extent(2), all.extent(3)], &values).unwrap()
}

/// Channels last to channels first.
fn planes(values: &[f32], channels: usize) -> Vec<f32> {
    (0..channels).flat_map(|channel| values.iter().skip(channel).step_by(channels).copied()).collect()
}

/// A small model without a stem, which supports every kind of map.
fn digits(threads: usize) -> Model {
    let path = goldens().join("../assets/digits");
    Model::load(&path, &LoadOptions::default(), &Device::cpu(threads)).expect("a model")
}

fn digit(model: &Model, name: &str) -> InputImage {
    let path = goldens().join("../assets/digits/images").join(name);
    let image = vitral::image::open(&path, &vitral::image::Limits::default()).expect("an image");
    InputImage::new(model, name, &image).expect("an image")
}

#[test]
fn capturing_does_not_change_the_logits() {
    let model = digits(2);
    let input = digit(&model, "seven.png");
    let plain = model.run(&input.pixels, None).expect("run").logits.expect("a head");
    let (captured, _) = model.reduce_attention(&input.pixels, 0..6, |weights| weights[0]).expect("run");
    assert_eq!(plain.to_vec().unwrap(), captured.logits.expect("a head").to_vec().unwrap());
    let (captured, kept) = model.observe(&input.pixels, None, |_| true).expect("run");
    assert_eq!(plain.to_vec().unwrap(), captured.logits.expect("a head").to_vec().unwrap());
    assert!(kept.contains_key("blocks.5.attention.input"));
    let names: Vec<String> = (0..6).map(|i| format!("blocks.{i}.attention.weights")).collect();
    let wanted = vitral::explain::Wanted::Named(&names);
    let pass = model.gradients(&input.pixels, &Target::Class(7), wanted).expect("recorded");
    assert_eq!(plain.to_vec().unwrap(), pass.output.logits.as_ref().expect("a head").to_vec().unwrap());
    assert!(pass.named(&names[0]).is_some());
}

#[test]
fn every_method_works_with_every_kind_of_model() {
    let device = Device::cpu(2);
    for case in [
        "timm_plain",
        "timm_rectangular",
        "timm_map_no_class_token",
        "timm_parallel_pairs",
        "timm_hybrid_stem",
        "timm_residual_post_norm",
        "hf_dinov2_registers_model",
        "timm_deit_distilled",
    ] {
        let folder = goldens().join("models").join(case);
        let model = load(&folder, &device);
        let all = Stored::open(&folder.join("input.safetensors")).pixels(&device);
        let input = first(&model, &all);
        let aim = match model.vit().config().classes {
            0 => vitral::explain::Aim::Feature,
            _ => vitral::explain::Aim::Predicted,
        };
        let target = model.explained(&input, aim, 1).expect("explained").target.expect("something to explain");
        let mut options = with(Options::default(), |o| {
            o.steps = 2;
            o.samples = 2
        });
        options.rise.masks = 3;
        for method in Method::ALL {
            let map = model.explain(&input, method, Some(&target), &options, &mut |_| ControlFlow::Continue(()));
            let map = map.unwrap_or_else(|error| panic!("{case}: {}: {error}", method.name()));
            assert!(map.values.iter().all(|x| x.is_finite()), "{case}: {}", method.name());
            assert!(map.size == input.layout.grid || map.size == input.layout.image, "{case}");
            if method.is_attribution() {
                let found =
                    faithfulness::faithfulness(&model, &input, &target, &map, 4, &mut |_| ControlFlow::Continue(()))
                        .expect("curves");
                // Nothing hidden at one end, everything revealed at the other.
                let (first, last) = (found.deletion.scores[0], found.insertion.scores[4]);
                assert!((first - last).abs() < 1e-6, "{case}: {first} {last}");
            }
        }
    }
}

#[test]
fn integrated_gradients_add_up_and_occlusion_finds_the_stroke() {
    let model = digits(2);
    let input = digit(&model, "one.png");
    let prediction = model.explained(&input, Default::default(), 3).expect("explained");
    let target = prediction.target.expect("a class");
    let black = Device::cpu(1).zeros(input.pixels.shape());
    let found = pixels::integrated(&model, &input.pixels, &target, &black, 128, &mut |_| ControlFlow::Continue(()))
        .expect("gradients");
    assert!((found.sum - found.expected).abs() < 0.05 * found.expected.abs().max(1.0), "{found:?}");
    // A map of what matters is better than a random one, and shuffled weights change it.
    let options = Options::default();
    let area = |model: &Model, method: Method| {
        let map =
            model.explain(&input, method, Some(&target), &options, &mut |_| ControlFlow::Continue(())).expect("a map");
        let found = faithfulness::faithfulness(model, &input, &target, &map, 7, &mut |_| ControlFlow::Continue(()))
            .expect("curves");
        (found.insertion.area() - found.deletion.area(), map)
    };
    let (occluded, map) = area(&model, Method::Occlusion);
    let (chance, _) = area(&model, Method::Random);
    assert!(occluded > chance, "{occluded} {chance}");
    let shuffled = faithfulness::shuffled(&model, 1).expect("the same model");
    let (_, other) = area(&shuffled, Method::Occlusion);
    assert!(faithfulness::rank_correlation(&map, &other).abs() < 0.8);
    assert!((faithfulness::rank_correlation(&map, &map) - 1.0).abs() < 1e-9);
}

#[test]
fn impossible_requests_are_reported_with_the_alternatives() {
    let model = digits(1);
    let input = digit(&model, "two.png");
    let explain = |options: Options, target: Option<&Target>| {
        let found = model.explain(&input, Method::GradCam, target, &options, &mut |_| ControlFlow::Continue(()));
        found.expect_err("refused").to_string()
    };
    let target = Target::Class(2);
    let said = explain(with(Options::default(), |o| o.layer = Some(99)), Some(&target));
    assert!(said.contains("layer 99 does not exist") && said.contains("layers 0 to 5"), "{said}");
    let said = explain(with(Options::default(), |o| o.head = Some(4)), Some(&target));
    assert!(said.contains("heads 0 to 3"), "{said}");
    let said = explain(Options::default(), None);
    assert!(said.contains("gradcam") && said.contains("--target feature"), "{said}");
    let said = model.class("cat").expect_err("no cat").to_string();
    assert!(said.contains("has 10 classes") && said.contains("`0`"), "{said}");
    assert_eq!(model.class("7").expect("a digit"), 7);
    let said = input.patch_at(&model, [500, 3]).expect_err("outside").to_string();
    assert!(said.contains("500,3 is outside"), "{said}");
}
