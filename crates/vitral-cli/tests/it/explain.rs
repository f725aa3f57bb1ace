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
        (vec!["--class", "giraffe"], "class `giraffe` does not exist"),
        (vec!["--method", "patch", "--at", "4000,3"], "outside"),
        (vec!["--method", "cka"], "at least 4 images"),
    ] {
        let said = refused(&more).fails(1);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
    for (more, expected) in [
        (
            vec!["--layer", "99"],
            "`--layer 99`: expected 0 to 5, or -1 to -6 from the end; the model `digits` has layers 0 to 5",
        ),
        (vec!["--layer=-7"], "`--layer -7`: expected 0 to 5"),
        (vec!["--head", "0,4"], "`--head 4`: expected 0 to 3, or -1 to -4 from the end"),
        (vec!["--head", "first"], "expected an integer: from 0 at the start"),
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
    assert!(!run.err.contains("; leave out"), "{}", run.err);
    run.ok();
    for name in ["attention", "heads", "distance", "entropy", "positions", "filters"] {
        let said = explain(folder.path(), &[photo], &["--model", &resnet, "--method", name]).fails(1);
        assert!(said.contains(&format!("leave out `{name}`")), "{said}");
    }
}

/// The pixels of a PNG, `[height, width, 3]`, and its height and width.
fn pixels(path: &Path) -> (Vec<u8>, [usize; 2]) {
    let image = vitral::image::open(path, &vitral::image::Limits::default()).expect("an image");
    let size = [image.height(), image.width()];
    (image.into_pixels(), size)
}

#[test]
fn several_layers_and_heads_give_a_map_each() {
    let folder = folder();
    let page = folder.path().join("report.html").display().to_string();
    let more = ["--method", "attention,gradcam,rollout,norms", "--layer", "1,-1", "--head", "0,-1,3", "--json"];
    let said = explain(folder.path(), &[&digit("two")], &[&more[..], &["--faithfulness", "--report", &page]].concat());
    let lines: Vec<Value> = said.ok().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut expected: Vec<String> = [1, 5]
        .iter()
        .flat_map(|layer| [0, 3].map(|head| format!("attention-layer{layer}-head{head}")))
        .chain([1, 5].map(|layer| format!("gradcam-layer{layer}")))
        .chain([1, 5].map(|layer| format!("norms-layer{layer}")))
        .chain(["rollout".to_owned()])
        .collect();
    let names = names_in(&folder.path().join("two"));
    let images: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".png")).collect();
    expected.sort();
    assert_eq!(images, expected);
    let numbers = folder.path().join("two/numbers.safetensors");
    let map = |name: &str| tensor(&numbers, name).1;
    assert_ne!(map("attention-layer1-head0"), map("attention-layer5-head0"));
    assert_ne!(map("attention-layer5-head0"), map("attention-layer5-head3"));
    let tested: Vec<&String> = lines[0]["faithfulness"].as_object().expect("maps").keys().collect();
    assert!(tested.iter().any(|name| *name == "gradcam-layer5") && tested.iter().any(|name| *name == "random"));
    let ranked = lines[1]["ranking"].as_array().expect("maps");
    assert!(ranked.iter().any(|row| row["method"] == "attention-layer1-head3"));
    assert!(lines[1]["figures"]["norms-layer1"].is_object() && folder.path().join("norms-layer5.svg").is_file());
    let page = std::fs::read_to_string(&page).expect("a page");
    assert!(page.contains("attention-layer1-head3") && page.contains("layer 1, head 3"));
    // A single one keeps its name, wherever it is counted from.
    let one = |layer: &str| {
        explain(folder.path(), &[&digit("two")], &["--method", "attention", "--layer", layer, "--head=-1"]).ok();
        tensor(&numbers, "attention").1
    };
    assert_eq!(one("-1"), one("5"));
    assert_ne!(one("-2"), one("5"));
}

