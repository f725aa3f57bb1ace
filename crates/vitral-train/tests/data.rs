//! Data sets in every supported format, and batches that depend only on the seed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vitral::Device;
use vitral::config::Size;
use vitral::image::preprocess::Channels;
use vitral::image::{Filter, Preprocess};
use vitral_train::augment::{Augment, Crop, Mixing, Padding, Policy};
use vitral_train::data::{
    Cached, Dataset, Loader, LoaderOptions, Sampling, Split, Subset, Summary, ValidationSplit, open, plain,
};

/// An image of a single color as an uncompressed 24-bit BMP.
fn bmp(width: usize, height: usize, color: [u8; 3]) -> Vec<u8> {
    let stride = (width * 3).div_ceil(4) * 4;
    let mut out = b"BM".to_vec();
    out.extend((54 + stride * height).to_le_bytes()[..4].iter());
    out.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
    out.extend((width as u32).to_le_bytes());
    out.extend((height as u32).to_le_bytes());
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    for _ in 0..height {
        let mut line = [color[2], color[1], color[0]].repeat(width);
        line.resize(stride, 0);
        out.extend(line);
    }
    out
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
    std::fs::write(path, bytes).expect("a writable folder");
}

/// `count` images for each of two classes, each image with its own color.
fn folder(root: &Path, count: usize) {
    for (class, name) in ["cat", "dog"].into_iter().enumerate() {
        for index in 0..count {
            let color = [class as u8 * 200, index as u8 * 10, 7];
            write(&root.join(name).join(format!("{index:03}.bmp")), &bmp(8, 8, color));
        }
    }
}

fn whole(path: &Path, split: Split) -> Arc<dyn Dataset> {
    open(path, split, ValidationSplit { fraction: 0.25, seed: 1 }).unwrap_or_else(|fault| panic!("{fault}"))
}

fn refused(path: &Path) -> String {
    match open(path, Split::Train, ValidationSplit::default()) {
        Ok(_) => panic!("{} was accepted", path.display()),
        Err(fault) => fault.to_string(),
    }
}

fn small() -> Preprocess {
    plain(Size { height: 8, width: 8 }, Filter::Bilinear, &[0.5; 3], &[0.5; 3])
}

#[test]
fn folders_are_split_by_the_seed_or_by_their_own_splits() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    folder(path, 8);
    let (train, held) = (whole(path, Split::Train), whole(path, Split::Validation));
    assert_eq!((train.len(), held.len(), train.classes()), (12, 4, &["cat".to_owned(), "dog".to_owned()][..]));
    let names = |set: &Arc<dyn Dataset>| (0..set.len()).map(|index| set.name(index)).collect::<Vec<_>>();
    assert!(names(&held).iter().all(|name| !names(&train).contains(name)));
    assert_eq!(names(&held), names(&whole(path, Split::Test)));
    assert_eq!(train.image(0).expect("an image").pixel(0, 0)[0], 0);
    let summary = Summary::of(train.as_ref(), Channels::Rgb, 5, 0);
    assert_eq!(summary.to_string(), "12 images of 2 classes, 6 each; 8×8 pixels");

    let parts = tempfile::tempdir().expect("a temporary folder");
    folder(&parts.path().join("train"), 3);
    // A test set without cats: the class number of dogs does not change.
    write(&parts.path().join("test/dog/1.bmp"), &bmp(3, 2, [0; 3]));
    let test = whole(parts.path(), Split::Test);
    assert_eq!((test.len(), test.label(0), test.classes().len()), (1, 1, 2));
    assert_eq!(whole(parts.path(), Split::Validation).len(), 1);
    assert_eq!(whole(parts.path(), Split::Train).len(), 6);
    write(&parts.path().join("test/cow/1.bmp"), &bmp(3, 2, [0; 3]));
    let fault = open(parts.path(), Split::Test, ValidationSplit::default()).expect_err("an unknown class").to_string();
    assert!(fault.contains("`cow`") && fault.contains("`cat`, `dog`"), "{fault}");
}

