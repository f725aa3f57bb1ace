//! Metrics and probes compared with NumPy (`tools/golden/evaluate.py`), and with published results on real features.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use vitral::features::FeatureKind;
use vitral::numbers::largest;
use vitral::{Device, LoadOptions, Model, Tensor};
use vitral_train::data::{Loader, LoaderOptions, Split, ValidationSplit, open};
use vitral_train::evaluate::{
    Evaluation, Features, Metrics, Neighbors, Ridge, Scaling, accuracy, evaluate, features, few_shot,
};

const CLASSES: usize = 7;

struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens/evaluate.safetensors");
        Golden(std::fs::read(path).expect("a committed golden"))
    }

    fn bytes<const N: usize>(&self, name: &str) -> Vec<[u8; N]> {
        let file = SafeTensors::deserialize(&self.0).expect("safetensors");
        file.tensor(name).expect(name).data().as_chunks::<N>().0.to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }

    fn doubles(&self, name: &str) -> Vec<f64> {
        self.bytes(name).into_iter().map(f64::from_le_bytes).collect()
    }

    fn classes(&self, name: &str) -> Vec<usize> {
        self.bytes(name).into_iter().map(|bytes| i64::from_le_bytes(bytes) as usize).collect()
    }

    fn features(&self, name: &str) -> Features {
        let labels = self.classes(&format!("{name}_labels"));
        let values = self.floats(name);
        Features::new(values.clone(), values.len() / labels.len(), labels, CLASSES)
    }
}

fn close(ours: &[f64], theirs: &[f64], within: f64) {
    let far = largest(ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / largest([b.abs(), 1.0])));
    assert!(ours.len() == theirs.len() && far < within, "differ by {far}");
}

#[test]
fn metrics_equal_numpy() {
    let golden = Golden::read();
    let names: Vec<String> = (0..CLASSES).map(|class| format!("class {class}")).collect();
    let mut metrics = Metrics::new(&names);
    for (row, label) in golden.floats("logits").chunks_exact(CLASSES).zip(golden.classes("labels")) {
        metrics.add(row, label);
    }
    let report = metrics.report(3, |nth| (nth, format!("image {nth}")));
    close(&[report.top1, report.top5, report.loss, report.calibration_error], &golden.doubles("summary"), 1e-12);
    let mut confusion = vec![0.0; CLASSES * CLASSES];
    report.confusion.iter().for_each(|cell| confusion[cell.label * CLASSES + cell.predicted] = cell.images as f64);
    assert_eq!(confusion, golden.doubles("confusion"));
    assert!(report.classes.is_sorted_by(|a, b| (b.images, a.number) < (a.images, b.number) || a.images > b.images));
    let mut in_order = report.classes.clone();
    in_order.sort_by_key(|class| class.number);
    assert!(in_order.iter().zip(&names).all(|(class, name)| class.name == *name));
    let classes: Vec<f64> = in_order.iter().flat_map(|c| [c.precision, c.recall, c.f1]).collect();
    close(&classes, &golden.doubles("classes"), 1e-12);
    let present: Vec<f64> = in_order.iter().filter(|class| class.images > 0).map(|class| class.recall).collect();
    let balanced = present.iter().sum::<f64>() / present.len() as f64;
    close(&[report.balanced_accuracy], &[balanced], 1e-12);
    assert!((report.balanced_accuracy - report.top1).abs() > 1e-6, "classes have different numbers of images");
    for pair in &report.confused {
        assert_eq!(pair.examples.len(), pair.count.min(6));
        assert!(pair.examples.iter().all(|one| (&one.label, &one.predicted) == (&pair.label, &pair.predicted)));
        assert!(pair.examples.is_sorted_by(|a, b| a.confidence >= b.confidence));
    }
    let confused = report.confused.iter().map(|pair| pair.count);
    assert!(
        confused.clone().is_sorted_by(|a, b| a >= b) && report.mistakes[0].confidence >= report.mistakes[9].confidence
    );
    let table = report.to_string();
    assert!(table.contains("200 images (3 more could not be read)") && table.contains("predicted as"), "{table}");
    let rows = table.lines().skip_while(|line| !line.starts_with("class")).take_while(|line| !line.is_empty());
    let ends: Vec<usize> = rows.map(|line| line.chars().count()).collect();
    assert!(ends.len() > CLASSES && ends.iter().all(|&end| end == ends[0]), "{table}");
    let written = serde_json::to_string(&report).expect("plain data");
    assert_eq!(serde_json::from_str::<vitral_train::evaluate::Report>(&written).expect("what was written"), report);
}

