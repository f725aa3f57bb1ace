//! Parquet files written by pyarrow (`tools/golden/parquet.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vitral_train::data::{Dataset, Split, ValidationSplit, open};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/parquet").join(name)
}

fn take(path: &Path, split: Split) -> Arc<dyn Dataset> {
    open(path, split, ValidationSplit { fraction: 0.5, seed: 1 }).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The red and green of every image's first pixel, and its label.
fn colors(set: &dyn Dataset) -> Vec<(u8, u8, usize)> {
    let color = |index: usize| {
        let image = set.image(index).unwrap();
        assert_eq!((image.width(), image.height()), (4, 4));
        (image.pixels()[0], image.pixels()[1], set.label(index))
    };
    (0..set.len()).map(color).collect()
}

#[test]
fn shards_from_the_hub_are_splits_with_named_classes() {
    for place in ["hub", "hub/data"] {
        let train = take(&golden(place), Split::Train);
        assert_eq!(train.classes(), ["tulip", "daisy", "rose"]);
        assert_eq!(colors(train.as_ref()), [0, 1, 2, 3, 4, 5].map(|i| (40 * i, i % 3, usize::from(i % 3))));
        let name = train.name(4);
        assert!(name.contains("train-00001") && name.contains("row 1") && name.contains("4.png"), "{name}");
        let test = take(&golden(place), Split::Test);
        assert_eq!(test.classes(), train.classes());
        assert_eq!(colors(test.as_ref()), [(40, 1, 1), (80, 2, 2)]);
    }
}

#[test]
fn plain_bytes_and_string_labels_are_read_and_split() {
    for file in ["plain/zstd.parquet", "plain/gzip.parquet"] {
        let (train, test) = (take(&golden(file), Split::Train), take(&golden(file), Split::Test));
        assert_eq!(train.classes(), ["daisy", "rose", "tulip"]);
        assert_eq!((train.len(), test.len()), (3, 3));
        let mut found = [colors(train.as_ref()), colors(test.as_ref())].concat();
        found.sort_unstable();
        // tulip, daisy, rose according to green, numbered by sorted name.
        assert_eq!(found, [0, 1, 2, 3, 4, 5].map(|i: u8| (40 * i, i % 3, [2, 0, 1][usize::from(i % 3)])));
    }
}

#[test]
fn unusable_rows_are_named() {
    for (file, words) in [
        ("odd/unlabeled.parquet", ["row 1", "-1"]),
        ("odd/without_label.parquet", ["row 1", "found none"]),
        ("odd/other_columns.parquet", ["`photo`", "`image`"]),
    ] {
        let error = open(&golden(file), Split::Train, ValidationSplit::default()).expect_err("refused").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let validation_split = ValidationSplit { fraction: 0.0, seed: 0 };
    let set = open(&golden("odd/without_bytes.parquet"), Split::Train, validation_split).unwrap();
    assert!(set.image(0).is_ok() && set.image(2).is_ok());
    let error = set.image(1).expect_err("no bytes").to_string();
    assert!(error.contains("row 1"), "{error}");
}

/// Damaged files are refused or give other images, but never panic.
#[test]
fn damage_does_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(golden("hub/data/train-00000-of-00002.parquet")).unwrap();
    let path = folder.path().join("damaged.parquet");
    let mut opened = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        for bytes in [&damaged[..], &whole[..at]] {
            std::fs::write(&path, bytes).unwrap();
            if let Ok(set) = open(&path, Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }) {
                opened += 1;
                (0..set.len()).for_each(|index| drop(set.image(index)));
            }
        }
    }
    assert!(opened > 0, "damage to image bytes is not detected when opening the file");
}
