//! Malicious NumPy archives.

use std::io::Write;

use proptest::prelude::*;
use vitral::weights::Container;

use super::goldens;

/// An entry in the archive's central directory.
#[derive(Clone, Default)]
struct Member {
    name: String,
    bytes: Vec<u8>,
    method: u16,
    /// Claimed unpacked size; the actual one if absent.
    size: Option<u32>,
    checksum: u32,
    /// Claims to begin at another entry's offset.
    at: Option<u32>,
}

fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn stored(name: &str, bytes: Vec<u8>) -> Member {
    Member { name: format!("{name}.npy"), bytes, ..Member::default() }
}

fn deflated(name: &str, bytes: &[u8]) -> Member {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    let mut checksum = flate2::Crc::new();
    checksum.update(bytes);
    let (size, checksum) = (Some(bytes.len() as u32), checksum.sum());
    Member { name: format!("{name}.npy"), bytes: encoder.finish().unwrap(), method: 8, size, checksum, at: None }
}

fn archive(members: &[Member]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for Member { name, bytes, method, size, checksum, at } in members {
        let offset = at.unwrap_or(file.len() as u32);
        let mut common = vec![0, 0];
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(checksum.to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend(size.unwrap_or(bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        file.extend(b"PK\x03\x04\x14\x00");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (file.len() as u32, members.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    file.extend([(directory.len() as u32).to_le_bytes(), start.to_le_bytes()].concat());
    file.extend([0, 0]);
    file
}

fn error_of(members: &[Member]) -> String {
    Container::from_bytes("hostile", archive(members)).unwrap_err().to_string()
}

#[test]
fn valid_archives_are_read() {
    let data: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = array("<f4", "(3,)", &data);
    let container = Container::from_bytes("a", archive(&[stored("s", bytes.clone()), deflated("d", &bytes)])).unwrap();
    for name in ["s", "d"] {
        assert_eq!((container.shape(name), &*container.tensor(name).unwrap().bytes), (Some(&[3][..]), &data[..]));
    }
}

#[test]
fn arrays_with_the_other_byte_order_are_read() {
    let numbers = [1.5f64, -2.0, 3e100];
    let big: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let little: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let bytes = array(">f8", "(3,)", &big);
    let container = Container::from_bytes("a", archive(&[stored("s", bytes.clone()), deflated("d", &bytes)])).unwrap();
    for name in ["s", "d"] {
        assert_eq!(*container.tensor(name).unwrap().bytes, little[..], "{name}");
    }
}

#[test]
fn invalid_archives_are_rejected_with_the_reason() {
    let good = array("<f4", "(2,)", &[0; 8]);
    let bomb = Member { size: Some(u32::MAX - 1), ..deflated("a", &vec![0; 1000]) };
    let larger = Member { size: Some(good.len() as u32 + 4), ..deflated("a", &good) };
    let smaller = Member { size: Some(good.len() as u32 - 4), ..deflated("a", &good) };
    let wrong = Member { checksum: 7, ..deflated("a", &good) };
    let torn = Member { bytes: vec![0xff; 40], ..deflated("a", &good) };
    let twin = Member { at: Some(0), ..stored("b", good.clone()) };
    let other = Member { name: "a.npy".into(), method: 12, ..stored("a", good.clone()) };
    for (members, part) in [
        (vec![bomb], "claims 4294967294 bytes deflated to"),
        (vec![larger], "its unpacked size is not"),
        (vec![smaller], "its unpacked size is not"),
        (vec![wrong], "checksum is wrong"),
        (vec![torn], "deflated bytes are damaged"),
        (vec![stored("a", good.clone()), twin], "overlap"),
        (vec![stored("a", good.clone()), stored("a", good.clone())], "occurs twice"),
        (vec![other], "method 12"),
        (vec![stored("a", array("<f4", "(3,)", &[0; 8]))], "do not hold an array of shape [3]"),
        (vec![stored("a", array("<f4", "(4294967296, 4294967296)", &[0; 8]))], "do not hold an array"),
        (vec![stored("a", array("|O", "(1,)", &[0; 8]))], "Python objects"),
        (vec![stored("a", array("<f4", "2", &[0; 8]))], "`shape` is not a tuple"),
        (vec![stored("a", b"\x93NUMPY\x01\x00\xff\xff".to_vec())], "claims 65535 bytes"),
        (vec![stored("a", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec())], "claims 4294967295 bytes"),
        (vec![stored("a", b"\x93NUMPY\x09\x00".to_vec())], "version 9"),
        (vec![stored("a", b"hello".to_vec())], "not a NumPy array"),
        (
            vec![stored("a", good.clone()), Member { name: "run.py".into(), ..Member::default() }],
            "`run.py` is not an array",
        ),
    ] {
        let error = error_of(&members);
        assert!(error.contains(part), "expected `{part}`: {error}");
    }
}

#[test]
fn ten_million_entries_are_rejected_before_they_are_read() {
    let mut bytes = archive(&[stored("a", array("<f4", "(2,)", &[0; 8]))]);
    // An end record for archives of more than 65535 entries that claims ten million.
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
    let error = Container::from_bytes("hostile", bytes).unwrap_err().to_string();
    assert!(error.contains("10000000 entries, more than 1048576"), "{error}");
}

#[test]
fn a_header_with_ten_million_keys_is_rejected() {
    // Ten million tensors need a header of hundreds of megabytes: it is rejected by length, before anything is read.
    let claimed = [&500_000_000u64.to_le_bytes()[..], b"{\"a\": 1}"].concat();
    let error = Container::from_bytes("hostile", claimed).unwrap_err().to_string();
    assert!(error.contains("500000000 bytes"), "{error}");
}

#[test]
fn damaged_goldens_do_no_harm() {
    for case in ["jax_vit", "jax_vit_fortran_compressed", "big_vision_mean"] {
        let bytes = std::fs::read(goldens().join("models").join(case).join("model.npz")).unwrap();
        let read = |bytes: Vec<u8>| {
            if let Ok(container) = Container::from_bytes("hostile", bytes) {
                for name in container.names() {
                    let length = container.tensor(name).map_or(0, |tensor| tensor.bytes.len());
                    assert!(length <= 1 << 20);
                }
            }
        };
        for length in (0..bytes.len()).step_by(bytes.len() / 200) {
            read(bytes[..length].to_vec());
        }
        proptest!(ProptestConfig::with_cases(200), |(at in 0..bytes.len(), value: u8)| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            read(bytes);
        });
    }
}