#[test]
fn probes_equal_numpy() {
    let golden = Golden::read();
    for name in ["many", "few"] {
        let (known, unknown) = (golden.features(&format!("{name}.known")), golden.features(&format!("{name}.unknown")));
        for (k, temperature) in [(1, None), (5, None), (10, Some(0.07))] {
            let found = Neighbors { k, temperature }.classify(&known, &unknown);
            assert_eq!(found, golden.classes(&format!("{name}.neighbors.{k}")), "{name}, {k} neighbors");
        }
        for l2 in [1, 1024] {
            let probe = Ridge { l2: f64::from(l2), ..Ridge::default() }.fit(&known);
            close(&probe.scores(&unknown), &golden.doubles(&format!("{name}.ridge.{l2}")), 1e-9);
            let (weights, biases) = probe.layer();
            let row = unknown.row(3);
            for class in 0..CLASSES {
                let product: f32 = row.iter().zip(&weights[class * row.len()..]).map(|(x, w)| x * w).sum();
                assert!(
                    (f64::from(product + biases[class]) - probe.scores(&unknown)[3 * CLASSES + class]).abs() < 1e-4
                );
            }
        }
    }
    let known = golden.features("many.known");
    let shots = known.shots(2, 5);
    assert!((0..CLASSES).all(|class| shots.labels().iter().filter(|&&label| label == class).count() <= 2));
    assert!(shots.len() > CLASSES && known.shots(2, 5) == shots && known.shots(2, 6) != shots);
    let table = few_shot(&known, &golden.features("many.unknown"), &[1, 5], &[0, 1, 2], |_| Ridge::default());
    assert!(table[1].mean() > table[0].mean() && table[0].accuracies.len() == 3, "{table:?}");
    let chosen = Ridge::default().chosen(&known, &[1e-6, 1.0, 1e9], 0);
    assert!(chosen.l2 < 1e9, "{chosen:?}");
    // The closed form of leave-one-out equals actually leaving one out.
    let error = |l2: f64| {
        let ridge = Ridge { l2, ..Ridge::default() };
        let one = |left: usize| {
            let others: Vec<usize> = (0..known.len()).filter(|&index| index != left).collect();
            accuracy(&ridge.fit(&known.select(&others)).classify(&known.select(&[left])), &[known.labels()[left]])
        };
        (0..known.len()).map(one).sum::<f64>()
    };
    let all = [1e-2, 1e2, 1e7].map(|l2| Ridge { l2, ..Ridge::default() });
    let chosen = Ridge::chosen_leaving_one_out(&known, &all);
    let most = largest(all.iter().map(|ridge| error(ridge.l2)));
    assert!(error(chosen.l2) >= 0.95 * most, "{chosen:?}");
    let unit = Ridge { scaling: Scaling::UnitLength, l2: 0.1, ..Ridge::default() };
    let (unknown, probe) = (golden.features("many.unknown"), unit.fit(&known));
    assert_eq!(probe.classify(&unknown), probe.classify(&unknown.of_unit_length()));
}

/// A data set that is not in this repository, in `VITRAL_SHARED_DATA` or `../shared/data`.
fn shared_data(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = std::env::var_os("VITRAL_SHARED_DATA").map_or_else(beside, PathBuf::from).join(name);
    assert!(path.exists(), "this test needs `{}`; set `VITRAL_SHARED_DATA` to its folder", path.display());
    path
}

