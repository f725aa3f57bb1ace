//! Damaged lists and archives: an error or a data set whose labels are classes, never a panic.

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use vitral_train::data::{Split, ValidationSplit, open_part};

/// Numbers that differ with the seed.
struct Noise(u64);

impl Noise {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % most.max(1)
    }

    /// Changes some bytes, cuts some out, repeats some, or puts in words that mean something.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        const WORDS: [&[u8]; 10] =
            [b",", b"\n", b"\"", b"[]", b"nan", b"-1", b"18446744073709551616", b"train", b"|", b"\xEF\xBB\xBF"];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at),
                2 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    drop(bytes.drain(at..end));
                }
                3 => {
                    let part: Vec<u8> = bytes.iter().skip(at).take(self.below(40)).copied().collect();
                    bytes.splice(at..at, part);
                }
                _ => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
            }
        }
    }
}

/// A list or an archive of two images of each of two classes, by ending.
fn sources() -> Vec<(&'static str, Vec<u8>)> {
    let image = b"P6 1 1 255\n\x01\x02\x03";
    let members = ["train/a/0.ppm", "train/b/0.ppm", "test/a/1.ppm", "test/b/1.ppm"];
    let mut tar = tar::Builder::new(Vec::new());
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(image.len() as u64);
        tar.append_data(&mut header, name, &image[..]).expect("memory");
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("memory");
        zip.write_all(image).expect("memory");
    }
    let tar = tar.into_inner().expect("memory");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&tar).expect("memory");
    let csv = members.map(|name| format!("{name},{},{}\n", &name[name.len() - 7..name.len() - 6], &name[..4])).concat();
    let json = members.map(|name| format!("{{\"file_name\": \"{name}\", \"label\": [\"a\", 1]}}\n")).concat();
    vec![
        ("csv", format!("path,label,split\n{csv}").into_bytes()),
        ("tsv", b"path\tlabel\n0.ppm\t0\n1.ppm\t3\n".to_vec()),
        ("jsonl", json.into_bytes()),
        ("zip", zip.finish().expect("memory").into_inner()),
        ("tar.gz", packed.finish().expect("memory")),
        ("tar", tar),
    ]
}

fn opened(path: &Path) {
    for split in [Split::Train, Split::Test] {
        let Ok(part) = open_part(path, split, ValidationSplit::default()) else { continue };
        for index in 0..part.dataset.len() {
            assert!(part.dataset.labels(index).iter().all(|&label| label < part.dataset.classes().len()));
            let _ = part.dataset.image(index);
        }
    }
}

#[test]
fn damaged_lists_and_archives_never_panic() {
    let seconds = std::env::var("VITRAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let (place, sources) = (tempfile::tempdir().expect("a folder"), sources());
    let (begun, mut tried) = (Instant::now(), 0u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let (ending, source) = &sources[tried as usize % sources.len()];
        let mut bytes = source.clone();
        Noise((tried + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)).change(&mut bytes);
        let path = place.path().join(format!("data.{ending}"));
        std::fs::write(&path, &bytes).expect("written");
        let found = std::panic::catch_unwind(AssertUnwindSafe(|| opened(&path)));
        assert!(found.is_ok(), "case {tried}, .{ending}: {}", String::from_utf8_lossy(&bytes));
        tried += 1;
    }
    println!("{tried} damaged files");
    assert!(tried > 50, "only {tried}");
}
