//! Image to label: `cargo run --release -p vitral --example classify -- IMAGE... [--model PATH]`.

use vitral::{Device, LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut images: Vec<String> = std::env::args().skip(1).collect();
    // All processor cores; `Device::cpu(1)` would use one.
    let device = Device::cpu(0);
    let model = match images.iter().position(|argument| argument == "--model") {
        Some(at) if at + 1 < images.len() => {
            let path = images.drain(at..at + 2).next_back().expect("two arguments");
            Model::load(path, &LoadOptions::default(), &device)?
        }
        _ => Model::embedded(&device)?,
    };
    for image in images {
        let answers = model.classify_bytes(&std::fs::read(&image)?, 3)?;
        let shown = answers.iter().map(|answer| format!("{} {:.1} %", answer.label, 100.0 * answer.probability));
        println!("{image}: {}", shown.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
