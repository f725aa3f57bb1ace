//! Makes the built-in model from a run of `recipes/cifar10.toml`: with a name and a license, in 16 bits.
//!
//! ```text
//! cargo run --release -p vitral-assets --bin built_in_model -- runs/cifar10/best
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use vitral::weights::export::{ExportSource, Target, export};
use vitral::{DType, Device, LoadOptions, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let source =
        std::env::args_os().nth(1).map(PathBuf::from).ok_or("name the bundle of a run: `runs/cifar10/best`")?;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/vitral/assets/cifar10");
    let model = Model::load(&source, &LoadOptions::default(), &Device::cpu(0))?;
    // The model card stays: only the files of the bundle are replaced.
    let aside = tempfile::tempdir_in(&assets)?;
    let bundle = aside.path().join("bundle");
    let license = Some("MIT OR Apache-2.0");
    let source = ExportSource { name: "cifar10", license, storage: DType::F16, ..model.exported() };
    export(&source, &bundle, Target::Bundle, &[])?;
    for file in ["vitral.json", "model.safetensors"] {
        std::fs::rename(bundle.join(file), assets.join(file))?;
    }
    Ok(())
}
