//! Which images the best epoch is chosen on, and which the result is reported on.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use vitral::Device;
use vitral_train::data::Dataset;
use vitral_train::fit::{Outcome, Watcher};
use vitral_train::journal::{Entry, Journal};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::report::ChosenOn;
use vitral_train::run::{Models, RunOn, run};
use vitral_train::sets::{Sets, open_sets};
use vitral_train::step::StepReport;

struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: &StepReport, _: usize, _: usize) {}
    fn epoch(&mut self, _: &Entry, _: bool) {}
}

/// `each` uniform images for each of two classes; with `swapped`, the class names are exchanged.
fn images(place: &Path, each: u8, swapped: bool) {
    for (class, name) in ["dark", "light"].iter().enumerate() {
        std::fs::create_dir_all(place.join(name)).unwrap();
        let light = (class == 1) != swapped;
        for image in 0..each {
            let level = if light { 200 + image } else { 20 + image };
            let file = place.join(name).join(format!("{image}.png"));
            image::save_buffer(file, &[level; 8 * 8 * 3], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
        }
    }
}

const RECIPE: &str = r#"
[model]
variant = "test/4"
set = { image_size = 8 }
[data]
train = "data"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
[optimizer]
kind = "adamw"
[schedule]
learning_rate = 1e-2
[run]
epochs = 4
batch = 4
"#;

fn recipe(folder: &Path, settings: &[Setting]) -> Recipe {
    Recipe::parse(RECIPE, &folder.join("recipe.toml"), settings).unwrap()
}

fn trained(folder: &Path, sets: &Sets, out: &str, settings: &[Setting]) -> Outcome {
    let (recipe, out) = (recipe(folder, settings), folder.join(out));
    let (device, go_on) = (Device::cpu(1), AtomicBool::new(false));
    run(&recipe, sets, Models::default(), &out, RunOn::alone(&device, &go_on), &mut Silent).unwrap()
}

#[test]
fn the_best_epoch_is_chosen_on_validation_images_and_test_images_are_evaluated_once() {
    for name in ["val", "valid", "validation"] {
        let folder = tempfile::tempdir().unwrap();
        images(&folder.path().join("data/train"), 8, false);
        images(&folder.path().join("data").join(name), 3, false);
        // The test labels are swapped: chosen on them, the best epoch would be the untrained one.
        images(&folder.path().join("data/test"), 2, true);
        let sets = open_sets(&recipe(folder.path(), &[])).unwrap();
        assert_eq!((sets.train.len(), sets.choosing().len(), sets.test.len()), (16, 6, 4));
        assert!(sets.choosing().name(0).contains(name) && sets.test.name(0).contains("test"));
        let told = trained(folder.path(), &sets, "run", &[]);
        let Outcome::Finished { best, epoch, test } = told else { panic!("{told:?}") };
        assert!(best == 1.0 && test == Some(0.0), "{told:?}");
        let entries = Journal::read(&folder.path().join("run")).unwrap();
        assert_eq!(entries[epoch as usize - 1].validation_accuracy, Some(1.0));
        let text = std::fs::read_to_string(folder.path().join("run/report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["best"]["chosen_on"], "validation");
        assert_eq!((&report["best"]["accuracy"], &report["reported_on"]), (&1.0.into(), &"test".into()));
        assert_eq!((&report["images"], &report["top1"]), (&4.into(), &0.0.into()));
        let page = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
        assert!(page.contains("0.00 % of 4 test images") && page.contains("validation images, 100.00 %"));
        // A run that had already finished reports the same.
        assert_eq!(trained(folder.path(), &sets, "run", &[]), told);
    }
}

#[test]
fn without_a_validation_split_the_report_says_which_images_chose_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    for (place, each) in [("both/train", 4), ("both/test", 2), ("only/train", 4), ("only/val", 2), ("whole", 4)] {
        images(&folder.path().join(place), each, false);
    }
    let data = |train: &str, test: Option<&str>| -> Vec<Setting> {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let setting = |key: &str, name: &str| Setting::new(key, path(name));
        let validation_split = Setting::new("data.validation_split.fraction", 0.5);
        [setting("data.train", train), validation_split, Setting::new("run.epochs", 1)]
            .into_iter()
            .chain(test.map(|test| setting("data.test", test)))
            .collect()
    };
    for (nth, (train, test, expected, words)) in [
        ("both", None, ChosenOn::Test, "chosen on the test images, since there is no validation split"),
        ("both/train", Some("both/test"), ChosenOn::Test, "chosen on the test images, since there is no"),
        ("only", None, ChosenOn::ValidationAlone, "since there is no test split"),
        ("only", Some("only/val"), ChosenOn::ValidationAlone, "since there is no test split"),
        ("whole", None, ChosenOn::ValidationSplit, "chosen on images held out of the training set"),
    ]
    .into_iter()
    .enumerate()
    {
        let settings = data(train, test);
        let sets = open_sets(&recipe(folder.path(), &settings)).unwrap();
        assert_eq!((sets.chosen_on, sets.validation.is_none()), (expected, true), "{train} {test:?}");
        let out = format!("run {nth}");
        let told = trained(folder.path(), &sets, &out, &settings);
        assert!(matches!(told, Outcome::Finished { test: None, .. }), "{told:?}");
        let page = std::fs::read_to_string(folder.path().join(out).join("report.html")).unwrap();
        assert!(page.contains(words), "{train} {test:?}: {page}");
    }
    // With separate test images, the best epoch is chosen on the validation split next to the training split.
    let settings = data("only", Some("both/test"));
    let sets = open_sets(&recipe(folder.path(), &settings)).unwrap();
    assert_eq!(sets.chosen_on, ChosenOn::Validation);
    assert!(sets.choosing().name(0).contains("only") && sets.test.name(0).contains("both"));
}

#[test]
fn lists_and_shards_have_validation_splits_too() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"), 6, false);
    let mut list = "path,label,split\n".to_owned();
    for class in ["dark", "light"] {
        for (image, split) in ["train", "train", "train", "valid", "valid", "test"].iter().enumerate() {
            list += &format!("images/{class}/{image}.png,{class},{split}\n");
        }
    }
    std::fs::write(folder.path().join("list.csv"), list).unwrap();
    let shards = folder.path().join("shards");
    std::fs::create_dir(&shards).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/parquet/hub/data");
    for (from, to) in [
        ("train-00000-of-00002.parquet", "train-00000-of-00001.parquet"),
        ("train-00001-of-00002.parquet", "validation-00000-of-00001.parquet"),
        ("test-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
    ] {
        std::fs::copy(golden.join(from), shards.join(to)).unwrap();
    }
    for (place, expected) in [("list.csv", (6, 4, 2)), ("shards", (3, 3, 2))] {
        let path = folder.path().join(place).display().to_string();
        let sets = open_sets(&recipe(folder.path(), &[Setting::new("data.train", path)])).unwrap();
        assert_eq!(sets.chosen_on, ChosenOn::Validation, "{place}");
        assert_eq!((sets.train.len(), sets.choosing().len(), sets.test.len()), expected, "{place}");
        let first = |set: &dyn Dataset| set.name(0);
        assert_ne!(first(sets.choosing().as_ref()), first(sets.test.as_ref()), "{place}");
    }
}