#[test]
fn figures_of_the_model_need_no_image() {
    let folder = folder();
    explain(folder.path(), &[], &["--method", "positions,filters"]).ok();
    assert_eq!(names_in(folder.path()), ["figures.safetensors", "filters.png", "positions.png"]);
    let page = folder.path().join("report.html").display().to_string();
    explain(folder.path(), &[], &["--method", "positions", "--report", &page]).ok();
    assert!(std::fs::read_to_string(&page).expect("a page").contains("Similarity of position embeddings"));
    for (more, expected) in [
        (&["--method", "positions,rollout"][..], "`rollout` needs images, found none"),
        (&["--method", "all"], "`all` needs images"),
        (&[], "`explain` without `--method` needs images"),
    ] {
        let said = explain(folder.path(), &[], more).fails(2);
        assert!(said.contains(expected) && said.contains("`positions`"), "{said}");
    }
    // Other commands still need images.
    let said = vitral(["classify"]).fails(2);
    assert!(said.contains("<IMAGE>"), "{said}");
}

#[test]
fn sheets_have_labels_and_maps_their_values() {
    let folder = folder();
    let images = ["two", "three"].map(digit);
    let images = images.each_ref().map(String::as_str);
    explain(folder.path(), &images, &["--method", "attention,rollout,heads,pca,positions,filters"]).ok();
    // Six layers of four heads of 96 pixels each, with the gaps between them, are only a part of the sheet.
    let (sheet, [height, width]) = pixels(&folder.path().join("two/heads.png"));
    assert!(height > 6 * 96 + 5 * 3 + 50 && width > 4 * 96 + 3 * 3 + 50, "{height} {width}");
    // The label of the first row is at its left.
    let inked = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
        rows.flat_map(|y| columns.clone().map(move |x| (y * width + x) * 3)).filter(|&at| sheet[at] < 128).count()
    };
    assert!(inked(40..140, 0..60) > 20 && inked(0..40, 60..width) > 60);
    let (_, [height, width]) = pixels(&folder.path().join("gallery.png"));
    assert!(height > 2 * (160 + 18) + 40 && width > 4 * 160 + 3 * 6 + 60, "{height} {width}");
    // A single map is as it was: its image, enlarged.
    assert_eq!(pixels(&folder.path().join("two/rollout.png")).1, [224, 224]);
    for name in ["positions.png", "filters.png", "two/pca.png"] {
        pixels(&folder.path().join(name));
    }
}

#[test]
fn the_patch_is_outlined_where_it_is() {
    let folder = folder();
    let page = folder.path().join("report.html").display().to_string();
    let at = |at: &str, method: &str| {
        let more = ["--method", method, "--at", at, "--opacity", "0", "--report", &page];
        explain(folder.path(), &[&digit("two")], &more).ok();
        pixels(&folder.path().join(format!("two/{method}.png"))).0
    };
    for method in ["patch", "similarity"] {
        // With no opacity, two maps differ only in their outlines. Patches are 32 of 224 pixels here.
        let (left, right) = (at("1,14", method), at("26,14", method));
        let differs: Vec<usize> = (0..left.len()).filter(|&i| left[i] != right[i]).map(|i| i / 3 % 224).collect();
        assert!(!differs.is_empty() && differs.iter().all(|x| *x < 40 || *x > 183), "{method}");
        assert!(left.chunks_exact(3).any(|pixel| pixel == [0, 255, 200]));
    }
    // The patch in the last column of seven, of four pixels each.
    assert!(std::fs::read_to_string(&page).expect("a page").contains("\"marked\":[24,12,4,4]"));
}

