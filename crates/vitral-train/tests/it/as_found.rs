//! Data sets as people have them: other names of splits, two sources of one split, lists from spreadsheets, zips, runs
//! among the classes.

use std::io::Write;
use std::path::Path;

use vitral_train::data::{Dataset, Part, Relabeled, Split, ValidationSplit, open_part};
use vitral_train::recipe::{Recipe, Setting};
use vitral_train::sets::{Sets, open_sets};

/// A small PNG of one color.
fn png(level: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(2, 2, image::Rgb([level; 3]));
    image.write_to(&mut bytes, image::ImageFormat::Png).expect("memory");
    bytes.into_inner()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("written");
        self
    }

    /// Two images in each of these folders.
    fn images(&self, folders: &[&str]) -> &Self {
        for folder in folders {
            self.write(&format!("{folder}/0.png"), png(0)).write(&format!("{folder}/1.png"), png(1));
        }
        self
    }

    fn open(&self, name: &str, split: Split) -> Part {
        let whole = ValidationSplit { fraction: if split == Split::Train { 0.0 } else { 1.0 }, seed: 0 };
        let part = open_part(&self.0.path().join(name), split, whole).unwrap_or_else(|error| panic!("{error}"));
        for index in 0..part.dataset.len() {
            part.dataset.image(index).unwrap_or_else(|error| panic!("{error}"));
        }
        part
    }

    fn refused(&self, name: &str) -> String {
        let whole = ValidationSplit { fraction: 0.0, seed: 0 };
        open_part(&self.0.path().join(name), Split::Train, whole).expect_err(name).to_string()
    }

    fn sets(&self, name: &str) -> Result<Sets, String> {
        let recipe = "[model]\nvariant = \"test/4\"\n[data]\ntrain = \"\"\nmean = [0.5]\nstd = [0.5]\n\
                      [optimizer]\nkind = \"adamw\"\n[schedule]\n[run]\nepochs = 1\nbatch = 1\n";
        let train = Setting::new("data.train", self.0.path().join(name).to_string_lossy().into_owned());
        let recipe = Recipe::parse(recipe, Path::new("recipe"), &[train]).expect("a recipe");
        open_sets(&recipe).map_err(|error| error.to_string())
    }
}

fn classes(part: &Part) -> Vec<&str> {
    part.dataset.classes().iter().map(String::as_str).collect()
}

#[test]
fn splits_have_many_names() {
    for (train, test) in
        [("training_set", "test_set"), ("seg_train", "seg_test"), ("Train", "Val"), ("trainset", "dev")]
    {
        let place = Place::new();
        place.images(&[&format!("{train}/a"), &format!("{train}/b"), &format!("{test}/b")]);
        let (learned, tested) = (place.open("", Split::Train), place.open("", Split::Test));
        assert_eq!((classes(&learned), learned.dataset.len()), (vec!["a", "b"], 4), "{train}");
        assert_eq!((classes(&tested), tested.dataset.len(), tested.dataset.label(0)), (vec!["a", "b"], 2, 1));
    }
}

#[test]
fn a_folder_around_the_data_is_looked_into() {
    let place = Place::new();
    place.images(&["one/data/a", "one/data/b", "two/all/train/train/a", "two/all/train/train/b", "two/all/test/b"]);
    let part = place.open("one", Split::Train);
    assert_eq!(classes(&part), ["a", "b"]);
    assert!(part.notes[0].contains("one/data"), "{:?}", part.notes);
    assert_eq!((place.open("two", Split::Train).dataset.len(), place.open("two", Split::Test).dataset.len()), (4, 2));
}

#[test]
fn two_sources_of_one_split_are_refused_by_name() {
    let place = Place::new();
    place.images(&["a/train/x", "a/train/y", "b/train/x", "b/train/y", "b/val/x", "b/valid/x"]);
    place.write("a/train.csv", "path,label\ntrain/x/0.png,x\n");
    let error = place.refused("a");
    assert!(error.contains("`train` and `train.csv`") && error.contains("training images"), "{error}");
    let error = place.refused("b");
    assert!(error.contains("`val` and `valid`") && error.contains("validation images"), "{error}");
}