#[test]
fn archives_hold_the_same_images_as_folders() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    folder(&path.join("set/train"), 4);
    folder(&path.join("set/test"), 2);
    for part in ["train", "test"] {
        let mut plain = tar::Builder::new(Vec::new());
        plain.append_dir_all(part, path.join("set").join(part)).expect("a tar in memory");
        let bytes = plain.into_inner().expect("a tar in memory");
        write(&path.join("plain").join(format!("{part}.tar")), &bytes);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&bytes).expect("memory");
        write(&path.join("packed").join(format!("{part}.tar.gz")), &packed.finish().expect("memory"));
    }
    let mut both = tar::Builder::new(Vec::new());
    both.append_dir_all(".", path.join("set")).expect("a tar in memory");
    write(&path.join("both.tar"), &both.into_inner().expect("a tar in memory"));
    for split in [Split::Train, Split::Test] {
        let expected = whole(&path.join("set"), split);
        for other in ["plain", "packed", "both.tar"] {
            let found = whole(&path.join(other), split);
            assert_eq!((found.len(), found.classes()), (expected.len(), expected.classes()), "{other}");
            for index in 0..found.len() {
                assert_eq!(found.label(index), expected.label(index));
                assert_eq!(found.image(index).expect("an image"), expected.image(index).expect("an image"));
            }
        }
    }
    write(&path.join("shard.tar"), &shard(&[("0001", "2"), ("0002", "0"), ("0003", "2"), ("0004", "0")]));
    let found = whole(&path.join("shard.tar"), Split::Train);
    assert_eq!((found.len(), found.classes().len()), (2, 3));
}

/// A tar of images with their classes next to them, as in WebDataset.
fn shard(members: &[(&str, &str)]) -> Vec<u8> {
    let mut shard = tar::Builder::new(Vec::new());
    for (key, class) in members {
        let shade = key.as_bytes()[key.len() - 1];
        for (ending, bytes) in [("bmp", bmp(2, 2, [shade; 3])), ("cls", class.as_bytes().to_vec())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            shard.append_data(&mut header, format!("{key}.{ending}"), &bytes[..]).expect("a tar in memory");
        }
    }
    shard.into_inner().expect("a tar in memory")
}

#[test]
fn shards_form_one_data_set() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    let (first, second) = (shard(&[("01", "1"), ("02", "0")]), shard(&[("01", "4"), ("04", "1")]));
    for (name, bytes) in [("train-000000.tar", &first), ("train-000001.tar", &second)] {
        write(&path.join("parts").join(name), bytes);
        write(&path.join("folders/train").join(name), bytes);
        write(&path.join("alone").join(name), bytes);
    }
    let test = shard(&[("07", "4")]);
    write(&path.join("parts/val-000000.tar"), &test);
    write(&path.join("folders/val/000000.tar"), &test);
    for set in ["parts", "folders"] {
        let train = whole(&path.join(set), Split::Train);
        let labels: Vec<usize> = (0..train.len()).map(|index| train.label(index)).collect();
        // The classes of all shards together, from 0.
        assert_eq!((labels, train.classes().len()), (vec![1, 0, 4, 1], 5), "{set}");
        let shade = |set: &Arc<dyn Dataset>, index| set.image(index).expect("an image").pixel(0, 0)[0];
        assert_eq!([0, 1, 2, 3].map(|index| shade(&train, index)), *b"1214", "{set}");
        let test = whole(&path.join(set), Split::Test);
        assert_eq!((test.len(), test.label(0), test.classes().len(), shade(&test, 0)), (1, 4, 5, b'7'), "{set}");
    }
    // Without splits, some images of each class are split off.
    let sizes = [Split::Train, Split::Test].map(|split| whole(&path.join("alone"), split).len());
    assert_eq!(sizes.iter().sum::<usize>(), 4);
    // The unpacked folders take precedence over the tar next to them.
    folder(&path.join("unpacked"), 2);
    write(&path.join("unpacked/all.tar"), &first);
    assert_eq!(whole(&path.join("unpacked"), Split::Train).classes(), ["cat", "dog"]);
}

