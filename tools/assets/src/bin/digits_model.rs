//! Makes `assets/digits` from the data of `../shared/data`: a small model used by the tests, and one image of every
//! digit.
//!
//! ```text
//! cargo run --release -p vitral-assets --bin digits_model
//! ```
//!
//! The weights are `vit_mnist_gpu.pt` of researchase/vit-mnist-explorations (MIT), read by
//! `goldens/tiny-vits/mnist_lucid_p4.json`; the images are the first of each digit in MNIST's test set that the model
//! classifies correctly (it misreads the first five, number 8, as a six).

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use vitral::image::RgbImage;
use vitral::weights::export::{ExportSource, Target, export};
use vitral::{Device, LoadOptions, Model};

const NAMES: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const SIDE: usize = 28;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let data = std::env::var_os("VITRAL_SHARED_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let assets = root.join("assets/digits");

    let source = data.join("tiny-vits/mnist_lucid_p4");
    let config = root.join("goldens/tiny-vits/mnist_lucid_p4.json");
    let options = LoadOptions::default().config(config);
    let model = Model::load(source.join("vit_mnist_gpu.pt"), &options, &Device::cpu(0))?;
    // The license and the model card stay: only the files of the bundle are replaced.
    let aside = tempfile::tempdir_in(&assets)?;
    let bundle = aside.path().join("bundle");
    export(&ExportSource { name: "digits", ..model.exported() }, &bundle, Target::Bundle, &[])?;
    for file in ["vitral.json", "model.safetensors"] {
        std::fs::rename(bundle.join(file), assets.join(file))?;
    }
    std::fs::write(assets.join("LICENSE"), std::fs::read(source.join("LICENSE"))?)?;

    std::fs::create_dir_all(assets.join("images"))?;
    let pixels = unpacked(&data.join("mnist/t10k-images-idx3-ubyte.gz"), 16)?;
    let labels = unpacked(&data.join("mnist/t10k-labels-idx1-ubyte.gz"), 8)?;
    for (digit, name) in NAMES.iter().enumerate() {
        let places = (0..labels.len()).filter(|&index| usize::from(labels[index]) == digit);
        for index in places {
            let image = &pixels[index * SIDE * SIDE..][..SIDE * SIDE];
            let answer = model.classify(&[RgbImage::from_gray(SIDE, SIDE, image)?], 1)?.remove(0).remove(0);
            println!("{name}, test image {index}: {} at {:.1} %", answer.label, 100.0 * answer.probability);
            if answer.class == digit {
                let file = assets.join(format!("images/{name}.png"));
                image::save_buffer(&file, image, SIDE as u32, SIDE as u32, image::ExtendedColorType::L8)?;
                break;
            }
        }
    }
    Ok(())
}

/// An `idx` file without its header.
fn unpacked(path: &Path, header: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes.split_off(header))
}
