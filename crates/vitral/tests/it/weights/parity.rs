//! What each library computes, computed again from its files through description, dialect and assignment. This proves the
//! configuration that was read, the order and layout of every parameter, and the goldens themselves.

use vitral::config::Size;
use vitral::weights::{Container, ResolveOptions, load_description, resolve};

use super::reference::{Output, Reference};
use super::{cases, describe, dialect, goldens, specs};

#[test]
fn every_golden_is_computed_again() {
    let mut faults = Vec::new();
    for case in cases() {
        if let Err(fault) = compare(&case) {
            faults.push(format!("{case}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn compare(case: &str) -> Result<(), String> {
    let folder = goldens().join("models").join(case);
    let open = |name: &str| Container::open(&folder.join(name)).unwrap();
    let (input, expected) = (open("input.safetensors"), open("expected.safetensors"));
    let shape = input.shape("pixel_values").unwrap().to_vec();
    let pixels = floats(&input, "pixel_values");
    let description = describe(case);
    // The model as it is loaded for this image: positions come out resampled.
    let mut config = description.config.clone();
    let (size, stride) = (Size { height: shape[2], width: shape[3] }, config.token_stride());
    config.image_size = Size {
        height: size.height.div_ceil(stride.height) * stride.height,
        width: size.width.div_ceil(stride.width) * stride.width,
    };
    let container = description.open().unwrap();
    let (specs, options) = (specs::of(&config), ResolveOptions::for_model(&config));
    let weights =
        resolve(&specs, &dialect(&description, &container), &container, &options).map_err(|error| error.to_string())?;
    let model = Reference { config: &config, weights: &weights };
    let mask = input.tensor("mask").map(|tensor| tensor.bytes);
    let outputs: Vec<Output> = pixels
        .chunks(shape[1..].iter().product())
        .enumerate()
        .map(|(index, image)| {
            let area = config.grid().area();
            model.forward(image, size, mask.as_deref().map(|mask| &mask[index * area..][..area]))
        })
        .collect();

    let mut compared = 0;
    for name in expected.names() {
        let theirs = floats(&expected, name);
        let part = |output: &Output| -> Option<Vec<f32>> {
            match name.split_once('.') {
                None if name == "logits" => output.logits.clone(),
                None => Some(output.features.clone()),
                Some(("hidden_states", index)) => output.hidden.get(index.parse::<usize>().ok()?).cloned(),
                Some((_, index)) => output.attentions.get(index.parse::<usize>().ok()?).cloned(),
            }
        };
        let ours: Option<Vec<Vec<f32>>> = outputs.iter().map(part).collect();
        let ours = ours.ok_or_else(|| format!("no {name}"))?.concat();
        if ours.len() != theirs.len() {
            return Err(format!("{name}: {} values, expected {}", ours.len(), theirs.len()));
        }
        let largest = theirs.iter().fold(1.0f32, |most, value| most.max(value.abs()));
        let worst = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
        if worst.is_nan() || worst > 1e-5 * largest {
            return Err(format!("{name}: off by {worst} where the largest value is {largest}"));
        }
        compared += 1;
    }
    let logits = outputs[0].logits.is_some() == expected.contains("logits");
    if compared < 4 || !logits { Err("too little to compare".into()) } else { Ok(()) }
}

/// DINOv2 ViT-S/14 itself, at another size than it was trained for.
#[test]
fn dinov2_is_computed_again() {
    let folder = |variable: &str| std::env::var_os(variable).map(std::path::PathBuf::from);
    let paths = folder("VITRAL_DATA").zip(folder("VITRAL_TEST_DATA"));
    let paths =
        paths.map(|(cache, data)| (cache.join("dinov2-s14"), data.join("dinov2-s14/reference_daisy.safetensors")));
    let Some((model, reference)) = paths.filter(|(model, reference)| model.is_dir() && reference.is_file()) else {
        eprintln!("skipped: VITRAL_DATA and VITRAL_TEST_DATA name no folders with dinov2-s14");
        return;
    };
    let description = load_description(&model, None).unwrap();
    let mut config = description.config.clone();
    config.image_size = Size::square(224);
    let container = description.open().unwrap();
    let (specs, options) = (specs::of(&config), ResolveOptions::for_model(&config));
    let weights = resolve(&specs, &dialect(&description, &container), &container, &options).unwrap();
    weights.check_finite().unwrap();
    let golden = Container::open(&reference).unwrap();
    let pixels = floats(&golden, "pixel_values");
    let output = Reference { config: &config, weights: &weights }.forward(&pixels, config.image_size, None);
    let far = |ours: &[f32], theirs: &[f32]| ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let first = far(&output.attentions[0], &floats(&golden, "attention_first"));
    let last = far(&output.attentions[11], &floats(&golden, "attention_last"));
    let class = far(&output.features, &floats(&golden, "last_hidden_state")[..384]);
    assert!(first < 1e-4 && last < 1e-4 && class < 1e-3, "{first} {last} {class}");
}

fn floats(container: &Container, name: &str) -> Vec<f32> {
    container.tensor(name).unwrap().bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