#[test]
fn idx_cifar_and_lists_are_recognized() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    for (part, count) in [("train", 6u8), ("t10k", 3)] {
        let images: Vec<u8> =
            [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3].into_iter().chain(0..6 * count).collect();
        let labels: Vec<u8> = [0, 0, 8, 1, 0, 0, 0, count].into_iter().chain((0..count).map(|i| i % 3)).collect();
        write(&path.join(format!("idx/{part}-images-idx3-ubyte")), &images);
        write(&path.join(format!("idx/{part}-labels-idx1-ubyte")), &labels);
    }
    let (train, test) = (whole(&path.join("idx"), Split::Train), whole(&path.join("idx"), Split::Test));
    assert_eq!((train.len(), test.len(), train.classes().len(), train.label(4)), (6, 3, 10, 1));
    let image = train.image(1).expect("an image");
    assert_eq!((image.size(), image.pixel(1, 2)), (Size { height: 2, width: 3 }, [11; 3]));

    let record = |label: u8| [label].into_iter().chain((0..3072).map(|at| (at / 1024) as u8)).collect::<Vec<u8>>();
    write(&path.join("cifar/data_batch_1.bin"), &[record(3), record(9)].concat());
    write(&path.join("cifar/data_batch_2.bin"), &record(1));
    write(&path.join("cifar/test_batch.bin"), &record(0));
    let cifar = whole(&path.join("cifar"), Split::Train);
    assert_eq!((cifar.len(), cifar.label(1), cifar.label(2)), (3, 9, 1));
    assert!(cifar.name(2).ends_with("data_batch_2.bin#0"));
    assert_eq!(cifar.image(0).expect("an image").pixel(31, 31), [0, 1, 2]);
    assert_eq!(whole(&path.join("cifar"), Split::Test).len(), 1);
    write(&path.join("cifar/data_batch_1.bin"), &record(10));
    assert!(refused(&path.join("cifar")).contains("expected labels below 10"));

    write(&path.join("list/a.bmp"), &bmp(4, 4, [1; 3]));
    write(&path.join("list/b.bmp"), &bmp(4, 4, [2; 3]));
    write(&path.join("list/set.csv"), b"file,label,split\na.bmp,red|round,train\nb.bmp,round,train\na.bmp,red,test\n");
    let list = whole(&path.join("list/set.csv"), Split::Train);
    assert_eq!(
        (list.len(), list.classes(), list.labels(0)),
        (2, &["red".to_owned(), "round".to_owned()][..], vec![0, 1])
    );
    assert_eq!(whole(&path.join("list/set.csv"), Split::Test).len(), 1);
    write(
        &path.join("json/set.jsonl"),
        b"{\"file_name\": \"../list/a.bmp\", \"label\": 2}\n\n{\"path\": \"b\", \"label\": [2, 1]}\n",
    );
    write(&path.join("json/classes.txt"), b"a\nb\nc\n");
    let list =
        open(&path.join("json/set.jsonl"), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a list");
    assert_eq!(
        (list.len(), list.labels(1), list.image(0).is_ok(), list.image(1).is_err()),
        (2, vec![2, 1], true, true)
    );
    write(&path.join("json/classes.txt"), b"a\nb\n");
    let fault = refused(&path.join("json/set.jsonl"));
    assert!(fault.contains("line 1") && fault.contains("below 2, found 2"), "{fault}");
}

#[test]
fn unusable_data_is_refused_with_a_hint() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    assert!(refused(&path.join("absent")).contains("found nothing"));
    assert!(refused(path).contains("expected a sub-folder for each class"));
    write(&path.join("flat/1.bmp"), &bmp(2, 2, [0; 3]));
    assert!(refused(&path.join("flat")).contains("found images without one"));
    folder(&path.join("empty"), 2);
    std::fs::create_dir(path.join("empty/cow")).expect("a folder");
    assert!(refused(&path.join("empty")).contains("cow"));
    write(&path.join("one/cat/1.bmp"), &bmp(2, 2, [0; 3]));
    let fault =
        open(&path.join("one"), Split::Validation, ValidationSplit::default()).expect_err("one image").to_string();
    assert!(fault.contains("found 1 of 1 classes"), "{fault}");
    write(&path.join("data.txt"), b"cats");
    assert!(refused(&path.join("data.txt")).contains("another kind"));
    write(&path.join("cut.tar.gz"), &[0x1f, 0x8b, 8, 0, 0]);
    assert!(refused(&path.join("cut.tar.gz")).contains("cut.tar.gz"));
    write(&path.join("x-images-idx3-ubyte"), &[0, 0, 8, 3, 0, 0]);
    assert!(refused(&path.join("x-images-idx3-ubyte")).contains("idx"));
}

/// The contents of an epoch's batches, bit by bit.
fn contents(loader: &Loader, epoch: u64, from: usize) -> Vec<(Vec<u32>, Vec<u32>, Vec<usize>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let batches = loader.epoch(epoch, from).map(|batch| batch.expect("a batch"));
    batches
        .map(|batch| (bits(&batch.pixels.to_vec().unwrap()), bits(&batch.targets.to_vec().unwrap()), batch.labels))
        .collect()
}

