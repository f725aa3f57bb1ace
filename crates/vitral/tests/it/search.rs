//! An index over folders of painted images: made, brought up to date, interrupted, damaged, searched.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use vitral::features::FeatureKind;
use vitral::image::SampleRange;
use vitral::search::{
    Alike, BuildOptions, Builder, Done, Ended, Flat, Index, Listed, Origin, Relation, SearchError, Stored, duplicates,
};
use vitral::{Device, LoadOptions, Model};

fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/digits")
}

/// A part of a painted image, and what is done to it.
#[derive(Clone, Copy)]
struct Paint {
    seed: u32,
    side: usize,
    /// Left, top and side of the part.
    part: (f64, f64, f64),
    mirrored: bool,
    lighter: f64,
}

impl Paint {
    fn new(seed: u32) -> Self {
        Paint { seed, side: 96, part: (0.0, 0.0, 1.0), mirrored: false, lighter: 0.0 }
    }

    fn write(self, path: &Path) {
        let mut bytes = format!("P6 {0} {0} 255\n", self.side).into_bytes();
        for at in 0..self.side * self.side {
            let (column, row) = (at % self.side, at / self.side);
            let column = if self.mirrored { self.side - 1 - column } else { column };
            let to = |at: usize, from: f64| from + self.part.2 * at as f64 / self.side as f64;
            let (x, y) = (to(column, self.part.0), to(row, self.part.1));
            for channel in 0..3 {
                let coarse = 110.0 * noise(self.seed, 4, x, y) + 60.0 * noise(self.seed + 50, 9, x, y);
                let value = coarse + 25.0 * noise(self.seed + 100 + channel, 19, x, y);
                bytes.push((20.0 + self.lighter + value).clamp(0.0, 255.0) as u8);
            }
        }
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}

/// Smooth noise from 0 to 1 over a grid of random numbers.
fn noise(seed: u32, cells: u32, x: f64, y: f64) -> f64 {
    let random = |column: u32, row: u32| {
        let mut state = seed.wrapping_mul(0x9e37_79b9) ^ (row * 64 + column).wrapping_mul(0x85eb_ca6b);
        for _ in 0..3 {
            state = (state ^ (state >> 15)).wrapping_mul(0x2c1b_3c6d);
        }
        f64::from(state ^ (state >> 16)) / f64::from(u32::MAX)
    };
    let (x, y) = (x * f64::from(cells), y * f64::from(cells));
    let (column, row) = (x as u32, y as u32);
    let mix = |a: f64, b: f64, share: f64| a + share * (b - a);
    let across = |row: u32| mix(random(column, row), random(column + 1, row), x.fract());
    mix(across(row), across(row + 1), y.fract())
}

fn listed(folder: &Path) -> Vec<Listed> {
    let found = vitral::files::images_in(folder).expect("a folder");
    let name = |path: &PathBuf| path.strip_prefix(folder).expect("inside").to_str().expect("UTF-8").to_owned();
    found.images().iter().map(|path| Listed { name: name(path), label: None }).collect()
}

fn model() -> Model {
    Model::embedded(&Device::cpu(2)).expect("built in")
}

fn origin(model: &Model) -> Origin {
    Origin::of(model, FeatureKind::Pooled, SampleRange::Full, None).expect("a vector")
}

fn options() -> BuildOptions {
    let two = NonZero::new(2).expect("positive");
    BuildOptions::new(two).batch(two)
}

/// Makes an index, or brings `previous` up to date; also how many images were computed, and the faults.
fn built(folder: &Path, previous: Option<&Index>) -> (Index, usize, Vec<String>) {
    let model = model();
    let builder = Builder::new(origin(&model), folder, listed(folder), previous).expect("the same model");
    let (mut computed, mut faults) = (0, Vec::new());
    let mut each = |_: &Index, done: Done| {
        computed += done.images;
        faults.extend(done.faults.into_iter().map(|fault| fault.0));
        Ok::<_, SearchError>(ControlFlow::Continue(()))
    };
    let (index, ended) = builder.run(&model, &options(), &mut each).expect("built");
    assert_eq!((ended, index.missing()), (Ended::Complete, 0));
    (index, computed, faults)
}

fn names(index: &Index) -> Vec<&str> {
    index.entries().iter().map(|entry| &*entry.name).collect()
}

fn same(a: &Index, b: &Index) {
    assert_eq!((names(a), a.features(), a.entries()), (names(b), b.features(), b.entries()));
}

#[test]
fn only_what_has_changed_is_computed() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    for seed in 0..5 {
        Paint::new(seed).write(&folder.join(format!("{seed}.ppm")));
    }
    std::fs::write(folder.join("damaged.png"), b"\x89PNG\r\n\x1a\n and nothing more").expect("written");
    let (first, computed, faults) = built(folder, None);
    assert_eq!((computed, faults), (5, vec!["damaged.png".to_owned()]));
    let file = folder.join("index.safetensors");
    first.write(&file, Stored::F32).expect("written");
    let read = Index::read(&file).expect("whole");
    same(&first, &read);
    assert_eq!(read.origin(), first.origin());