#[test]
fn a_list_beside_a_folder_of_the_same_name_labels_its_images() {
    let place = Place::new();
    place.images(&["train", "test"]).write("train.csv", "id,breed\n0,cat\n1,dog\n").write("test.csv", "id\n0\n1\n");
    let part = place.open("train.csv", Split::Train);
    assert_eq!((classes(&part), part.dataset.len()), (vec!["cat", "dog"], 2));
    // The test images have no labels, so only the training images are a data set.
    let part = place.open("", Split::Train);
    assert_eq!((classes(&part), part.dataset.len(), part.parts.len()), (vec!["cat", "dog"], 2, 0));
    let notes = part.notes.join("\n");
    assert!(notes.contains("test.csv") && notes.contains("the test images, which have no labels"), "{notes}");
}

#[test]
fn what_is_no_class_is_left_out_and_reported() {
    let place = Place::new();
    place.images(&["a", "b", ".ipynb_checkpoints", "__MACOSX/a", "b/.thumbs"]);
    place.write("run/recipe.toml", "").write("run/checkpoints/step-1.safetensors", "");
    place.write("model/vitral.json", "").write("model/model.safetensors", "");
    place.write("a/notes.txt", "").write("a/photo.heic", "").write("loose.png", png(3));
    let part = place.open("", Split::Train);
    assert_eq!((classes(&part), part.dataset.len()), (vec!["a", "b"], 4));
    let said = part.notes.join("\n");
    for word in ["run`: a training run", "model`: a model", "1 .heic", "1 .txt", "1 image is in"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
    place.write("c/page.html", "");
    let error = place.refused("");
    assert!(error.contains("`") && error.contains("1 .html") && error.contains("move the folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn broken_links_are_left_out_and_reported() {
    let place = Place::new();
    place.images(&["a", "b"]);
    std::os::unix::fs::symlink("nowhere.png", place.0.path().join("a/2.png")).expect("a link");
    std::os::unix::fs::symlink("..", place.0.path().join("b/back")).expect("a link");
    std::os::unix::fs::symlink("nowhere", place.0.path().join("c")).expect("a link");
    let part = place.open("", Split::Train);
    assert_eq!((classes(&part), part.dataset.len()), (vec!["a", "b"], 4));
    let said = part.notes.join("\n");
    for word in ["which does not exist", "a link back to", "c`: a link to nothing"] {
        assert!(said.contains(word), "no `{word}` in\n{said}");
    }
}

#[test]
fn one_class_alone_is_refused_and_folders_of_the_same_names_are_pointed_out() {
    let place = Place::new();
    place.images(&["one/cats", "sites/north/cat", "sites/north/dog", "sites/south/cat", "sites/south/dog"]);
    let error = place.sets("one").expect_err("one class");
    assert!(error.contains("at least two classes") && error.contains("`cats`"), "{error}");
    let notes = place.sets("sites").expect("two classes").notes.join("\n");
    assert!(notes.contains("`north`, `south`") && notes.contains("`cat`, `dog`"), "{notes}");
}

#[test]
fn lists_come_from_spreadsheets_and_from_windows() {
    let place = Place::new();
    place.images(&["images/a", "images/b"]);
    let rows = [("images/a/0.png", "a"), ("images/b/0.png", "b"), ("images/b/1.png", "b")];
    let table = |mark: &str, slash: &str| {
        let lines = rows.map(|(path, label)| format!("{}{mark}{label}\r\n", path.replace('/', slash)));
        format!("Filename{mark}Label\r\n{}", lines.concat())
    };
    let json = rows.map(|(path, label)| format!("{{\"file_name\": \"{path}\", \"label\": \"{label}\"}}\n")).concat();
    let utf16 = |text: &str| [vec![0xFF, 0xFE], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
    let marked = |text: String| [b"\xEF\xBB\xBF".to_vec(), text.into_bytes()].concat();
    place.write("plain.csv", table(",", "/")).write("UPPER.CSV", table(",", "/"));
    place.write("marked.csv", marked(table(",", "/"))).write("semicolon.csv", table(";", "\\"));
    place.write("tabs.tsv", table("\t", "/")).write("utf16.csv", utf16(&table("\t", "/")));
    place.write("marked.jsonl", marked(json.clone())).write("UPPER.JSONL", json);
    for name in [
        "plain.csv",
        "UPPER.CSV",
        "marked.csv",
        "semicolon.csv",
        "tabs.tsv",
        "utf16.csv",
        "marked.jsonl",
        "UPPER.JSONL",
    ] {
        let part = place.open(name, Split::Train);
        let labels: Vec<usize> = (0..part.dataset.len()).map(|index| part.dataset.label(index)).collect();
        assert_eq!((classes(&part), labels), (vec!["a", "b"], vec![0, 1, 1]), "{name}");
    }
    place.write("classes.txt", b"\xEF\xBB\xBFb\r\na\r\n");
    assert_eq!(classes(&place.open("plain.csv", Split::Train)), ["b", "a"]);
    place.write("classes.txt", "a\nb\na\n");
    assert!(place.refused("plain.csv").contains("`a` twice"));
}

#[test]
fn each_split_may_have_its_metadata() {
    for (file, header, row) in [
        ("metadata.csv", "file_name,label\n", "{},{}\n"),
        ("metadata.jsonl", "", "{\"file_name\": \"{}\", \"label\": \"{}\"}\n"),
    ] {
        let place = Place::new();
        for split in ["train", "validation"] {
            let row = |image: &str, label: &str| row.replacen("{}", image, 1).replacen("{}", label, 1);
            let rows = format!("{header}{}{}", row("0.png", "cat"), row("1.png", "dog"));
            place.images(&[split]).write(&format!("{split}/{file}"), rows);
        }
        let (learned, tested) = (place.open("", Split::Train), place.open("", Split::Test));
        assert_eq!((classes(&learned), learned.dataset.len(), tested.dataset.len()), (vec!["cat", "dog"], 2, 2));
    }
}

#[test]
fn sparse_numbers_are_names() {
    let place = Place::new();
    place.images(&["a"]);
    place.write("ids.csv", "path,label\na/0.png,60112\na/1.png,17\na/0.png,4023\n");
    assert_eq!(classes(&place.open("ids.csv", Split::Train)), ["17", "4023", "60112"]);
    place.write("dense.csv", "path,label\na/0.png,0\na/1.png,1\na/0.png,3\n");
    assert_eq!(classes(&place.open("dense.csv", Split::Train)), ["0", "1", "2", "3"]);
}

#[test]
fn numbered_folders_and_archives_are_in_the_same_order() {
    let place = Place::new();
    let folders: Vec<String> = (1..=12).map(|class| format!("data/{class}")).collect();
    place.images(&folders.iter().map(String::as_str).collect::<Vec<_>>());
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", place.0.path().join("data")).expect("memory");
    place.write("data.tar", tar.into_inner().expect("memory"));
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for class in (1..=12).rev() {
        for (method, name) in [(zip::CompressionMethod::Stored, "0"), (zip::CompressionMethod::Deflated, "1")] {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(format!("flowers/{class}/{name}.png"), options).expect("memory");
            zip.write_all(&png(class)).expect("memory");
        }
    }
    zip.start_file("__MACOSX/flowers/1/._0.png", zip::write::SimpleFileOptions::default()).expect("memory");
    place.write("data.zip", zip.finish().expect("memory").into_inner());
    let expected: Vec<String> = (1..=12).map(|class: u8| class.to_string()).collect();
    for name in ["data", "data.tar", "data.zip"] {
        let part = place.open(name, Split::Train);
        assert_eq!((part.dataset.classes(), part.dataset.len()), (&expected[..], 24), "{name}");
    }
    let zipped = place.open("data.zip", Split::Train).dataset;
    let last = (0..zipped.len()).find(|&index| zipped.label(index) == 11).expect("class 12");
    assert_eq!(zipped.image(last).expect("an image").pixel(0, 0), [12; 3]);
    let whole = std::fs::read(place.0.path().join("data.zip")).expect("read");
    place.write("cut.zip", &whole[..whole.len() / 2]);
    assert!(place.refused("cut.zip").contains("cut.zip"));
}

/// An archive has the classes of the folder that was packed.
#[test]
fn folders_inside_classes_are_no_classes() {
    for folders in [
        ["dogs/2019", "dogs/2020", "cats/2019", "cats/2020"],
        ["pets/dogs/2019", "pets/dogs/2020", "pets/cats/2019", "pets/cats/2020"],
        ["train/dogs/2019", "train/cats/2019", "test/dogs/2020", "test/cats/2020"],
        ["./dogs", "./dogs/2020", "./cats", "./cats/2020"],
    ] {
        let place = Place::new();
        place.images(&folders.map(|folder| format!("data/{folder}")).each_ref().map(String::as_str));
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all("data", place.0.path().join("data")).expect("memory");
        place.write("data.tar", tar.into_inner().expect("memory"));
        let [folder, packed] = ["data", "data.tar"].map(|name| place.open(name, Split::Train));
        assert_eq!(classes(&folder), ["cats", "dogs"], "{folders:?}");
        assert_eq!((classes(&packed), packed.dataset.len()), (classes(&folder), folder.dataset.len()), "{folders:?}");
    }
}

/// Two images of 2 × 2 pixels and their labels, as idx files with this name in front.
fn idx(place: &Place, name: &str, level: u8) {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2][..], &[level; 8]].concat();
    place.write(&format!("{name}-images-idx3-ubyte"), images);
    place.write(&format!("{name}-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 2, 0, 1]);
}

#[test]
fn test_images_in_idx_files_are_known_wherever_their_name_says_it() {
    for (train, test) in
        [("train", "t10k"), ("emnist-balanced-train", "emnist-balanced-test"), ("a-train", "a-testing")]
    {
        let place = Place::new();
        for (name, level) in [(train, 10), (test, 20)] {
            idx(&place, &format!("data/{name}"), level);
        }
        for (split, level) in [(Split::Train, 10), (Split::Test, 20)] {
            let part = place.open("data", split);
            assert_eq!((part.dataset.len(), part.dataset.image(0).expect("an image").pixel(0, 0)), (2, [level; 3]));
        }
    }
    let place = Place::new();
    for set in ["balanced", "letters"] {
        idx(&place, &format!("data/emnist-{set}-train"), 10);
        idx(&place, &format!("data/emnist-{set}-test"), 20);
    }
    let error = place.refused("data");
    assert!(error.contains("found 2") && error.contains("emnist-letters-train"), "{error}");
}

#[test]
fn lists_in_json_have_the_columns_of_tables() {
    let place = Place::new();
    let row = |path: &str, more: &str| format!(r#"{{"path": "{path}", "label": "a"{more}}}"#);
    place.images(&["x"]);
    place
        .write("x/list.jsonl", [row("0.png", r#", "is_train": 1"#), row("1.png", r#", "is_train": false"#)].join("\n"));
    for (split, name) in [(Split::Train, "0.png"), (Split::Test, "1.png")] {
        let part = place.open("x/list.jsonl", split);
        assert_eq!(part.dataset.len(), 1);
        assert!(part.dataset.name(0).ends_with(name), "{}", part.dataset.name(0));
    }
    place.write("x/some.jsonl", [row("0.png", r#", "split": "train""#), row("1.png", "")].join("\n"));
    let error = place.refused("x/some.jsonl");
    assert!(error.contains("line 2") && error.contains("expected a `split`"), "{error}");
    let numbers = r#"{"path": "0.png", "label": 0.37}"#.to_owned() + "\n" + r#"{"path": "1.png", "label": -2}"#;
    place.write("x/numbers.jsonl", numbers);
    let part = place.open("x/numbers.jsonl", Split::Train);
    let mut found = classes(&part);
    found.sort_unstable();
    assert_eq!(found, ["-2", "0.37"]);
}

/// That none of the classes applies to an image is known, too.
#[test]
fn images_without_labels_are_evaluated() {
    let place = Place::new();
    place.images(&["x"]).write("x/list.csv", "path,label\n0.png,\"['a', 'b']\"\n1.png,[]\n");
    let part = place.open("x", Split::Train);
    let names = ["b".to_owned(), "a".to_owned()];
    let matched = Relabeled::to(part.dataset, 2, Some(&names)).expect("the same classes");
    assert_eq!((matched.len(), matched.labels(0), matched.labels(1)), (2, vec![1, 0], vec![]));
    assert!(matched.unknown().iter().all(|(_, images)| *images == 0));
}

#[test]
fn columns_say_what_they_mean_or_are_refused() {
    let place = Place::new();
    place.images(&["a", "b"]);
    place.write("split.csv", "path,label,split\na/0.png,a,train\nb/0.png,b,holdout\n");
    let error = place.refused("split.csv");
    assert!(error.contains("line 3") && error.contains("`holdout`"), "{error}");
    place.write("nan.csv", "path,label\na/0.png,a\nb/0.png,NaN\n");
    assert!(place.refused("nan.csv").contains("line 3"));
    place.write("floats.csv", "path,label\na/0.png,0.0\nb/0.png,1.0\nb/1.png,2.0\n");
    assert_eq!(classes(&place.open("floats.csv", Split::Train)), ["0", "1", "2"]);
    place.write("long.csv", "path,label\na/0.png,red\nb/0.png,blue\na/0.png,blue\nb/0.png,blue\n");
    let part = place.open("long.csv", Split::Train);
    assert_eq!((part.dataset.len(), part.dataset.labels(0), part.dataset.labels(1)), (2, vec![1, 0], vec![0]));
    assert!(part.notes[0].contains("2 rows"), "{:?}", part.notes);
}

#[test]
fn lists_beside_folders_label_the_images_in_them() {
    let place = Place::new();
    // Kaggle: images without class folders, and one list.
    place.images(&["dogs/train", "dogs/test"]).write("dogs/labels.csv", "id,breed\n0,corgi\n1,husky\n");
    let part = place.open("dogs", Split::Train);
    assert_eq!((classes(&part), part.dataset.len(), part.parts.len()), (vec!["corgi", "husky"], 2, 0));
    assert!(
        part.dataset.name(0).contains("train") && part.notes.join(" ").contains("2 images that are not in the list")
    );
    // Hugging Face: one list whose paths begin with the splits.
    place.images(&["hf/train", "hf/test"]);
    place.write("hf/metadata.csv", "file_name,label\ntrain/0.png,a\ntrain/1.png,b\ntest/0.png,b\n");
    assert_eq!(place.open("hf", Split::Train).dataset.len(), 2);
    assert_eq!(place.open("hf", Split::Test).dataset.len(), 1);
    // Nothing says what the images are.
    place.images(&["flat/train", "flat/test", "odd/train", "odd/cat"]);
    assert!(place.refused("flat").contains("folders of classes in the splits"));
    assert!(place.open("odd", Split::Train).notes.join(" ").contains("`train`, which is the name of a split"));
    place.images(&["cub"]).write("cub/list.csv", "path,label,is_train\n0.png,a,1\n1.png,b,0\n");
    assert_eq!(place.open("cub", Split::Test).dataset.len(), 1);
    // Lists in cells, and images without any label.
    place.images(&["cells"]).write("cells/list.csv", "path,label\n0.png,\"['a', 'b']\"\n1.png,[]\n");
    let part = place.open("cells", Split::Train);
    assert_eq!((classes(&part), part.dataset.labels(0), part.dataset.labels(1)), (vec!["a", "b"], vec![0, 1], vec![]));
}

#[test]
fn splits_inside_classes_are_refused_and_names_have_one_spelling() {
    let place = Place::new();
    place.images(&["inside/cat/train", "inside/cat/test", "inside/dog/train", "inside/dog/test"]);
    let error = place.refused("inside");
    assert!(error.contains("every class folder") && error.contains("`train/cat`"), "{error}");
    // The same letter in one character and in two.
    place.images(&["data/train/caf\u{e9}", "data/train/tea", "data/test/cafe\u{301}"]);
    assert_eq!(place.open("data", Split::Test).dataset.label(0), 0);
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_folders_too() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    place.images(&["b"]);
    let odd = place.0.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&odd).expect("made");
    std::fs::write(odd.join("0.png"), png(0)).expect("written");
    assert_eq!(place.open("", Split::Train).dataset.len(), 3);
}

#[test]
fn test_images_match_by_name() {
    let place = Place::new();
    place.images(&["train/a", "train/b", "train/c", "test/c", "test/a", "other/b", "other/x"]);
    let sets = |test: &str| {
        let recipe = "[model]\nvariant = \"test/4\"\n[data]\ntrain = \"train\"\nmean = [0.5]\nstd = [0.5]\n\
                      [optimizer]\nkind = \"adamw\"\n[schedule]\n[run]\nepochs = 1\nbatch = 1\n";
        let test = Setting::new("data.test", place.0.path().join(test).to_string_lossy().into_owned());
        let recipe = Recipe::parse(recipe, &place.0.path().join("recipe.toml"), &[test]).expect("a recipe");
        open_sets(&recipe).map_err(|error| error.to_string())
    };
    let tested = sets("test").expect("some of the classes").test;
    let labels: Vec<usize> = (0..tested.len()).map(|index| tested.label(index)).collect();
    assert_eq!((tested.classes().len(), labels), (3, vec![0, 0, 2, 2]));
    let error = sets("other").expect_err("an unknown class");
    assert!(error.contains("`x`") && !error.contains("other ones: `b`"), "{error}");
}
