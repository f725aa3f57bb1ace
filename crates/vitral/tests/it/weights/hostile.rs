//! Malicious files: no panic, no memory beyond the file's own size, and an error that says what is wrong.

use proptest::prelude::*;
use vitral::weights::{Container, WeightsError};

use super::goldens;

/// Opens and reads everything; all that matters is that nothing panics.
fn exercise(bytes: Vec<u8>) {
    if let Ok(container) = Container::from_bytes("hostile", bytes) {
        for name in container.names() {
            let tensor = container.tensor(name).unwrap();
            assert!(tensor.bytes.len() <= 1 << 20, "{name} takes {} bytes", tensor.bytes.len());
        }
    }
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn error_of(bytes: Vec<u8>) -> String {
    Container::from_bytes("hostile", bytes).unwrap_err().to_string()
}

#[test]
fn safetensors_with_false_headers() {
    let huge = [&(1u64 << 60).to_le_bytes()[..], b"{\"a\": 1}"].concat();
    assert!(error_of(huge).contains("claims 1152921504606846976 bytes, the file has 16"));
    for (header, data, part) in [
        (r#"{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4]}}"#, 4, "larger than any memory"),
        (r#"{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4]}}"#, 4, "does not match its shape"),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "overlap",
        ),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4, "cut short"),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4,
            "`a` is listed twice",
        ),
        (r#"{"a":7}"#, 0, "not valid"),
        (r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#, 4, "not valid"),
    ] {
        let error = error_of(safetensors(header, &vec![0; data]));
        assert!(error.contains(part), "{header}: {error}");
    }
}

/// A header of 640 bytes begins like a pickle: its length is 0x0280.
#[test]
fn a_header_that_begins_like_a_pickle_is_read() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let container = Container::from_bytes("a", safetensors(&format!("{header:<640}"), &[0; 4])).expect("safetensors");
    assert_eq!(container.names().collect::<Vec<_>>(), ["a"]);
}

/// A header with an endless list of tensors is rejected while it is read, in time and memory bounded by its length.
#[test]
fn more_tensors_than_any_model_has_are_rejected() {
    // The shortest valid entries: 10 million of them would take half a gigabyte, which is rejected by length alone; two
    // million fit.
    let mut header = String::from("{");
    for i in 0..2_000_000 {
        use std::fmt::Write;
        write!(header, r#""{i:x}":{{}},"#).unwrap();
    }
    header.push_str(r#""a":{}}"#);
    let begin = std::time::Instant::now();
    let error = error_of(safetensors(&header, &[]));
    assert!(error.contains("names more than 1048576 tensors"), "{error}");
    assert!(begin.elapsed().as_secs() < 20, "it took {:?}", begin.elapsed());
    // Ten million short keys that are not tensors also fail, at a million or earlier.
    let many = format!("{{{}\"a\":0}}", (0..10_000_000).map(|i| format!("\"{i:x}\":0,")).collect::<String>());
    let error = error_of(safetensors(&many, &[]));
    assert!(error.contains("hundred million") || error.contains("names more than"), "{error}");
    // The same name in another spelling is still the same name.
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(error_of(safetensors(twice, &[0; 4])).contains("`a` is listed twice"));
}

/// Archives with very many entries: PyTorch's central directory is read, and its claims are bounded.
#[test]
fn archives_with_very_many_entries() {
    let names: Vec<String> = (0..60_000).map(|i| format!("m/data/{i}")).collect();
    let mut entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let pickle = tensor(0, &[6], &[1]);
    entries.push(("m/data.pkl", &pickle));
    let begin = std::time::Instant::now();
    // Its storage is empty, so its tensor extends beyond it.
    let error = error_of(archive(&entries, 0));
    assert!(error.contains("storage") || error.contains("beyond"), "{error}");
    assert!(begin.elapsed().as_secs() < 20, "it took {:?}", begin.elapsed());
    // Ten million, in the 64-bit form of the end record.
    let mut bytes = archive(&[("m/data.pkl", &pickle)], 0);
    let end = bytes.split_off(bytes.len() - 22);
    let wide = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06");
    bytes.extend([0; 28]);
    bytes.extend(10_000_000u64.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(wide.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&end[..10]);
    bytes.extend([0xff, 0xff]);
    bytes.extend(&end[12..]);
    assert!(error_of(bytes).contains("10000000 entries, more than 1048576"));
}

/// Files from machines of the other byte order have the same values.
#[test]
fn pytorch_files_with_the_other_byte_order_are_read() {
    let numbers = [1.0f32, -2.5, 3.0, 0.1, 5e-3, 7e9];
    let little: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let big: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let pickle = tensor(0, &[6], &[1]);
    for (order, data) in [("little", &little), ("big", &big)] {
        let file = archive(&[("m/data.pkl", &pickle), ("m/byteorder", order.as_bytes()), ("m/data/0", data)], 0);
        let container = Container::from_bytes("file", file).unwrap();
        assert_eq!(*container.tensor("a").unwrap().bytes, little[..], "{order}");
    }
    let lost = archive(&[("m/data.pkl", &pickle), ("m/byteorder", b"middle"), ("m/data/0", &little)], 0);
    assert!(error_of(lost).contains("middle"));
}

#[test]
fn files_of_other_kinds_are_recognized() {
    for (bytes, part) in [
        (&b""[..], "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"hello", "it begins with `hello`"),
    ] {
        let error = error_of(bytes.to_vec());
        assert!(error.contains(part), "{error}");
    }
}

/// A zip archive of uncompressed entries, as written by `torch.save`.
fn archive(entries: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = file.len() as u32;
        let mut common = Vec::new();
        common.extend([0, 0]); // flags
        common.extend(method.to_le_bytes());
        common.extend([0; 8]); // time, date, checksum
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]); // extra length
        file.extend(b"PK\x03\x04\x14\x00");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]); // comment, disk, attributes
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = file.len() as u32;
    let size = directory.len() as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    archive(&[("m/data.pkl", pickle), ("m/data/0", &[0; 24])], 0)
}

/// `{name: tensor}` with the given shape and strides over six float32 elements.
fn tensor(offset: u8, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let tuple = |values: &[u32]| {
        let mut text = vec![b'('];
        for value in values {
            text.push(b'J');
            text.extend(value.to_le_bytes());
        }
        text.push(b't');
        text
    };
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    pickle.extend(b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ");
    pickle.extend([b'K', offset]);
    pickle.extend(tuple(shape));
    pickle.extend(tuple(strides));
    pickle.extend(b"\x89)tRs.");
    pickle
}

#[test]
fn pickles_that_would_run_code_are_rejected_by_name() {
    for (pickle, global) in [
        (&b"\x80\x02cos\nsystem\nX\x08\x00\x00\x00rm -rf /\x85R."[..], "os.system"),
        (b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", "posix.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch.jit\n_load\n)R.", "torch.jit._load"),
        (
            b"\x80\x02ctorch._utils\n_rebuild_device_tensor_from_numpy\n)R.",
            "torch._utils._rebuild_device_tensor_from_numpy",
        ),
    ] {
        let error = Container::from_bytes("evil.pth", checkpoint(pickle)).unwrap_err();
        assert!(matches!(&error, WeightsError::ForbiddenGlobal { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("`{global}`")) && text.contains("state_dict"), "{text}");
    }
}

/// A module that holds itself, and modules nested under long names: neither endless nor larger than the file.
#[test]
fn hostile_modules_do_no_harm() {
    // An instance of `a.B` with `_parameters` and `_modules`, the latter with the memo's first entry under a long name.
    let name = "n".repeat(5000);
    let mut pickle = b"\x80\x02ca\nB\n)\x81q\x00}(X\x0b\x00\x00\x00_parameters}X\x08\x00\x00\x00_modules}(".to_vec();
    for key in [name.as_str(), "a", "b"] {
        pickle.push(b'X');
        pickle.extend((key.len() as u32).to_le_bytes());
        pickle.extend(key.as_bytes());
        pickle.extend(b"h\x00");
    }
    pickle.extend(b"uub.");
    assert_eq!(Container::from_bytes("loop", checkpoint(&pickle)).unwrap().len(), 0);
    // Sections that lead back to themselves.
    let mut pickle = b"\x80\x02}q\x00(".to_vec();
    for key in ["model", "state_dict", "module", "net", "ema", "weights"] {
        pickle.push(b'X');
        pickle.extend((key.len() as u32).to_le_bytes());
        pickle.extend(key.as_bytes());
        pickle.extend(b"h\x00");
    }
    pickle.extend(b"u.");
    assert!(error_of(checkpoint(&pickle)).contains("no tensors under the keys"));
}

/// A call keeps nothing of its arguments, however long they are and however often it is made.
#[test]
fn calls_of_unknown_names_take_no_memory() {
    let mut pickle = b"\x80\x02cproject.code\nSettings\nq\x00((".to_vec();
    pickle.extend(b"N".repeat(100_000));
    pickle.extend(b"tq\x01");
    for _ in 0..100_000 {
        pickle.extend(b"h\x00h\x01R0");
    }
    pickle.extend(b"t.");
    let begin = std::time::Instant::now();
    assert!(error_of(checkpoint(&pickle)).contains("expected a dictionary of tensors"));
    assert!(begin.elapsed().as_secs() < 10, "it took {:?}", begin.elapsed());
}

#[test]
fn views_are_gathered_and_impossible_ones_rejected() {
    let open = |pickle: Vec<u8>| {
        let data: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
        Container::from_bytes("views.pth", archive(&[("m/data.pkl", &pickle), ("m/data/0", &data)], 0))
    };
    let values = |pickle| -> Vec<f32> {
        let container = open(pickle).unwrap();
        container.tensor("a").unwrap().bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    assert_eq!(values(tensor(0, &[2, 3], &[3, 1])), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(values(tensor(0, &[3, 2], &[1, 3])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(values(tensor(2, &[2], &[1])), [2.0, 3.0]);
    assert_eq!(values(tensor(1, &[2, 2], &[3, 1])), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(values(tensor(0, &[0, 3], &[3, 1])), [0.0; 0]);
    for pickle in [
        tensor(0, &[7], &[1]),
        tensor(5, &[2], &[1]),
        tensor(0, &[1 << 30, 1 << 30], &[0, 0]),
        tensor(0, &[2, 2], &[u32::MAX >> 1, u32::MAX >> 1]),
    ] {
        let error = open(pickle).unwrap_err().to_string();
        assert!(error.contains("`a`: shape") && error.contains("6 elements"), "{error}");
    }
}

#[test]
fn archives_that_are_not_checkpoints() {
    let deflated = archive(&[("m/data.pkl", &tensor(0, &[6], &[1])), ("m/data/0", &[0; 24])], 8);
    assert!(error_of(deflated).contains("compressed (method 8)"));
    assert!(error_of(archive(&[("readme.txt", b"hi")], 0)).contains("without `data.pkl`"));
    let without_storage = archive(&[("m/data.pkl", &tensor(0, &[6], &[1]))], 0);
    assert!(error_of(without_storage).contains("`m/data/0` is missing"));
    let twice = archive(&[("m/data.pkl", b""), ("m/data.pkl", b"")], 0);
    assert!(error_of(twice).contains("occurs twice"));
    assert!(error_of(checkpoint(b"\x80\x02]")).contains("cut short"));
    assert!(error_of(checkpoint(b"\x80\x02].")).contains("expected a dictionary"));
    assert!(error_of(checkpoint(b"\x80\x02}h\x05.")).contains("memo"));
}

#[test]
fn a_pickle_cannot_grow_beyond_its_length() {
    // A list of 1000 pairs, passed to `OrderedDict` a thousand times.
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\nq\x00]q\x01(".to_vec();
    for _ in 0..1000 {
        pickle.extend(b"K\x01K\x02\x86");
    }
    pickle.extend(b"e\x85q\x02");
    for _ in 0..1000 {
        pickle.extend(b"h\x00h\x02R0");
    }
    pickle.push(b'.');
    assert!(error_of(checkpoint(&pickle)).contains("too often"));
    // A dictionary that contains itself.
    exercise(checkpoint(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."));
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(goldens().join("models").join(name)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn flipped_bits_do_no_harm(
        file in prop::sample::select(vec![
            "torchvision_plain/model.pth", "torchvision_plain/model.safetensors", "torchvision_legacy_file/model.pth",
        ]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        near_an_end in any::<bool>(),
    ) {
        let mut bytes = golden(file);
        let length = bytes.len();
        for (index, value) in flips {
            // Half of the time, flip bits only near an end, where headers, pickles and directories are.
            let at = index.index(if near_an_end { 6000 } else { length });
            let at = if near_an_end && value & 1 == 1 { length - 1 - at } else { at };
            bytes[at] ^= value;
        }
        exercise(bytes);
    }

    #[test]
    fn truncation_does_no_harm(
        file in prop::sample::select(vec![
            "torchvision_plain/model.pth", "torchvision_plain/model.safetensors", "torchvision_legacy_file/model.pth",
        ]),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = golden(file);
        let at = cut.index(bytes.len());
        bytes.truncate(at);
        prop_assert!(Container::from_bytes("cut", bytes).is_err());
    }

    #[test]
    fn any_pickle_does_no_harm(pickle in prop::collection::vec(any::<u8>(), 0..200)) {
        exercise(checkpoint(&pickle));
        exercise([b"\x80\x02".to_vec(), pickle].concat());
    }

    #[test]
    fn pickles_of_known_opcodes_do_no_harm(
        opcodes in prop::collection::vec(prop::sample::select(b"()]}ltdeusab01NQRq\x00h\x00K\x01\x85\x86\x87\x94.".to_vec()), 0..120)
    ) {
        exercise(checkpoint(&opcodes));
    }
}
