use serde_json::Value;

use super::*;

/// An index of the digits in a folder of its own, with a copy of them.
struct Indexed {
    folder: tempfile::TempDir,
}

impl Indexed {
    fn new() -> Self {
        let indexed = Indexed { folder: folder() };
        std::fs::create_dir(indexed.at("images")).expect("made");
        for name in DIGITS {
            std::fs::copy(root().join(digit(name)), indexed.at(&format!("images/{name}.png"))).expect("copied");
        }
        indexed.index(&[]).ok();
        indexed
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn index(&self, more: &[&str]) -> Run {
        let (images, out) = (self.text("images"), self.text("digits.safetensors"));
        vitral(["search", "index", &images, "--out", &out].iter().chain(more))
    }

    /// A command about the index.
    fn ask(&self, command: &str, more: &[&str]) -> Run {
        let index = self.text("digits.safetensors");
        vitral(["search", command, &index].iter().chain(more))
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn an_image_is_its_own_nearest_neighbor() {
    let indexed = Indexed::new();
    let run = indexed.ask("query", &[&digit("four"), &digit("seven"), "--top-k", "3", "--json"]).ok();
    let lines: Vec<Value> = run.lines().map(json).collect();
    for (line, name) in lines.iter().zip(["four", "seven"]) {
        let near = line["neighbors"].as_array().expect("neighbors");
        assert_eq!((near.len(), near[0]["image"].as_str()), (3, Some(&*format!("{name}.png"))));
        assert!(near[0]["cosine"].as_f64() > Some(0.99999), "{line}");
        assert!(near[1]["cosine"].as_f64() <= near[0]["cosine"].as_f64(), "{line}");
    }
    // The same on one thread, and in a batch of its own.
    let alone =
        indexed.ask("query", &[&digit("four"), &digit("seven"), "-k", "3", "--json", "--threads", "1", "--batch", "1"]);
    assert_eq!(alone.ok(), run);
    let page = indexed.text("four.html");
    let table = indexed.ask("query", &[&digit("four"), "--gallery", &page]).ok();
    assert!(table.contains("    1  1.0000  four.png") && table.lines().count() == 11, "{table}");
    let page = std::fs::read_to_string(page).expect("written");
    assert!(page.matches("<figure").count() == 11 && page.matches("data:image/jpeg").count() == 11, "{page}");
    // What cannot be read is said, and the rest is answered.
    let run = indexed.ask("query", &["README.md", &digit("one"), "--json"]);
    let lines: Vec<Value> = run.out.lines().map(json).collect();
    assert!(run.code == Some(1) && lines[0]["error"].is_string() && lines[1]["neighbors"].is_array(), "{}", run.out);
}

#[test]
fn an_index_is_brought_up_to_date() {
    let indexed = Indexed::new();
    let before = std::fs::read(indexed.at("digits.safetensors")).expect("written");
    let again = json(&indexed.index(&["--json"]).ok());
    assert_eq!((again["computed"].as_u64(), again["kept"].as_u64()), (Some(0), Some(10)), "{again}");
    assert_eq!(std::fs::read(indexed.at("digits.safetensors")).expect("written"), before);
    std::fs::write(indexed.at("images/damaged.png"), "no image").expect("written");
    std::fs::copy(root().join(digit("one")), indexed.at("images/more.png")).expect("copied");
    std::fs::remove_file(indexed.at("images/nine.png")).expect("removed");
    let run = indexed.index(&[]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    for said in [
        "damaged.png",
        "9 images already in the index",
        "1 computed, 1 no longer there",
        "1 of 11 images could not be used",
    ] {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    let (shape, features) = tensor(&indexed.at("digits.safetensors"), "features");
    assert_eq!(shape, [10, 64]);
    // The same numbers as `embed` writes, in the same order.
    let embedded = indexed.at("a.safetensors");
    std::fs::remove_file(indexed.at("images/damaged.png")).expect("removed");
    vitral(["embed", &indexed.text("images"), "--output", &embedded.display().to_string()]).ok();
    assert_eq!(tensor(&embedded, "features"), (shape, features));
    let half = json(&indexed.index(&["--json", "--rebuild", "--f16"]).ok());
    assert_eq!((half["computed"].as_u64(), half["kept"].as_u64()), (Some(10), Some(0)), "{half}");
    assert!(std::fs::metadata(indexed.at("digits.safetensors")).expect("written").len() < before.len() as u64);
    indexed.ask("query", &[&digit("one")]).ok();
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_lost() {
    let indexed = Indexed::new();
    let before = std::fs::read(indexed.at("digits.safetensors")).expect("written");
    let built_in_model = |more: &[&str]| {
        let (images, out) = (indexed.text("images"), indexed.text("digits.safetensors"));
        built_in(["search", "index", &images, "--out", &out].iter().chain(more))
    };
    let said = built_in_model(&[]).fails(1);
    assert!(said.contains("not comparable") && said.contains("; it was made with `"), "{said}");
    assert!(
        said.contains(": give `--model ") && said.contains("`, choose another `--out`, or add `--rebuild`"),
        "{said}"
    );
    let said = indexed.index(&["--pool", "mean"]).fails(1);
    assert!(said.contains("expected the pooling `pooled`, found `mean`"), "{said}");
    let said = indexed.ask("query", &[&digit("one"), "--sample-range", "auto"]).fails(2);
    assert!(said.contains("--sample-range full"), "{said}");
    let other = folder();
    std::fs::copy(root().join("assets/images/cat.jpg"), other.path().join("cat.jpg")).expect("copied");
    let out = indexed.text("digits.safetensors");
    let said = vitral(["search", "index", &other.path().display().to_string(), "--out", &out]).fails(1);
    assert!(said.contains("found one of"), "{said}");
    assert_eq!(std::fs::read(indexed.at("digits.safetensors")).expect("written"), before);
    // What is no index is not written over.
    std::fs::write(indexed.at("other.safetensors"), "something else").expect("written");
    let (images, out) = (indexed.text("images"), indexed.text("other.safetensors"));
    let said = vitral(["search", "index", &images, "--out", &out, "--rebuild"]).fails(1);
    assert!(said.contains("expected an index of images, found a file of another kind"), "{said}");
    assert_eq!(std::fs::read(indexed.at("other.safetensors")).expect("kept"), b"something else");
    let said = vitral(["search", "query", &out, &digit("one")]).fails(1);
    assert!(said.contains("`vitral search index` makes one"), "{said}");
    std::fs::write(indexed.at("digits.safetensors"), &before[..before.len() - 9]).expect("written");
    let said = indexed.ask("duplicates", &[]).fails(1);
    assert!(said.contains("cut short"), "{said}");
    let said = vitral(["search", "index", "recipes", "--out", &indexed.text("new.safetensors")]).fails(1);
    assert!(said.contains("no images in this folder"), "{said}");
    assert!(!indexed.at("new.safetensors").exists());
    let said = vitral(["search", "index", &images, "--out", &indexed.text("nowhere/new.safetensors")]).fails(1);
    assert!(said.contains("could not be written: the folder `") && said.contains("does not exist"), "{said}");
    // The model of the index is found by itself, whatever the usual one is.
    indexed.index(&["--rebuild"]).fails(1);
    std::fs::write(indexed.at("digits.safetensors"), &before).expect("written");
    let query = ["search", "query", &indexed.text("digits.safetensors"), &digit("one")].map(str::to_owned);
    built_in(&query).ok();
    let said = built_in(
        query.iter().map(String::as_str).chain(["--model", &golden("timm_no_class_token").display().to_string()]),
    );
    assert!(said.fails(1).contains("not comparable"));
}

#[test]
fn copies_are_grouped() {
    let indexed = Indexed::new();
    std::fs::create_dir(indexed.at("images/copies")).expect("made");
    std::fs::copy(root().join(digit("three")), indexed.at("images/copies/3.png")).expect("copied");
    indexed.index(&[]).ok();
    let found = json(&indexed.ask("duplicates", &["--json"]).ok());
    let groups = found["groups"].as_array().expect("groups");
    let group = groups.iter().find(|group| group["copies"][0]["relation"] == "same-pixels").expect("a group");
    let names = [&group["image"], &group["copies"][0]["image"]].map(|name| name.as_str().expect("a name"));
    assert!(names.contains(&"three.png") && names.contains(&"copies/3.png"), "{group}");
    let page = indexed.text("copies.html");
    let run = indexed.ask("duplicates", &["--gallery", &page]);
    assert!(run.out.contains("(same pixels)") && run.err.contains("of 11 images"), "{}", run.err);
    assert!(std::fs::read_to_string(page).expect("written").contains("same pixels"));
    let all = json(&indexed.ask("duplicates", &["--cosine", "-1", "--json"]).ok());
    assert_eq!(all["copies"].as_u64(), Some(10));
    for more in [["--threshold", "0.5"], ["--cosine", "2"], ["--gallery", "a.txt"]] {
        indexed.ask("duplicates", &more).fails(2);
    }
    let index = indexed.text("digits.safetensors");
    assert!(indexed.ask("duplicates", &["--gallery", &index]).fails(2).contains(".html"));
}

#[test]
fn labels_outliers_and_maps() {
    let indexed = Indexed::new();
    let said = indexed.ask("labels", &[]).fails(1);
    assert!(said.contains("expected a label for each image, found none for `eight.png`"), "{said}");
    indexed.ask("outliers", &["--neighbors", "3", "--json"]).ok();
    for (name, begins) in
        [("map.svg", "<svg"), ("map.html", "<!doctype html>"), ("map.csv", "image,label,x,y\neight.png,,")]
    {
        for method in ["pca", "tsne"] {
            let out = indexed.text(name);
            let run = indexed.ask("map", &["--method", method, "--out", &out]);
            assert!(run.err.contains("10 images to"), "{}", run.err);
            let first = std::fs::read_to_string(&out).expect("written");
            assert!(first.starts_with(begins), "{first}");
            indexed.ask("map", &["--method", method, "--out", &out, "--threads", "1"]).ok();
            assert_eq!(std::fs::read_to_string(&out).expect("written"), first, "{name} {method}");
        }
    }
    assert_eq!(indexed.ask("map", &["--json"]).ok().lines().count(), 10);
    assert!(indexed.ask("map", &["--out", "a.png"]).fails(2).contains(".svg, .html or .csv"));
    assert!(indexed.ask("map", &[]).fails(2).contains("--out"));

    // Digits in two classes, of which one has an image of the other.
    for (class, names) in [("small", &DIGITS[..5]), ("large", &DIGITS[5..])] {
        std::fs::create_dir(indexed.at(&format!("images/{class}"))).expect("made");
        for name in names {
            std::fs::rename(
                indexed.at(&format!("images/{name}.png")),
                indexed.at(&format!("images/{class}/{name}.png")),
            )
            .expect("moved");
        }
    }
    indexed.index(&[]).ok();
    let page = indexed.text("labels.html");
    let report = json(&indexed.ask("labels", &["--json", "--gallery", &page]).ok());
    assert_eq!((report["images"].as_u64(), report["classes"][0].as_str()), (Some(10), Some("large")), "{report}");
    assert!(std::fs::read_to_string(page).expect("written").contains("Labels to look at"));
}

#[test]
fn search_has_help() {
    for command in ["index", "query", "duplicates", "labels", "outliers", "map"] {
        let help = vitral(["search", command, "--help"]).ok();
        assert!(help.contains("Examples:") && help.contains("--threads"), "{help}");
    }
    assert!(vitral(["search", "--help"]).ok().contains("Examples:"));
    vitral(["search"]).fails(2);
}