    // One changed, one gone, one new; what cannot be read is tried again.
    Paint::new(9).write(&folder.join("2.ppm"));
    std::fs::remove_file(folder.join("4.ppm")).expect("removed");
    Paint::new(6).write(&folder.join("1 and a half.ppm"));
    let (second, computed, faults) = built(folder, Some(&read));
    assert_eq!((computed, faults.len()), (2, 1));
    assert_eq!(names(&second), ["0.ppm", "1 and a half.ppm", "1.ppm", "2.ppm", "3.ppm"]);
    same(&second, &built(folder, None).0);
    assert_eq!(second.features()[..second.width()], first.features()[..first.width()]);
    assert_ne!(second.entries()[3].pixels, first.entries()[2].pixels);
}

#[test]
fn interrupted_work_goes_on_to_the_same_result() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    for seed in 0..7 {
        Paint::new(seed).write(&folder.join(format!("{seed}.ppm")));
    }
    let model = model();
    let builder = Builder::new(origin(&model), folder, listed(folder), None).expect("new");
    let mut batches = 0;
    let mut each = |_: &Index, _: Done| {
        batches += 1;
        Ok::<_, SearchError>(if batches == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let (part, ended) = builder.run(&model, &options(), &mut each).expect("a part");
    assert_eq!((ended, part.len(), part.missing()), (Ended::Stopped, 4, 3));
    let file = folder.join("index.safetensors");
    part.write(&file, Stored::F32).expect("written");
    let (whole, computed, _) = built(folder, Some(&Index::read(&file).expect("whole")));
    assert_eq!(computed, 3);
    same(&whole, &built(folder, None).0);
}

#[test]
fn features_of_another_model_are_refused() {
    let model = model();
    let own = origin(&model);
    let digits = Model::load(digits(), &LoadOptions::default(), &Device::cpu(1)).expect("a model");
    let other = origin(&digits);
    let said = own.check(&other).expect_err("another model").to_string();
    assert!(said.contains("not comparable"), "{said}");
    let mean = Origin::of(&model, FeatureKind::Mean, SampleRange::Full, None).expect("a vector");
    let said = own.check(&mean).expect_err("another pooling").to_string();
    assert!(said.contains("expected the pooling `pooled`, found `mean`"), "{said}");
    let threads = Model::embedded(&Device::cpu(1)).expect("built in");
    assert!(own.check(&origin(&threads)).is_ok());
    let many = Origin::of(&model, FeatureKind::Tokens, SampleRange::Full, None).expect_err("many vectors");
    assert!(matches!(many, SearchError::ManyVectors));
}

#[test]
fn the_same_image_is_found_in_every_form() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    for seed in 0..20 {
        Paint::new(seed).write(&folder.join(format!("{seed:02}.ppm")));
    }
    let at = |name: &str| folder.join(name);
    let original = Paint::new(3);
    original.write(&at("copies/equal.ppm"));
    Paint { side: 61, lighter: 12.0, ..original }.write(&at("copies/smaller.ppm"));
    Paint { mirrored: true, ..original }.write(&at("copies/turned.ppm"));
    Paint { part: (0.1, 0.03, 0.85), side: 80, ..original }.write(&at("copies/part.ppm"));
    Paint { part: (0.02, 0.12, 0.82), mirrored: true, side: 80, ..Paint::new(5) }.write(&at("other/turned part.ppm"));
    let (index, ..) = built(folder, None);
    let groups = duplicates(&index, Alike::default(), &Device::cpu(2), &mut |_| {}).expect("computed");
    assert_eq!(groups, duplicates(&index, Alike::default(), &Device::cpu(1), &mut |_| {}).expect("computed"));
    let name = |row: usize| &*index.entries()[row].name;
    let found: Vec<(&str, Vec<(&str, Relation)>)> = groups
        .iter()
        .map(|group| (name(group.first), group.others.iter().map(|one| (name(one.row), one.relation)).collect()))
        .collect();
    let expected = [
        (
            "03.ppm",
            vec![
                ("copies/equal.ppm", Relation::SamePixels),
                ("copies/part.ppm", Relation::Cropped),
                ("copies/smaller.ppm", Relation::SameImage),
                ("copies/turned.ppm", Relation::Mirrored),
            ],
        ),
        ("05.ppm", vec![("other/turned part.ppm", Relation::MirroredAndCropped)]),
    ];
    assert_eq!(found, expected);
    // By features, equal pixels are in one group as well.
    let groups = duplicates(&index, Alike::Features(0.9999), &Device::cpu(2), &mut |_| {}).expect("computed");
    assert!(groups.iter().any(|group| name(group.first) == "03.ppm"), "{groups:?}");
    let all = duplicates(&index, Alike::Features(-1.0), &Device::cpu(2), &mut |_| {}).expect("computed");
    assert_eq!((all.len(), all[0].others.len()), (1, index.len() - 1));
}