#[test]
fn components_are_among_the_numbers_and_files_of_each_image() {
    let folder = folder();
    let images = [digit("two"), "README.md".to_owned(), digit("three")];
    let images = images.each_ref().map(String::as_str);
    let run = |more: &[&str]| explain(folder.path(), &images, &[&["--method", "rollout,pca"], more].concat());
    let ran = run(&["--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    // What could not be read is in its place among results that waited for each other.
    assert_eq!(lines[1]["image"], "README.md");
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains("README.md")), "{}", lines[1]);
    for (line, name) in [(&lines[0], "two"), (&lines[2], "three")] {
        let files: Vec<&str> = line["files"].as_array().expect("files").iter().filter_map(Value::as_str).collect();
        assert!(files.iter().any(|file| file.ends_with(&format!("{name}/pca.png"))), "{files:?}");
        let (shape, values) = tensor(&folder.path().join(name).join("numbers.safetensors"), "pca");
        assert_eq!(shape, [7, 7, 3]);
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    run(&["--numbers", "npy"]).fails(1);
    assert!(folder.path().join("two/pca.npy").is_file());
    run(&["--numbers", "json"]).fails(1);
    let text = std::fs::read_to_string(folder.path().join("three/numbers.json")).expect("written");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(read["pca"]["shape"], serde_json::json!([7, 7, 3]));
}

#[test]
fn skipped_images_have_records_in_their_places() {
    let folder = folder();
    let broken = folder.path().join("broken.png").display().to_string();
    std::fs::write(&broken, b"not an image").expect("written");
    let (two, three) = (digit("two"), digit("three"));
    let out = folder.path().join("out");
    // With results for each image, and with figures over all of them only.
    for (method, count, place) in [("rollout", 4, 1), ("distance", 2, 0)] {
        let ran = explain(&out, &[&two, &broken, &three], &["--method", method, "--json"]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.err.contains("skipped: ") && ran.err.contains("1 of 3 images could not be used"), "{}", ran.err);
        let lines: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), count, "{method}");
        assert_eq!(lines[place]["image"], broken.as_str());
        assert!(lines[place]["error"].is_string());
    }
    // Without JSON, standard output has results only.
    let ran = explain(&out, &[&two, &broken], &["--method", "rollout"]);
    assert!(!ran.out.contains("broken"), "{}", ran.out);
}

#[test]
fn faithfulness_is_explained_where_it_is_printed() {
    let folder = folder();
    let page = folder.path().join("report.html").display().to_string();
    let more = ["--method", "rollout", "--faithfulness", "--test-steps", "4", "--report", &page];
    let said = explain(folder.path(), &[&digit("two")], &more).ok();
    assert!(said.lines().any(|line| line.starts_with("random") && line.ends_with("(the baseline)")), "{said}");
    let page = std::fs::read_to_string(&page).expect("a page");
    for expected in ["smaller is better", "larger is better", "near 0 is better", "The random map is the baseline"] {
        assert!(said.contains(expected) && page.contains(expected), "{expected}: {said}");
    }
    assert!(page.contains("<title>digits explained, 20"));
    // Similarity is not about importance, so there is nothing to compare with the baseline.
    let said = explain(folder.path(), &[&digit("two")], &["--method", "similarity", "--faithfulness"]).ok();
    assert!(!said.contains("baseline"), "{said}");
    // The baseline has no file of its own unless it was asked for.
    assert!(!folder.path().join("two/random.png").exists());
}

#[test]
fn results_never_replace_an_image() {
    let folder = folder();
    let inside = folder.path().join("attention");
    std::fs::create_dir(&inside).expect("a folder");
    let (image, gallery) = (inside.join("attention.png"), folder.path().join("gallery.png"));
    for place in [&image, &gallery] {
        std::fs::copy(root().join(digit("two")), place).expect("copied");
    }
    let before = std::fs::read(&image).expect("a file");
    let [image_name, gallery_name] = [&image, &gallery].map(|path| path.display().to_string());
    for (images, more, named) in [
        (vec![image_name.as_str()], vec![], &image_name),
        (vec![gallery_name.as_str()], vec!["--method", "attention,rollout"], &gallery_name),
        // A member of a folder, which is found by looking.
        (vec![inside.to_str().expect("text")], vec!["--method", "attention"], &image_name),
    ] {
        let said = explain(folder.path(), &images, &more).fails(2);
        assert!(said.contains(&format!("`{named}` is both an input and a result")), "{said}");
    }
    for place in [&image, &gallery] {
        assert_eq!(std::fs::read(place).expect("a file"), before);
    }
    // Elsewhere it works, also by the name that other commands' users try.
    let elsewhere = folder.path().join("elsewhere").display().to_string();
    vitral(["explain", &image_name, "--method", "attention", "--out", &elsewhere]).ok();
    assert!(Path::new(&elsewhere).join("attention/attention.png").is_file());
}