#[test]
fn batches_depend_on_the_seed_but_not_on_threads_or_the_starting_point() {
    let root = tempfile::tempdir().expect("a temporary folder");
    folder(root.path(), 20);
    write(&root.path().join("cat/005.bmp"), b"BM is how it starts, and no more");
    write(&root.path().join("dog/007.bmp"), &bmp(1, 1, [90; 3]));
    write(&root.path().join("dog/008.bmp"), &bmp(20_000, 20, [90; 3]));
    let augment = Augment {
        crop: Some(Crop::Padded(Padding::default())),
        horizontal_flip: 0.5,
        policy: Some(Policy::try_from("rand-m9-mstd0.5-inc1".to_owned()).expect("a policy")),
        mixing: Some(Mixing { mixup: 0.8, cutmix: 1.0, ..Mixing::default() }),
        label_smoothing: 0.1,
        ..Augment::default()
    };
    let loader = |threads, augment: &Augment| {
        let set = open(root.path(), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a folder");
        let options = LoaderOptions::training(small(), augment.clone(), 6, 3).threads(threads);
        Loader::new(Arc::new(Cached::new(set, 10_000)), options, &Device::cpu(1)).expect("a loader")
    };
    let one = loader(1, &augment);
    let expected = contents(&one, 2, 0);
    assert_eq!((expected.len(), one.batches()), (6, 6));
    let three = loader(3, &augment);
    assert!(contents(&three, 2, 0) == expected, "the number of threads changed a batch");
    assert!(contents(&three, 2, 4) == expected[4..], "the starting point changed a batch");
    assert!(contents(&three, 1, 0) != expected, "two epochs are identical");
    // One image was damaged: it is recorded once, and another replaced it.
    let skipped = three.skipped();
    assert!(skipped.len() == 1 && skipped[0].index == 5 && skipped[0].fault.contains("005.bmp"), "{skipped:?}");
    // Dropping an iterator early ends its thread.
    drop(three.epoch(0, 0));
    let repeats = loader(2, &Augment { repeats: 3, ..augment.clone() });
    let repeated = contents(&repeats, 0, 0);
    assert!(repeated.len() == 6 && repeated[0].2[0] == repeated[0].2[2]);

    // Of two classes, one with a single image: it is half of an epoch, augmented in another way each time.
    let even = open(root.path(), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a folder");
    let dog = (0..even.len()).find(|&index| even.label(index) == 1).expect("a dog");
    let few: Arc<dyn Dataset> = Arc::new(Subset::new(even, (0..=dog).collect()));
    let options = LoaderOptions::training(small(), Augment { mixing: None, ..augment.clone() }, 6, 3);
    let balanced = Loader::new(few, options.sampling(Sampling::Balanced), &Device::cpu(1)).expect("a loader");
    let mut dogs = Vec::new();
    for (pixels, _, labels) in contents(&balanced, 0, 0) {
        let rows = pixels.chunks_exact(pixels.len() / labels.len()).zip(labels);
        dogs.extend(rows.filter(|(_, label)| *label == 1).map(|(row, _)| row.to_vec()));
    }
    assert!((6..=11).contains(&dogs.len()), "{} of 18 images", dogs.len());
    assert!(dogs.iter().any(|dog| dog != &dogs[0]), "all repetitions are augmented the same");

    // The last epochs have less augmentation, and the ones before are unchanged.
    let set = open(root.path(), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a folder");
    let options = LoaderOptions::training(small(), augment.clone(), 6, 3);
    let ending = Loader::new(set, options.plain_from(2), &Device::cpu(1)).expect("a loader");
    assert!(contents(&ending, 1, 0) == contents(&one, 1, 0));
    assert!(contents(&ending, 2, 0) == contents(&loader(2, &augment.plainer()), 2, 0));
    assert!(contents(&ending, 2, 0) != expected);

    let set = open(root.path(), Split::Train, ValidationSplit { fraction: 0.0, seed: 0 }).expect("a folder");
    let evaluation = Loader::new(set, LoaderOptions::evaluation(small(), 16), &Device::cpu(1)).expect("a loader");
    let batches = contents(&evaluation, 0, 0);
    assert_eq!(batches.iter().map(|batch| batch.2.len()).collect::<Vec<_>>(), [15, 16, 8]);
    assert!(batches[0].2.iter().all(|&label| label == 0));
    assert_eq!(evaluation.skipped().len(), 1);
    assert!(
        Loader::new(evaluation.dataset().clone(), LoaderOptions::training(small(), augment, 99, 0), &Device::cpu(1))
            .is_err()
    );
}

/// A data set that is not in this repository, in `VITRAL_SHARED_DATA` or `../shared/data`.
fn shared_data(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = std::env::var_os("VITRAL_SHARED_DATA").map_or_else(beside, PathBuf::from).join(name);
    assert!(path.exists(), "this test needs `{}`; set `VITRAL_SHARED_DATA` to its folder", path.display());
    path
}

#[test]
#[ignore = "needs the shared data in VITRAL_SHARED_DATA"]
fn real_data_sets_are_read_in_place_with_shared_data() {
    let data = shared_data("");
    let test = whole(&data.join("mnist"), Split::Test);
    assert_eq!((test.len(), test.label(0), test.label(1)), (10_000, 7, 2));
    let flowers = (whole(&data.join("flowers12"), Split::Train), whole(&data.join("flowers12"), Split::Test));
    assert_eq!((flowers.0.len(), flowers.1.len(), flowers.0.classes().len()), (720, 240, 12));
    let cifar = whole(&data.join("cifar10-jpeg"), Split::Test);
    assert_eq!((cifar.len(), cifar.classes()[9].as_str(), cifar.label(9_999)), (10_000, "truck", 9));
    println!("{}", Summary::of(cifar.as_ref(), Channels::Rgb, 100, 0));
}