#[test]
fn an_index_may_hold_one_image_or_none() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    let file = folder.join("index.safetensors");
    for count in 0..2 {
        if count == 1 {
            Paint::new(1).write(&folder.join("one.ppm"));
        }
        let (index, ..) = built(folder, None);
        index.write(&file, Stored::F16).expect("written");
        let index = Index::read(&file).expect("whole");
        assert_eq!((index.len(), index.classes()), (count, None));
        for alike in [Alike::default(), Alike::Features(0.0)] {
            assert_eq!(duplicates(&index, alike, &Device::cpu(1), &mut |_| {}).expect("computed"), []);
        }
        let flat = Flat::new(index.features(), index.width(), &Device::cpu(1)).expect("memory");
        assert_eq!(flat.neighbors(index.features(), 5, &mut |_| {}).expect("computed"), vec![vec![]; count]);
    }
}

/// The tensors of a file, to be written again with changes.
fn tensors(bytes: &[u8]) -> Vec<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let file = SafeTensors::deserialize(bytes).expect("safetensors");
    let owned =
        |(name, view): (String, TensorView<'_>)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec());
    file.tensors().into_iter().map(owned).collect()
}

fn serialized(tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (&**name, TensorView::new(*dtype, shape.clone(), data).expect("a tensor")))
        .collect();
    safetensors::serialize(views, None).expect("safetensors")
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path();
    for seed in 0..3 {
        Paint::new(seed).write(&folder.join(format!("{seed}.ppm")));
    }
    let file = folder.join("index.safetensors");
    built(folder, None).0.write(&file, Stored::F32).expect("written");
    let whole = std::fs::read(&file).expect("bytes");
    let read = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        Index::read(&file).map(|index| index.len()).map_err(|fault| fault.to_string())
    };
    assert_eq!(read(&whole), Ok(3));
    // Cut short anywhere.
    for length in (0..whole.len()).step_by(whole.len() / 60) {
        assert!(read(&whole[..length]).is_err(), "{length} bytes");
    }
    // A changed byte is an error or other values, never a panic.
    for place in (0..whole.len()).step_by(whole.len() / 150) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        let _ = read(&bytes);
    }
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>, &mut Vec<usize>)| {
        let mut all = tensors(&whole);
        let tensor = all.iter_mut().find(|tensor| tensor.0 == name).expect("there");
        change(&mut tensor.3, &mut tensor.2);
        read(&serialized(&all)).expect_err("refused")
    };
    let nan = |bytes: &mut Vec<u8>, _: &mut Vec<usize>| bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    for (name, change, said) in [
        ("features", &nan as &dyn Fn(&mut Vec<u8>, &mut Vec<usize>), "features of image 0 are not finite"),
        ("origin.test", &nan, "features of the test image"),
        ("labels", &|bytes, _| bytes[0..4].copy_from_slice(&7i32.to_le_bytes()), "a label that is not in the list"),
        ("names", &|bytes, _| bytes[0] = 0xff, "not UTF-8"),
        ("names", &|bytes, _| bytes[1] = 0, "expected 3 names, found 4"),
        ("written", &|bytes, shape| (bytes.truncate(16), shape[0] = 2).1, "expected `written` in int64 of shape [3]"),
        ("about", &|bytes, _| bytes.fill(b' '), "`about`"),
    ] {
        let found = changed(name, change);
        assert!(found.contains("damaged index") && found.contains(said), "{name}: {found}");
    }
    let newer = changed("about", &|bytes, _| {
        let text = String::from_utf8(bytes.clone()).expect("JSON").replace("\"format\":1", "\"format\":2");
        *bytes = text.into_bytes();
    });
    assert!(newer.contains("found one in format 2"), "{newer}");
    let mut less = tensors(&whole);
    less.retain(|tensor| tensor.0 != "small");
    assert!(read(&serialized(&less)).expect_err("refused").contains("`small` is missing"));
    let weights = std::fs::read(digits().join("model.safetensors")).expect("a model");
    for (bytes, said) in
        [(&b"P6 1 1 255\nabc"[..], "found a file of another kind"), (&weights, "safetensors with other contents")]
    {
        let found = read(bytes).expect_err("refused");
        assert!(found.contains("expected an index of images") && found.contains(said), "{found}");
    }
    assert!(Index::read(folder).expect_err("a folder").to_string().contains("found a folder"));
    assert!(Index::read(&folder.join("nothing.safetensors")).is_err());
}
