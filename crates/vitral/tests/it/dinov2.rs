//! Real weights: DINOv2 ViT-S/14 against what PyTorch computed on a photo of a daisy.

use std::path::PathBuf;

use vitral::trace::TraceOptions;
use vitral::{Cpu, LoadOptions, Model};

use crate::parity::Stored;
use crate::shared_data;

#[test]
fn dinov2_small_gives_the_reference() {
    let cache = std::env::var_os("VITRAL_DATA")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/vitral-data")));
    let weights = cache.map(|cache| cache.join("dinov2-s14")).filter(|folder| folder.join("config.json").is_file());
    let reference = shared_data("dinov2-s14/reference_daisy.safetensors");
    let (Some(weights), Some(reference)) = (weights, reference) else {
        eprintln!("skipped: no DINOv2 weights in VITRAL_DATA (or ~/.cache/vitral-data), or no reference");
        return;
    };
    let device = Cpu::new();
    let model = Model::load(&weights, &LoadOptions::default(), &device).unwrap_or_else(|error| panic!("{error}"));
    let reference = Stored::open(&reference);
    let pixels = reference.pixels(&device);
    let (_, kept) = model
        .observe(&pixels, None, |name| name == "norm" || name.ends_with("attention.weights"))
        .unwrap_or_else(|error| panic!("{error}"));
    for (ours, theirs) in [
        ("norm", "last_hidden_state"),
        ("blocks.0.attention.weights", "attention_first"),
        ("blocks.11.attention.weights", "attention_last"),
    ] {
        let (_, expected) = reference.values(theirs).unwrap_or_else(|| panic!("no {theirs}"));
        let found = kept[ours].values();
        assert_eq!(found.len(), expected.len(), "{theirs}");
        let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{theirs}: largest difference {worst:.1e}");
        assert!(worst < 1e-3, "{theirs} differs by {worst}");
    }
    let trace = model.trace(&pixels, None, TraceOptions { hidden_states: true, attentions: true });
    assert_eq!(trace.unwrap_or_else(|error| panic!("{error}")).hidden_states.len(), 13);
}
