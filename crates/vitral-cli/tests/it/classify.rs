use serde_json::Value;

use super::*;

#[test]
fn every_digit_image_gets_its_label() {
    let images = DIGITS.map(digit);
    let out = vitral(["classify", "--json", "--top", "1"].into_iter().map(str::to_owned).chain(images.clone())).ok();
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 10);
    for (number, (line, image)) in lines.iter().zip(images).enumerate() {
        assert_eq!(line["image"], image);
        assert_eq!(line["labels"][0]["class"], number, "{line}");
        assert_eq!(line["labels"][0]["label"], number.to_string());
    }
}

#[test]
fn prints_names_and_percentages() {
    insta::assert_snapshot!(vitral(["classify", "--top", "2", &digit("four"), &digit("two")]).ok(), @r"
    assets/digits/images/four.png
       99.66 %  4
        0.25 %  9
    assets/digits/images/two.png
       99.31 %  2
        0.49 %  1
    ");
}

#[test]
fn csv_has_one_row_per_label() {
    let out = vitral(["classify", "--csv", "--top", "2", &digit("seven")]).ok();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["image", "rank", "class", "label", "probability", "logit"]);
    assert_eq!(lines[1][..4], ["assets/digits/images/seven.png", "1", "7", "7"]);
    assert_eq!((lines.len(), lines[2][1]), (3, "2"));
}

#[test]
fn reads_an_image_from_standard_input() {
    let bytes = std::fs::read(root().join(digit("seven"))).expect("an asset");
    let run = vitral_fed(["classify", "-", "--top", "1"], &bytes);
    assert_eq!(run.ok(), "-\n   99.99 %  7\n");
    let said = vitral_fed(["classify", "-"], b"not an image").fails(1);
    assert!(said.starts_with("skipped: `-`: expected an image (JPEG, PNG,"), "{said}");
    assert!(said.contains("found the text `not an image`"), "{said}");
    assert!(vitral(["classify", "-", "-"]).fails(2).contains("`-` was given twice"));
}

#[test]
fn a_bad_file_is_reported_and_skipped() {
    let folder = folder();
    let bad = folder.path().join("bad.png");
    std::fs::write(&bad, b"\x89PNG\r\n\x1a\nnothing").expect("written");
    let (bad, missing) = (bad.display().to_string(), folder.path().join("missing.jpg").display().to_string());
    let run = vitral(["classify", "--json", &digit("one"), &bad, &missing, &digit("two")]);
    // Each has a line in its place.
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line["image"].as_str()).collect();
    assert_eq!(names, [&digit("one"), &bad, &missing, &digit("two")]);
    assert!(lines[0]["labels"].is_array() && lines[0]["error"].is_null() && lines[1]["labels"].is_null());
    assert!(lines[2]["error"].as_str().is_some_and(|error| error.contains("cannot read the file: No such file")));
    let printed = run.out.clone();
    let said = run.fails(1);
    assert!(said.contains(&format!("skipped: `{bad}`: ")), "{said}");
    assert!(said.contains(&format!("skipped: `{missing}`: cannot read the file: No such file")), "{said}");
    assert_eq!(said.lines().last(), Some("2 of 4 images could not be used"));
    assert_eq!(said.lines().count(), 3, "{said}");
    // The place does not depend on batches, and other formats have results only.
    let alone = vitral(["classify", "--json", "--batch", "1", &digit("one"), &bad, &missing, &digit("two")]);
    assert_eq!(alone.out, printed);
    assert_eq!(vitral(["classify", "--csv", "--top", "1", &bad, &digit("two")]).out.lines().count(), 2);
    assert!(!vitral(["classify", &bad, &digit("two")]).out.contains("bad.png"));
    let none = vitral(["classify", "--json", &bad]);
    assert_eq!((none.code, none.out.lines().count()), (Some(1), 1));
}

