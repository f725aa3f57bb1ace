use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{ListAccessor, RowAccessor};
use serde_json::Value;

use super::*;

/// Writes the digits' features to `file`.
fn embed(file: &Path, more: &[&str]) -> Run {
    let mut args = vec!["embed", "assets/digits/images"];
    args.extend(more);
    let file = file.display().to_string();
    args.extend(["--output", &file]);
    vitral(args)
}

/// The digits' names and features from standard output.
fn printed(more: &[&str]) -> (Vec<String>, Vec<Value>) {
    let mut args = vec!["embed", "assets/digits/images"];
    args.extend(more);
    let lines = vitral(args).ok();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.into_iter().map(|line| (line["image"].as_str().expect("a name").to_owned(), line["features"].clone())).unzip()
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

#[test]
fn every_format_holds_the_same_values() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let (names, features) = printed(&[]);
    let expected: Vec<f32> = features.iter().flat_map(flat).collect();
    assert_eq!((names.len(), expected.len()), (10, 640));

    embed(&at("a.npy"), &[]).ok();
    let npy = std::fs::read(at("a.npy")).expect("written");
    // Version 1.0: magic, the header's length in two bytes, the header, the values.
    assert_eq!(npy[..8], *b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..start]).expect("ASCII");
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (10, 64), }");
    assert!(header.ends_with('\n') && start % 64 == 0);
    let values = npy[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four")));
    assert_eq!(values.collect::<Vec<_>>(), expected);
    let beside = std::fs::read_to_string(at("a.txt")).expect("names");
    assert_eq!(beside.lines().collect::<Vec<_>>(), names);

    embed(&at("a.safetensors"), &[]).ok();
    assert_eq!(tensor(&at("a.safetensors"), "features"), (vec![10, 64], expected.clone()));
    let bytes = std::fs::read(at("a.safetensors")).expect("written");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a header");
    let stored = metadata.metadata().as_ref().and_then(|about| about.get("names")).expect("names");
    assert_eq!(serde_json::from_str::<Vec<String>>(stored).expect("a list"), names);

    embed(&at("a.csv"), &[]).ok();
    let mut csv = csv::Reader::from_path(at("a.csv")).expect("written");
    assert_eq!(csv.headers().expect("a header").iter().take(3).collect::<Vec<_>>(), ["image", "0", "1"]);
    let mut values = Vec::new();
    for (row, name) in csv.records().map(|row| row.expect("a row")).zip(&names) {
        assert_eq!(&row[0], name);
        values.extend(row.iter().skip(1).map(|field| field.parse::<f32>().expect("a number")));
    }
    assert_eq!(values, expected);

    embed(&at("a.jsonl"), &[]).ok();
    let lines = std::fs::read_to_string(at("a.jsonl")).expect("written");
    let values: Vec<f32> =
        lines.lines().flat_map(|line| flat(&serde_json::from_str::<Value>(line).expect("JSON")["features"])).collect();
    assert_eq!(values, expected);

    embed(&at("a.parquet"), &[]).ok();
    let file = SerializedFileReader::new(std::fs::File::open(at("a.parquet")).expect("written")).expect("whole");
    let rows: Vec<_> = file.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
    let stored: Vec<_> = rows.iter().map(|row| row.get_string(0).expect("a name").clone()).collect();
    assert_eq!(stored, names);
    let lists = rows.iter().map(|row| row.get_list(1).expect("a list"));
    let values: Vec<f32> = lists
        .flat_map(|list| (0..list.len()).map(|i| list.get_float(i).expect("a float")).collect::<Vec<_>>())
        .collect();
    assert_eq!(values, expected);
    assert_eq!(names_in(folder.path()), ["a.csv", "a.jsonl", "a.npy", "a.parquet", "a.safetensors", "a.txt"]);
}