/// DINOv2's weights, which are too large for this repository, in `VITRAL_DATA` or `~/.cache/vitral-data`.
fn dinov2() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/vitral-data");
    let path = std::env::var_os("VITRAL_DATA").map_or_else(home, PathBuf::from).join("dinov2-s14");
    assert!(path.exists(), "this test needs `{}`; set `VITRAL_DATA` to its folder", path.display());
    path
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA and DINOv2 in VITRAL_DATA"]
fn real_features_reach_published_results_with_dinov2() {
    let (flowers, weights) = (shared_data("flowers12"), dinov2());
    let model = Model::load(&weights, &LoadOptions::default(), &Device::cpu(0)).expect("DINOv2");
    let preprocess = model.preprocess().expect("its own preprocessing");
    // Class token and mean of the patches, side by side.
    let both = |pixels: &Tensor| {
        let kinds = [FeatureKind::Class, FeatureKind::Mean].map(|kind| model.features(pixels, kind));
        let [class, mean] = kinds.map(|features| features.expect("features"));
        let width = class.extent(1);
        let (class_values, means) = (class.to_vec().unwrap(), mean.to_vec().unwrap());
        let rows = class_values.chunks(width).zip(means.chunks(width));
        let values: Vec<f32> = rows.flat_map(|(class, mean)| class.iter().chain(mean).copied()).collect();
        Ok(Device::cpu(1).upload([class.extent(0), 2 * width], &values).unwrap())
    };
    let part = |split| {
        let dataset = open(&flowers, split, ValidationSplit::default()).expect("flowers");
        let loader =
            Loader::new(dataset, LoaderOptions::evaluation(preprocess.clone(), 16), &Device::cpu(1)).expect("a loader");
        features(&loader, both).expect("features")
    };
    let (known, unknown) = (part(Split::Train), part(Split::Test));
    let (class, test_class) = (known.columns(0..384), unknown.columns(0..384));
    let nearest = Neighbors { k: 1, temperature: None }.classify(&class, &test_class);
    let nearest = accuracy(&nearest, test_class.labels());
    println!("1-NN on the class token {nearest:.4}");
    let seeds: Vec<u64> = (0..10).collect();
    let mut reached = Vec::new();
    for (name, ridge) in [
        ("paper", Ridge::default()),
        ("whitened, 2^6", Ridge { l2: 64.0, ..Ridge::default() }),
        ("unit length, 2^-6", Ridge { l2: 1.0 / 64.0, scaling: Scaling::UnitLength, ..Ridge::default() }),
    ] {
        let probe = accuracy(&ridge.fit(&known).classify(&unknown), unknown.labels());
        println!("ridge ({name}) on class token and mean {probe:.4}, on the class token by number of shots:");
        let shots = few_shot(&class, &test_class, &[1, 5, 10, 25], &seeds, |_| ridge);
        shots.iter().for_each(|row| println!("{row}"));
        reached.push((probe, shots[1].mean()));
    }
    let penalties: Vec<f64> = (-10..=14).step_by(2).map(|power| f64::from(power).exp2()).collect();
    let chosen = Ridge::default().chosen(&known, &penalties, 0);
    let probe = accuracy(&chosen.fit(&known).classify(&unknown), unknown.labels());
    println!("with a penalty of {} chosen on a fifth: {probe:.4}", chosen.l2);
    assert!(nearest >= 0.92, "1-NN on the class token: {nearest}");
    assert!(probe >= 0.973, "ridge with a chosen penalty: {probe}");
    let (probe, five) = reached[2];
    assert!(probe >= 0.978, "ridge on class token and mean: {probe}");
    assert!(five >= 0.905, "five shots: {five}");
}

#[test]
fn a_classifier_is_evaluated_over_a_loader() {
    let root = tempfile::tempdir().expect("a temporary folder");
    for (class, level) in [("dark", 10u8), ("light", 240)] {
        std::fs::create_dir(root.path().join(class)).expect("a folder");
        for index in 0..3 {
            // A PNG would need an encoder; a GIF of one color is short.
            let mut gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00".to_vec();
            gif.extend([level; 6]);
            gif.extend(b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b");
            std::fs::write(root.path().join(class).join(format!("{index}.gif")), gif).expect("a file");
        }
    }
    std::fs::write(root.path().join("dark/1.gif"), b"GIF89a").expect("a file");
    let dataset = open(root.path(), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a folder");
    let size = vitral::config::Size { height: 2, width: 2 };
    let preprocess = vitral_train::data::plain(size, vitral::image::Filter::Bilinear, &[0.5; 3], &[0.5; 3]);
    let loader = Loader::new(dataset, LoaderOptions::evaluation(preprocess, 2), &Device::cpu(1)).expect("a loader");
    // Every image is predicted as light.
    let report = evaluate(&loader, |pixels| {
        let batch = pixels.extent(0);
        Ok(Device::cpu(1).upload([batch, 2], &[0.0, 1.0].repeat(batch)).unwrap())
    });
    let Evaluation::One(report) = report.expect("a report") else { panic!("one label each") };
    assert_eq!((report.images, report.skipped, report.top1), (5, 1, 0.6));
    assert_eq!(report.mistakes.iter().map(|mistake| mistake.index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(report.confused[0].count, 2);
    let wrong = evaluate(&loader, |pixels| {
        let batch = pixels.extent(0);
        Ok(Device::cpu(1).upload([batch, 3], &vec![0.0; 3 * batch]).unwrap())
    });
    assert!(wrong.expect_err("three classes").to_string().contains("expected a model with 2 classes"));
}