#[test]
fn folders_and_patterns_are_searched() {
    let folder = folder();
    let sub = folder.path().join("b/c");
    std::fs::create_dir_all(&sub).expect("made");
    for (from, to) in [("three", "z.png"), ("two", "b/c/2.PNG"), ("one", "a.png")] {
        std::fs::copy(root().join(digit(from)), folder.path().join(to)).expect("copied");
    }
    std::fs::write(folder.path().join("notes.txt"), "not an image").expect("written");
    std::fs::write(folder.path().join(".hidden.png"), "not an image").expect("written");
    let seen = |place: PathBuf| -> Vec<String> {
        let out = vitral(["classify".as_ref(), "--json".as_ref(), place.as_os_str()]).ok();
        let name = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let path = PathBuf::from(line["image"].as_str().expect("a name"));
            path.strip_prefix(folder.path()).expect("in the folder").display().to_string()
        };
        out.lines().map(name).collect()
    };
    assert_eq!(seen(folder.path().into()), ["a.png", "b/c/2.PNG", "z.png"]);
    assert_eq!(seen(folder.path().join("*.png")), ["a.png", "z.png"]);
    assert_eq!(seen(folder.path().join("**/*.[Pp]*")), ["a.png", "b/c/2.PNG", "z.png"]);

    std::fs::create_dir(folder.path().join("empty")).expect("made");
    let empty = vitral(["classify".as_ref(), folder.path().join("empty").as_os_str()]).fails(1);
    assert!(empty.starts_with("error: ") && empty.contains("no images in this folder"), "{empty}");
    let nothing = vitral(["classify".as_ref(), folder.path().join("*.gif").as_os_str()]).fails(1);
    assert!(nothing.contains("no match as a pattern"), "{nothing}");
    let model = golden("hf_vit_model").display().to_string();
    let weights = vitral(["classify", &model]).fails(1);
    assert!(weights.contains(&format!("did you mean `--model {model}`?")), "{weights}");
    let address = vitral(["classify", "https://example.org/cat.jpg"]).fails(1);
    assert!(address.starts_with("skipped: `https://example.org/cat.jpg`: addresses are not fetched"), "{address}");
}

#[test]
fn threads_and_batch_size_do_not_change_results() {
    let run = |threads, batch| {
        let options = ["classify", "--json", "--top", "10", "--threads", threads, "--batch", batch];
        vitral(options.into_iter().chain(["assets/digits/images"])).ok()
    };
    let expected = run("1", "1");
    assert_eq!(expected.lines().count(), 10);
    for (threads, batch) in [("1", "8"), ("2", "1"), ("2", "8"), ("3", "4")] {
        assert_eq!(run(threads, batch), expected, "{threads} threads, batch {batch}");
    }
}

#[test]
fn reads_models_of_other_libraries() {
    let photo = "goldens/image/baseline.jpg";
    for model in ["hf_vit_classifier", "timm_plain"] {
        let model = golden(model).display().to_string();
        let out = vitral(["classify", "--model", &model, photo, "--json", "--top", "3"]).ok();
        let line: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(line["labels"].as_array().map(Vec::len), Some(3), "{line}");
    }
    let headless = golden("hf_vit_model").display().to_string();
    let said = vitral(["classify", "--model", &headless, photo]).fails(1);
    assert!(said.contains("has no classifier; use `embed`"), "{said}");
}