#[test]
fn poolings_agree_with_the_tokens() {
    let folder = folder();
    let file = folder.path().join("tokens.safetensors");
    embed(&file, &["--pool", "tokens"]).ok();
    let (shape, tokens) = tensor(&file, "features");
    assert_eq!(shape, [10, 50, 64]);
    let class: Vec<f32> = tokens.chunks(50 * 64).flat_map(|image| image[..64].to_vec()).collect();
    let mean = |image: &[f32]| -> Vec<f32> {
        (0..64).map(|i| image[64..].chunks(64).map(|token| token[i]).sum::<f32>() / 49.0).collect()
    };
    let mean: Vec<f32> = tokens.chunks(50 * 64).flat_map(mean).collect();
    let rows = folder.path().join("tokens.parquet");
    embed(&rows, &["--pool", "tokens"]).ok();
    let rows = SerializedFileReader::new(std::fs::File::open(rows).expect("written")).expect("whole");
    for (index, row) in rows.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).enumerate() {
        assert_eq!(row.get_int(1).expect("a token"), index as i32 % 50);
        let list = row.get_list(2).expect("a list");
        assert_eq!((list.len(), list.get_float(63).expect("a float")), (64, tokens[index * 64 + 63]));
    }
    for (pool, expected) in [("class", class), ("mean", mean)] {
        let found: Vec<f32> = printed(&["--pool", pool]).1.iter().flat_map(flat).collect();
        assert_eq!(found.len(), expected.len(), "{pool}");
        let apart = ::vitral::numbers::apart(&found, &expected);
        assert!(apart < 1e-5, "{pool}: {apart}");
    }
    let model = golden("timm_no_class_token").display().to_string();
    let run = vitral(["embed", "--model", &model, "--pool", "class", "goldens/image/baseline.jpg"]);
    assert!(run.fails(1).contains("has no class token"));
}

#[test]
fn threads_and_batch_size_do_not_change_results() {
    let folder = folder();
    let file = folder.path().join("a.npy");
    let bytes = |options: &[&str]| {
        embed(&file, options).ok();
        std::fs::read(&file).expect("written")
    };
    let expected = bytes(&["--threads", "1", "--batch", "1"]);
    assert_eq!(bytes(&["--threads", "2", "--batch", "8"]), expected);
}

#[test]
fn failed_writes_leave_nothing_behind() {
    let folder = folder();
    let nowhere = folder.path().join("nowhere/a.npy");
    let said = embed(&nowhere, &[]).fails(1);
    let expected = format!("could not be written: the folder `{}` does not exist", nowhere.parent().unwrap().display());
    assert!(said.contains(&expected) && said.contains("create it first"), "{said}");
    let place = folder.path().join("a.npy");
    std::fs::create_dir(&place).expect("made");
    let said = embed(&place, &[]).fails(1);
    assert!(said.contains("expected a file, found a folder"), "{said}");
    std::fs::remove_dir(&place).expect("removed");
    // An error that only occurs after the file was created.
    let args = ["embed", "--pool", "class", "--model"].map(str::to_owned).to_vec();
    let model = golden("timm_no_class_token").display().to_string();
    let output = place.display().to_string();
    let rest = [model, "goldens/image/baseline.jpg".into(), "--output".into(), output.clone()];
    vitral(args.into_iter().chain(rest)).fails(1);
    let nothing_read = vitral(["embed", "missing.png", "--output", &output]);
    assert_eq!(nothing_read.code, Some(1));
    assert_eq!(names_in(folder.path()), [] as [&str; 0]);
    let said = embed(&folder.path().join("a.xlsx"), &[]).fails(2);
    assert!(said.contains("ends in .npy, .safetensors, .csv, .jsonl or .parquet"), "{said}");
}

#[test]
fn images_that_cannot_be_read_have_records_on_standard_output_only() {
    let folder = folder();
    let images = [digit("one"), "README.md".into(), digit("two")];
    let run = vitral(["embed", &images[0], &images[1], &images[2]]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    let lines: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line["image"].as_str()).collect();
    assert_eq!(names, images);
    assert!(lines[1]["error"].is_string() && lines[1]["features"].is_null() && lines[2]["features"].is_array());
    assert!(run.err.contains("skipped: `README.md`"), "{}", run.err);
    let file = folder.path().join("a.jsonl");
    let output = file.display().to_string();
    vitral(["embed", &images[0], &images[1], &images[2], "--output", &output]).fails(1);
    assert_eq!(std::fs::read_to_string(&file).expect("written").lines().count(), 2);
}

#[cfg(unix)]
#[test]
fn output_files_have_default_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let file = folder.path().join("a.csv");
    embed(&file, &[]).ok();
    std::fs::write(folder.path().join("other"), "").expect("written");
    let rights = |path: &Path| path.metadata().expect("a file").permissions().mode();
    assert_eq!(rights(&file), rights(&folder.path().join("other")));
}
