//! The parsers of what strangers send, with messages that are nearly right: none may panic, and none may hang.
//!
//! Runs for a second each, or for as many as `VITRAL_FUZZ_SECONDS` says.

use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use vitral_serve::parse;

/// Changes bytes, cuts, repeats and joins pieces of good messages.
fn try_to_break(name: &str, good: &[Vec<u8>], parser: fn(&[u8]) -> bool) {
    assert!(good.iter().all(|message| parser(message)), "`{name}`: the messages to start from are good");
    let seconds = std::env::var("VITRAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let (mut count, mut accepted) = (0u64, 0u64);
    while Instant::now() < until {
        let mut message = good[below(good.len())].clone();
        for _ in 0..=below(6) {
            let place = below(message.len());
            match below(7) {
                0 => message.truncate(place),
                1 if !message.is_empty() => message[place] = below(256) as u8,
                2 if !message.is_empty() => message[place] ^= 1 << below(8),
                3 => message.insert(place, [b'"', b'[', b'{', b',', b'-', b'9', 0, 255][below(8)]),
                4 => {
                    let piece = message[place..(place + below(40)).min(message.len())].to_vec();
                    let to = below(message.len());
                    message.splice(to..to, piece);
                }
                5 => {
                    let other = &good[below(good.len())];
                    message.truncate(place);
                    message.extend(&other[below(other.len())..]);
                }
                _ => {
                    let end = (place + below(20)).min(message.len());
                    message.drain(place..end);
                }
            }
        }
        accepted += u64::from(parser(&message));
        count += 1;
    }
    println!("{name}: {count} messages, {accepted} accepted");
    assert!(count > 100 && accepted > 0 && accepted < count, "{name}: {count}, {accepted}");
}

#[test]
fn requests_for_inference_in_json() {
    let plain = |text: &str| [&[0, 0], text.as_bytes()].concat();
    let binary = |text: &str, tail: &[u8]| [&(text.len() as u16).to_le_bytes(), text.as_bytes(), tail].concat();
    let good = [
        plain(r#"{"inputs": [{"name": "images", "shape": [2], "datatype": "BYTES", "data": ["aGk=", "/+8A"]}]}"#),
        plain(
            r#"{"id": "7", "inputs": [{"name": "pixel_values", "shape": [1, 1, 1, 2], "datatype": "FP32",
                "data": [[1.5, -2e3]]}], "outputs": [{"name": "logits", "parameters": {"classification": 3}}],
                "parameters": {"timeout": 1000, "binary_data_output": true}}"#,
        ),
        binary(
            r#"{"inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}]}"#,
            &[2, 0, 0, 0, 7, 7],
        ),
        binary(
            r#"{"inputs": [{"name": "pixel_values", "shape": [1, 1, 1, 1], "datatype": "FP32",
                "parameters": {"binary_data_size": 4}}]}"#,
            &[0, 0, 128, 63],
        ),
    ];
    try_to_break("infer", &good, parse::infer);
}

#[test]
fn requests_for_inference_in_messages() {
    // Field 5 is an input (name, datatype, shape), field 7 its bytes.
    let input = |name: &str, kind: &str| {
        let part = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
        part(0x2a, &[part(0x0a, name.as_bytes()), part(0x12, kind.as_bytes()), part(0x1a, &[1])].concat())
    };
    let good = [
        [input("images", "BYTES"), vec![0x3a, 6, 2, 0, 0, 0, 7, 7]].concat(),
        [input("pixel_values", "FP32"), vec![0x3a, 4, 0, 0, 128, 63]].concat(),
        [vec![0x0a, 3, b'v', b'i', b't'], input("pixel_values", "FP32"), vec![0x3a, 0]].concat(),
    ];
    try_to_break("message", &good, parse::message);
}

#[test]
fn forms() {
    let good = [
        b"--edge\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a.jpg\"\r\n\r\nhi\r\n--edge--\r\n".to_vec(),
        b"--edge\r\nContent-Disposition: form-data; name=\"top\"\r\n\r\n3\r\n--edge\r\nContent-Disposition: form-data; \
          name=\"b\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--edge--".to_vec(),
    ];
    try_to_break("form", &good, parse::form);
}

#[test]
fn images_in_text() {
    let good = [b"data:image/png;base64,iVBORw0KGgo=".to_vec(), b"_-8A".to_vec(), b"iVBO\r\nRw0KGgo".to_vec()];
    try_to_break("image", &good, parse::image);
}