#[test]
fn a_closed_output_is_not_an_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitral"))
        .args(["classify", "--json"])
        .args(vec!["assets/digits/images"; 60])
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn the_built_in_model_classifies_its_test_images() {
    let said = built_in(["classify", "--json", "--top", "1", "assets/images"]).ok();
    let mut seen = 0;
    for line in said.lines() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        let path = answer["image"].as_str().expect("a path");
        let label = answer["labels"][0]["label"].as_str().expect("a label");
        assert!(path.contains(label), "{path} classified as {label}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_model_without_pooling_is_refused_if_one_output_per_image_is_needed() {
    let model = golden("timm_no_pool").display().to_string();
    let folder = folder();
    let output = folder.path().display().to_string();
    let photo = "goldens/image/baseline.jpg";
    for (command, what) in [
        (vec!["classify", photo], "ranking"),
        (vec!["evaluate", "assets/digits"], "ranking"),
        (vec!["probe", "assets/digits"], "feature"),
        (vec!["explain", photo, "--class", "3", "--output", &output], "ranking"),
        (vec!["explain", photo, "--method", "gradcam", "--output", &output], "output"),
        (vec!["explain", photo, "--method", "gradcam", "--target", "feature", "--output", &output], "output"),
        (vec!["explain", photo, "--faithfulness", "--output", &output], "output"),
    ] {
        let said = vitral(command.iter().chain(&["--model", &model])).fails(1);
        let expected = format!("expected one {what} per image");
        assert!(said.contains(&expected) && said.contains("found one per token"), "{command:?}: {said}");
    }
    for methods in [vec![], vec!["--method", "all", "--masks", "3", "--steps", "2", "--samples", "2"]] {
        let explain = ["explain", photo, "--model", &model, "--output", &output];
        vitral(explain.into_iter().chain(methods)).ok();
    }
    assert!(names_in(&folder.path().join("baseline")).contains(&"rollout.png".to_owned()));
}

#[test]
fn nearly_black_images_have_a_note_once_and_a_flag() {
    let dark = "goldens/image/field/grey12in16.png";
    let note = format!(
        "note: `{dark}`: 16-bit samples stay below 4096, so the image is nearly black; `--sample-range 12` stretches them\n"
    );
    let run = vitral(["classify", dark, &digit("one"), dark, "--batch", "1"]);
    assert_eq!((run.code, run.err), (Some(0), note));
    for range in ["12", "auto"] {
        let run = vitral(["classify", dark, "--sample-range", range]);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    }
    let folder = folder();
    let out = folder.path().join("out.safetensors").display().to_string();
    let run = vitral(["preprocess", dark, "--sample-range", "12", "--output", &out]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert!(vitral(["classify", dark, "--sample-range", "wide"]).fails(2).contains("a number of bits from 8 to 16"));
}

#[test]
fn the_backend_of_preprocessing_is_a_flag() {
    let (vit, image) = ("goldens/models/hf_vit_classifier", "goldens/image/tall.png");
    let folder = folder();
    let written = |backend: &[&str], name: &str| {
        let out = folder.path().join(name).display().to_string();
        let run = vitral([&["preprocess", "--model", vit, image, "--output", &out], backend].concat()).ok();
        (run, std::fs::read(&out).unwrap())
    };
    let (line, torchvision) = written(&["--backend", "torchvision"], "torchvision.safetensors");
    assert!(line.contains("by torchvision"), "{line}");
    let ((line, pil), (_, own)) = (written(&["--backend", "pil"], "pil.safetensors"), written(&[], "own.safetensors"));
    assert!(!line.contains("by torchvision") && pil == own && pil != torchvision, "{line}");

    let logits = |backend: &[&str]| vitral([&["classify", "--model", vit, image, "--json"], backend].concat()).ok();
    assert_ne!(logits(&["--backend", "torchvision"]), logits(&[]));
    for model in [&["--model", "goldens/models/timm_plain"][..], &[]] {
        let said = vitral([&["classify", image, "--backend", "torchvision"], model].concat()).fails(1);
        assert!(said.contains("expected steps of a Hugging Face processor") && said.contains("leave out"), "{said}");
    }
    assert!(vitral(["classify", image, "--backend", "numpy"]).fails(2).contains("torchvision"));
}

#[test]
fn the_limit_on_pixels_is_a_flag() {
    let said = vitral(["classify", &digit("one"), "--max-pixels", "20"]).fails(1);
    assert!(said.contains("expected at most 20 pixels") && said.contains("raise `--max-pixels`"), "{said}");
    let tiff = "goldens/image/field/planar_tiled.tif";
    assert_eq!(vitral(["classify", tiff, &digit("one"), "--top", "1"]).ok().lines().count(), 4);
}
