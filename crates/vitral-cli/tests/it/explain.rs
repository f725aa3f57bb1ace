use serde_json::Value;

use super::*;

/// Runs `explain` with a folder as its output.
fn explain(folder: &Path, images: &[&str], more: &[&str]) -> Run {
    let mut args = vec!["explain".to_owned()];
    args.extend(images.iter().map(|image| (*image).to_owned()));
    args.extend(["--output".to_owned(), folder.display().to_string()]);
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    vitral(args)
}

#[test]
fn explains_a_single_image() {
    let folder = folder();
    let said = explain(folder.path(), &[&digit("seven")], &[]).ok();
    assert!(said.contains("99.") && said.contains("explained: class `7`"), "{said}");
    let expected = [
        "attention.png",
        "chefer.png",
        "gradcam.png",
        "integrated-gradients.png",
        "numbers.safetensors",
        "rollout.png",
    ];
    assert_eq!(names_in(&folder.path().join("seven")), expected);
    let (shape, values) = tensor(&folder.path().join("seven/numbers.safetensors"), "rollout");
    assert_eq!(shape, [7, 7]);
    assert!(values.iter().all(|x| *x >= 0.0) && values.iter().sum::<f32>() <= 1.0);
}

#[test]
fn the_report_is_one_self_contained_page() {
    let folder = folder();
    let page = folder.path().join("report.html").display().to_string();
    let more = [
        "--method",
        "all",
        "--faithfulness",
        "--masks",
        "20",
        "--steps",
        "4",
        "--samples",
        "2",
        "--json",
        "--test-steps",
        "7",
        "--report",
        &page,
    ];
    let images = ["zero", "one", "two", "three"].map(digit);
    let said = explain(folder.path(), &images.each_ref().map(String::as_str), &more).ok();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[1]["labels"][0]["label"], "1");
    assert!(lines[1]["faithfulness"]["rollout"]["deletion"].is_number());
    assert_eq!(lines[1]["lens"].as_array().expect("layers").len(), 7);
    let figures = &lines[4]["figures"];
    assert_eq!(figures["distance"]["shape"], serde_json::json!([6, 4]));
    assert_eq!(figures["cka"]["shape"], serde_json::json!([7, 7]));
    let ranking = lines[4]["ranking"].as_array().expect("methods");
    let areas: Vec<f64> = ranking.iter().map(|row| row["deletion"].as_f64().expect("an area")).collect();
    assert!(areas.is_sorted() && ranking.iter().any(|row| row["method"] == "random"));
    for file in lines.iter().flat_map(|line| line["files"].as_array().expect("files")) {
        assert!(root().join(file.as_str().expect("a path")).is_file(), "{file}");
    }
    let page = std::fs::read_to_string(&page).expect("a page");
    for outside in ["http://", "https://", "src=\"/", "@import"] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
    }
    let left: Vec<String> = names_in(folder.path()).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn numbers_have_every_format_and_do_not_depend_on_threads() {
    let folder = folder();
    let run = |more: &[&str]| explain(folder.path(), &[&digit("four")], more).ok();
    run(&["--method", "chefer", "--threads", "1"]);
    let file = folder.path().join("four/numbers.safetensors");
    let (_, expected) = tensor(&file, "chefer");
    run(&["--method", "chefer", "--threads", "2"]);
    assert_eq!(tensor(&file, "chefer").1, expected);
    run(&["--method", "chefer", "--numbers", "json"]);
    let text = std::fs::read_to_string(folder.path().join("four/numbers.json")).expect("written");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(read["chefer"]["shape"], serde_json::json!([7, 7]));
    run(&["--method", "chefer", "--numbers", "npy"]);
    let bytes = std::fs::read(folder.path().join("four/chefer.npy")).expect("written");
    let values: Vec<f32> =
        bytes[192..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four"))).collect();
    assert_eq!(values, expected);
}

#[test]
fn class_and_pixel_change_the_maps() {
    let folder = folder();
    let map = |more: &[&str], name: &str| {
        explain(folder.path(), &[&digit("three")], more).ok();
        tensor(&folder.path().join("three/numbers.safetensors"), name).1
    };
    let three = map(&["--method", "gradcam", "--layer", "2"], "gradcam");
    assert_ne!(three, map(&["--method", "gradcam", "--layer", "2", "--class", "8"], "gradcam"));
    let corner = map(&["--method", "patch", "--at", "0,0"], "patch");
    assert_ne!(corner, map(&["--method", "patch", "--at", "14,14"], "patch"));
    let similarity = map(&["--method", "similarity", "--at", "0,0"], "similarity");
    assert!((similarity[0] - 1.0).abs() < 1e-5);
}

#[test]
fn errors_list_the_valid_choices() {
    let folder = folder();
    let refused = |more: &[&str]| explain(folder.path(), &[&digit("one")], more);
    for (more, expected) in [
        (vec!["--layer", "99"], "layers 0 to 5"),
        (vec!["--head", "4"], "heads 0 to 3"),
        (vec!["--class", "giraffe"], "class `giraffe` does not exist"),
        (vec!["--method", "patch", "--at", "4000,3"], "outside"),
        (vec!["--method", "cka"], "at least 4 images"),
    ] {
        let said = refused(&more).fails(1);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    for (more, expected) in [
        (vec!["--method", "magic"], "[possible values: all, attention"),
        (vec!["--at", "3,3"], "`patch` and `similarity`"),
        (vec!["--compare", "model"], "`cka`"),
        (vec!["--at", "3"], "two integers"),
        (vec!["--discard", "2"], "a fraction from 0 to 1"),
    ] {
        let said = refused(&more).fails(2);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    let model = golden("hf_dinov2_model").display().to_string();
    let image = "goldens/image/baseline.jpg";
    let said = explain(folder.path(), &[image], &["--model", &model, "--method", "gradcam"]).fails(1);
    assert!(said.contains("no classifier") && said.contains("--target feature"), "{said}");
    let said = explain(folder.path(), &[image], &["--model", &model, "--class", "3"]).fails(1);
    assert!(said.contains("no classifier"), "{said}");
    explain(folder.path(), &[image], &["--model", &model, "--method", "gradcam,rollout", "--target", "feature"]).ok();
}

#[test]
fn all_reports_what_does_not_apply() {
    let folder = folder();
    let page = folder.path().join("report.html").display().to_string();
    let quick = ["--method", "all", "--masks", "3", "--steps", "2", "--samples", "2", "--report", &page];
    let images = ["zero", "one", "two"].map(digit);
    let images = images.each_ref().map(String::as_str);
    // Three images are too few to compare layers.
    let run = explain(folder.path(), &images, &[&quick[..], &["--json"]].concat());
    assert!(run.err.contains("left out `cka`: `cka` needs at least 4"), "{}", run.err);
    let said = run.ok();
    let last: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["left_out"][0]["name"], "cka");
    assert!(last["figures"]["distance"].is_object() && last["figures"]["cka"].is_null());
    assert!(std::fs::metadata(&page).expect("a report").len() > 1000);
    // If named explicitly, it is an error.
    let named = explain(folder.path(), &images, &["--method", "rollout,cka"]).fails(1);
    assert!(named.contains("`cka` needs at least 4"), "{named}");

    let (resnet, photo) = (golden("timm_bit").display().to_string(), "goldens/image/baseline.jpg");
    let run = explain(folder.path(), &[photo], &[&quick[..], &["--model", &resnet]].concat());
    for name in ["attention", "chefer", "heads", "distance", "positions", "filters"] {
        assert!(run.err.contains(&format!("left out `{name}`: the model")), "{name}: {}", run.err);
    }
    run.ok();
    for name in ["attention", "heads", "distance", "entropy", "positions", "filters"] {
        let said = explain(folder.path(), &[photo], &["--model", &resnet, "--method", name]).fails(1);
        assert!(said.contains(&format!("leave out `{name}`")), "{said}");
    }
}
