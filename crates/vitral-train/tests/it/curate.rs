//! What is found out about a folder of painted images in three classes, two of them in the wrong folder.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;

use vitral::features::FeatureKind;
use vitral::image::SampleRange;
use vitral::search::{BuildOptions, Builder, Done, Index, Listed, Origin, SearchError};
use vitral::{Device, Model};
use vitral_train::curate::{LabelError, LabelOptions, Method, map, outliers, suspects};
use vitral_train::data::classes_by_folder;

/// Stripes of some direction and color, a little different in each image.
fn paint(path: &Path, class: usize, number: usize) {
    const SIDE: usize = 48;
    let angle = class as f64 * 1.05 + (number * 7 % 10) as f64 * 0.02;
    let phase = number as f64 * 1.9;
    let mut bytes = format!("P6 {SIDE} {SIDE} 255\n").into_bytes();
    for at in 0..SIDE * SIDE {
        let (x, y) = ((at % SIDE) as f64, (at / SIDE) as f64);
        let wave = ((x * angle.cos() + y * angle.sin()) * 0.6 + phase).sin();
        for channel in 0..3 {
            let strong = if channel == class { 90.0 } else { 25.0 };
            bytes.push((110.0 + strong * wave + 5.0 * ((at * (number + 3) * 37) % 7) as f64) as u8);
        }
    }
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

fn index(folder: &Path) -> Index {
    let model = Model::embedded(&Device::cpu(2)).expect("built in");
    let origin = Origin::of(&model, FeatureKind::Pooled, SampleRange::Full, None).expect("a vector");
    let found = vitral::files::images_in(folder).expect("a folder");
    let name =
        |path: &std::path::PathBuf| path.strip_prefix(folder).expect("inside").to_str().expect("UTF-8").to_owned();
    let names: Vec<String> = found.images().iter().map(name).collect();
    let labels = classes_by_folder(&names);
    let listed = names.into_iter().zip(labels).map(|(name, label)| Listed { name, label }).collect();
    let builder = Builder::new(origin, folder, listed, None).expect("new");
    let options = BuildOptions::new(NonZero::new(2).expect("positive"));
    let mut each = |_: &Index, done: Done| {
        assert!(done.faults.is_empty());
        Ok::<_, SearchError>(ControlFlow::Continue(()))
    };
    builder.run(&model, &options, &mut each).expect("built").0
}

const CLASSES: [&str; 3] = ["red", "green", "blue"];

fn painted(folder: &Path) {
    for (class, name) in CLASSES.iter().enumerate() {
        for number in 0..25 {
            paint(&folder.join(name).join(format!("{number:02}.ppm")), class, number);
        }
    }
}

#[test]
fn wrong_labels_come_first() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    painted(folder);
    for (from, to) in [("red/03.ppm", "blue/wrong.ppm"), ("green/11.ppm", "red/wrong.ppm")] {
        std::fs::rename(folder.join(from), folder.join(to)).expect("moved");
    }
    let index = index(folder);
    let judge =
        |threads| suspects(&index, &LabelOptions::default(), &Device::cpu(threads), &mut |_| {}).expect("judged");
    let report = judge(2);
    let first: Vec<(&str, &str, &str)> =
        report.suspects.iter().take(2).map(|one| (&*one.image, &*one.label, &*one.suggested)).collect();
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("blue/wrong.ppm", "blue", "red"), ("red/wrong.ppm", "red", "green")], "{report:?}");
    assert!(report.suspects.iter().take(2).all(|one| one.confident && one.neighbors < 0.2), "{report:?}");
    assert!(report.suspects.len() <= 6 && report.agreement > 0.9, "{report:?}");
    let alone = judge(1);
    assert_eq!(report.suspects, alone.suspects);
}

#[test]
fn labels_that_cannot_be_judged_are_errors() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    let judge = |index: &Index| suspects(index, &LabelOptions::default(), &Device::cpu(1), &mut |_| {});
    paint(&folder.join("red/0.ppm"), 0, 0);
    paint(&folder.join("green/0.ppm"), 1, 0);
    assert!(matches!(judge(&index(folder)), Err(LabelError::TooFew { classes: 2, images: 1 })));
    paint(&folder.join("red/1.ppm"), 0, 1);
    let report = judge(&index(folder)).expect("judged");
    assert_eq!(report.single, ["green"]);
    paint(&folder.join("loose.ppm"), 2, 0);
    let said = judge(&index(folder)).expect_err("no label").to_string();
    assert!(said.contains("found none for `loose.ppm`"), "{said}");
}

#[test]
fn the_odd_one_out_is_found_and_maps_do_not_depend_on_threads() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    painted(folder);
    // Noise.
    let noise: Vec<u8> = (0..48 * 48 * 3u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.join("red/odd.ppm"), [&b"P6 48 48 255\n"[..], &noise].concat()).expect("written");
    let index = index(folder);
    let found = outliers(&index, 5, &Device::cpu(2), &mut |_| {}).expect("computed");
    assert_eq!(found.first().map(|one| &*one.image), Some("red/odd.ppm"), "{found:?}");

    for method in [Method::Pca, Method::Tsne] {
        let points = |threads| map(&index, method, &Device::cpu(threads), &mut |_| {}).expect("a map");
        let first = points(2);
        assert_eq!(first, points(3), "{method:?}");
        assert!(first.points.iter().flatten().all(|value| value.is_finite()), "{first:?}");
        // The nearest point of most images is of their class.
        let (_, labels) = index.classes().expect("labels");
        let nearest = |own: usize| {
            let apart = |other: usize| {
                let (a, b) = (first.points[own], first.points[other]);
                (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
            };
            (0..index.len()).filter(|&other| other != own).min_by(|&a, &b| apart(a).total_cmp(&apart(b)))
        };
        let same =
            (0..index.len()).filter(|&row| nearest(row).is_some_and(|other| labels[other] == labels[row])).count();
        assert!(same * 10 >= index.len() * 8, "{method:?}: {same} of {}", index.len());
    }
}

#[test]
fn classes_are_folders_below_splits() {
    let classes = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        classes_by_folder(&names)
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(classes(&["cat/1.png", "dog/2/3.png", "4.png"]), [some("cat"), some("dog"), None]);
    assert_eq!(
        classes(&["train/cat/1.png", "test/cat/2.png", "val/dog/3.png"]),
        [some("cat"), some("cat"), some("dog")]
    );
    // A class that is called like a split.
    assert_eq!(classes(&["train/1.png", "plane/2.png"]), [some("train"), some("plane")]);
    assert_eq!(classes(&["train/1.png"]), [None]);
    assert_eq!(classes(&[]), []);
}
