//! Large images in windows, through the commands.

use std::path::Path;

use serde_json::Value;

use super::{built_in, digit, folder, names_in, tensor};

/// Four photographs of the repository side by side, larger than the built-in model's input of 32 pixels.
fn scene(folder: &Path) -> String {
    let mut scene = image::RgbImage::new(128, 64);
    for (index, name) in ["cat", "bird", "automobile", "cat"].into_iter().enumerate() {
        let path = super::root().join(format!("assets/images/{name}.jpg"));
        let photograph = image::RgbImage::from_raw(32, 32, small(&path)).expect("an image");
        // In the second row, shifted by one.
        image::imageops::replace(&mut scene, &photograph, index as i64 * 32, 0);
        image::imageops::replace(&mut scene, &photograph, (index as i64 + 1) % 4 * 32, 32);
    }
    let path = folder.join("scene.png");
    scene.save(&path).expect("written");
    path.display().to_string()
}

/// The pixels of a photograph at the model's size.
fn small(path: &Path) -> Vec<u8> {
    let image = vitral::image::open(path, &vitral::image::Limits::default()).expect("a photograph");
    let size = vitral::config::Size::square(32);
    vitral::image::resize(&image, size, vitral::image::Filter::Bicubic).into_pixels()
}

#[test]
fn features_of_a_large_image_are_a_grid_or_a_row_for_each_window() {
    let folder = folder();
    let scene = scene(folder.path());
    let grid = folder.path().join("grid.npy").display().to_string();
    built_in(["embed", "--tiles", "--pool", "tokens", &scene, "--output", &grid]).ok();
    let header = std::fs::read(&grid).expect("a file");
    let text = String::from_utf8_lossy(&header[..128]).into_owned();
    assert!(text.contains("'shape': (16, 32, "), "{text}");

    let several = folder.path().join("grids.safetensors");
    let file = several.display().to_string();
    let photograph = digit("seven");
    built_in(["embed", "--tiles", "--tile-overlap", "0", "--pool", "tokens", &scene, &photograph, "--output", &file])
        .ok();
    let (shape, values) = tensor(&several, &scene);
    assert_eq!((shape[..2].to_vec(), values.len()), (vec![16, 32], shape.iter().product()));
    assert_eq!(tensor(&several, &photograph).0[..2], [7, 7], "28 pixels, 4 a patch");

    let said = built_in(["embed", "--tiles=64", "--tile-overlap", "0", &scene]).ok();
    let names: Vec<String> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["image"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names, [format!("{scene}#xywh=0,0,64,64"), format!("{scene}#xywh=64,0,64,64")]);
}

#[test]
fn a_heat_map_shows_where_a_class_is() {
    let folder = folder();
    let scene = scene(folder.path());
    let out = folder.path().join("out");
    let output = out.display().to_string();
    let page = folder.path().join("page.html").display().to_string();
    let args =
        ["explain", "--tiles", "--class", "automobile", "--method", "gradcam", &scene, "--output", &output, "--json"];
    let said = built_in(args.iter().copied().chain(["--report", &page])).ok();
    let line: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert_eq!((line["tiles"]["windows"].as_u64(), line["explained"].as_str()), (Some(21), Some("class `automobile`")));
    assert_eq!(names_in(&out.join("scene")), ["gradcam.png", "numbers.safetensors", "score.png"]);
    assert!(std::fs::read_to_string(&page).expect("a page").contains("Score of each window"));
    let (shape, score) = tensor(&out.join("scene/numbers.safetensors"), "score");
    assert_eq!(shape, [16, 32]);
    // The automobile is third in the upper row, and last in the lower one.
    let at = |row: usize, column: usize| score[row * 32 + column];
    let [upper, lower, cat] = [at(1, 20), at(14, 28), at(1, 3)];
    assert!(upper > 0.4 && lower > 0.4 && cat < 0.2, "{upper} {lower} {cat}");
}

#[test]
fn what_does_not_go_together_with_windows_is_wrong_usage() {
    let folder = folder();
    let scene = scene(folder.path());
    let output = folder.path().join("out.npy").display().to_string();
    let table = folder.path().join("out.csv").display().to_string();
    for (args, part) in [
        (vec!["embed", "--tiles=50", &scene], "48 or 56"),
        (vec!["embed", "--tiles", "--tile-overlap", "1.5", &scene], "from 0 to 0.95"),
        (vec!["embed", "--tiles", "--pool", "tokens", &scene], ".safetensors for several"),
        (vec!["embed", "--tiles", "--pool", "tokens", &scene, "--output", &table], ".safetensors for several"),
        (vec!["embed", "--tiles", "--pool", "tokens", &scene, &scene, "--output", &output], "one image"),
        (vec!["embed", "--tile-overlap", "0.5", &scene], "--tiles"),
        (vec!["explain", "--tiles", "--method", "pca", &scene], "`--method pca`"),
        (vec!["explain", "--tiles", "--method", "similarity", &scene], "`--method similarity`"),
        (vec!["explain", "--tiles", "--faithfulness", &scene], "`--faithfulness`"),
        (vec!["explain", "--tiles=33", &scene], "32 or 40"),
        (vec!["explain", "--tiles", "--layer", "1", &scene], "`--layer`"),
        (vec!["explain", "--tiles=80000", &scene], "at most 16384"),
    ] {
        let said = built_in(args).fails(2);
        assert!(said.contains(part), "{said}");
    }
    assert!(!Path::new(&output).exists());
}
