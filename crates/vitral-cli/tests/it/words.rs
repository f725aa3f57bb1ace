//! Classes in words: `--labels`, `--template`, `--text`.

use serde_json::Value;

use super::*;

const CLIP: [&str; 2] = ["--model", "goldens/texts/clip"];
const CAT: &str = "assets/images/cat.jpg";

fn with<'a>(words: &[&'a str]) -> Vec<&'a str> {
    words.iter().chain(&CLIP).copied().collect()
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn labels_classify_and_a_bundle_of_them_says_the_same() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let labels = ["--labels", "cat,dog, two birds", "--template", "a photo of a {}."];
    let said = json(&vitral(with(&["classify", CAT, "--json"]).into_iter().chain(labels)).ok());
    let ranked = said[0]["labels"].as_array().expect("labels");
    let sum: f64 = ranked.iter().map(|label| label["probability"].as_f64().expect("a number")).sum();
    assert!(ranked.len() == 3 && (sum - 1.0).abs() < 1e-5, "{said:?}");
    assert!(ranked.iter().any(|label| label["label"] == "two birds"), "{said:?}");
    let listed = path("labels.txt");
    std::fs::write(&listed, "cat\ndog\ntwo birds\n").expect("written");
    let of_file = format!("@{listed}");
    let again = with(&["classify", CAT, "--json", "--labels", &of_file, "--template", "a photo of a {}."]);
    assert_eq!(json(&vitral(again).ok()), said);
    let bundle = path("pets");
    vitral(["convert", CLIP[1], &bundle, "--to", "bundle"].into_iter().chain(labels)).ok();
    assert_eq!(json(&vitral(["classify", CAT, "--json", "--model", &bundle]).ok()), said);
    let maps = path("maps");
    vitral(["explain", CAT, "--model", &bundle, "--method", "gradcam", "--class", "dog", "--output", &maps]).ok();
    let fault = vitral(["convert", CLIP[1], &path("timm"), "--to", "timm"].into_iter().chain(labels)).fails(2);
    assert!(fault.contains("--to bundle"), "{fault}");
}

#[test]
fn classes_of_a_folder_are_measured_by_their_names() {
    let folder = folder();
    for class in ["zero", "one"] {
        std::fs::create_dir_all(folder.path().join(class)).expect("made");
        std::fs::copy(root().join(digit(class)), folder.path().join(class).join("a.png")).expect("copied");
    }
    let data = folder.path().display().to_string();
    let report = vitral(with(&["evaluate", &data, "--template", "the digit {}", "--json"])).ok();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((&report["images"], report["classes"].as_array().map(Vec::len)), (&2.into(), Some(2)), "{report}");
    assert!(vitral(with(&["evaluate", &data])).fails(2).contains("--template 'a photo of a {}.'"));
}

#[test]
fn images_are_found_by_words() {
    let folder = folder();
    let index = folder.path().join("index.safetensors").display().to_string();
    vitral(with(&["search", "index", "assets/images", "--out", &index])).ok();
    let found =
        json(&vitral(["search", "query", &index, "--text", "a cat", "--text", "a dog", "-k", "2", "--json"]).ok());
    let names: Vec<&str> = found.iter().map(|line| line["image"].as_str().expect("the text")).collect();
    assert_eq!(names, ["a cat", "a dog"]);
    // The same cosines as of the vectors themselves.
    let vectors = |more: &[&str]| {
        let lines = json(&vitral(with(&["embed"]).into_iter().chain(more.iter().copied())).ok());
        let numbers = |line: &Value| -> Vec<f64> {
            line["features"].as_array().expect("features").iter().map(|x| x.as_f64().expect("a number")).collect()
        };
        lines.iter().map(numbers).collect::<Vec<_>>()
    };
    let (text, image) = (vectors(&["--text", "a cat"]).remove(0), found[0]["neighbors"][0].clone());
    let place = format!("assets/images/{}", image["image"].as_str().expect("a name"));
    let seen = vectors(&[&place]).remove(0);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = dot(&text, &seen) / (dot(&text, &text) * dot(&seen, &seen)).sqrt();
    assert!((cosine - image["cosine"].as_f64().expect("a number")).abs() < 1e-5, "{cosine} {image}");
    // Another model's words would be answered by nonsense.
    let other = vitral(["search", "query", &index, "--text", "a cat", "--model", "goldens/texts/siglip"]).fails(1);
    assert!(other.contains("not comparable"), "{other}");
}

#[test]
fn what_cannot_be_asked_is_said() {
    for (words, said) in [
        (&["classify", CAT, "--labels", "cat,,dog"][..], "empty"),
        (&["classify", CAT, "--labels", "@no/such/file"], "cannot read"),
        (&["classify", CAT, "--template", "a {}"], "--labels"),
        (&["classify", CAT, "--labels", "cat", "--template", "a photo"], "{}"),
        (&["embed", CAT, "--text", "a cat"], "found both"),
        (&["embed"], "--text"),
        (&["embed", "--text", "a cat", "--pool", "mean"], "--pool"),
    ] {
        let run = vitral(with(words));
        assert!(matches!(run.code, Some(1 | 2)) && run.err.contains(said), "{words:?}: {}", run.err);
    }
    let none = built_in(["classify", CAT, "--labels", "cat,dog"]).fails(2);
    assert!(none.contains("no text tower"), "{none}");
    let images_alone = vitral(["classify", CAT, "--labels", "a,b", "--model", "goldens/models/hf_vit_classifier"]);
    assert!(images_alone.fails(1).contains("text tower"));
}
