//! `probe --dense`: patch tokens on images with masks.

use std::path::Path;

use serde_json::Value;

use super::{built_in, folder, names_in};

/// Images of noise with a smooth disk somewhere, and masks: 1 for the disk, 0 around it, 255 along its edge.
fn scenes(images: &Path, masks: &Path, count: u64, seed: u64) {
    for folder in [images, masks] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    for number in 0..count {
        let (width, height) = (96, 64);
        let draw = |at: u64| noise_at(seed * 1000 + number, at);
        let center = (16.0 + 64.0 * draw(1), 16.0 + 32.0 * draw(2));
        let away = |x: u32, y: u32| (f64::from(x) - center.0).hypot(f64::from(y) - center.1);
        let image = image::RgbImage::from_fn(width, height, |x, y| {
            let noise = |channel: u64| (255.0 * draw(10 + channel + 3 * u64::from(y * width + x))) as u8;
            if away(x, y) < 14.0 { image::Rgb([200, 180, 40]) } else { image::Rgb([noise(0), noise(1), noise(2)]) }
        });
        let mask = image::GrayImage::from_fn(width, height, |x, y| {
            image::Luma([match away(x, y) {
                inside if inside < 13.0 => 1,
                outside if outside > 15.0 => 0,
                _ => 255,
            }])
        });
        image.save(images.join(format!("{number}.png"))).expect("written");
        mask.save(masks.join(format!("{number}.png"))).expect("written");
    }
}

/// A number from 0 to 1 for each place.
fn noise_at(seed: u64, at: u64) -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xd134_2543_de82_ef95);
    for _ in 0..3 {
        state ^= state >> 31;
        state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    (state >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn a_disk_in_noise_is_found_patch_by_patch() {
    let folder = folder();
    let data = folder.path().join("data");
    for (split, count) in [("train", 12), ("val", 4)] {
        scenes(&data.join("images").join(split), &data.join("masks").join(split), count, count);
    }
    std::fs::write(data.join("classes.txt"), "noise\ndisk\n").expect("written");
    let (data, out) = (data.display().to_string(), folder.path().join("out"));
    let output = out.display().to_string();
    let args = ["probe", &data, "--dense", "--short-side", "96", "--steps", "400", "--output", &output, "--json"];
    let found: Value = serde_json::from_str(&built_in(args).ok()).expect("JSON");
    assert_eq!((found["train"].as_u64(), found["test"].as_u64()), (Some(12), Some(4)));
    let overlap = found["mean_iou"].as_f64().expect("a number");
    assert!(overlap > 0.8, "{found}");
    assert_eq!((&found["classes"][1]["name"], &found["classes"][1]["value"]), (&"disk".into(), &1.into()));
    assert_eq!(names_in(&out), ["0.png", "1.png", "2.png", "3.png", "sheet.png"]);
    let predicted = image::open(out.join("2.png")).expect("a mask").into_luma8();
    assert!(predicted.dimensions() == (96, 64) && predicted.pixels().all(|pixel| pixel.0[0] < 2));
    let said = built_in(["probe", &data, "--dense", "--steps", "20"]).ok();
    assert!(said.contains("mean IoU") && said.contains("noise"), "{said}");
}

#[test]
fn masks_that_do_not_fit_are_refused() {
    let folder = folder();
    let (images, masks) = (folder.path().join("images"), folder.path().join("masks"));
    scenes(&images, &masks, 5, 1);
    let data = folder.path().display().to_string();
    let large = image::GrayImage::new(10, 10);
    large.save(masks.join("3.png")).expect("written");
    let said = built_in(["probe", &data, "--dense", "--steps", "5"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("expected a mask of 64×96 pixels") && said.err.contains("3.png"), "{}", said.err);
    let same = masks.display().to_string();
    let said = built_in(["probe", &data, "--dense", "--steps", "5", "--output", &same]).fails(1);
    assert!(said.contains("would be replaced") && said.contains("--output"), "{said}");
    let said = built_in(["probe", &data, "--dense", "--short-side", "16"]).fails(1);
    assert!(said.contains("at least 32 pixels"), "{said}");
    std::fs::remove_file(masks.join("3.png")).expect("removed");
    let said = built_in(["probe", &data, "--dense"]).fails(1);
    assert!(said.contains("1 image has no mask"), "{said}");
    let said = built_in(["probe", &data, "--dense", "--ignore-index", "x"]).fails(2);
    assert!(said.contains("separated by commas"), "{said}");
    let said = built_in(["probe", &data, "--ignore-index", "0"]).fails(2);
    assert!(said.contains("--dense"), "{said}");
    std::fs::remove_file(images.join("3.png")).expect("removed");
    let said = built_in(["probe", &data, "--dense", "--ignore-index", "1,255"]).fails(1);
    assert!(said.contains("at least two classes, found the values 0, 1, 255"), "{said}");
}
