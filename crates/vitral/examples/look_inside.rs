//! Where a model looks: `cargo run --release -p vitral --example look_inside -- IMAGE OUT.png`.

use std::ops::ControlFlow;

use vitral::explain::{Aim, InputImage, Method, Options, paint};
use vitral::image::{Limits, decode};
use vitral::{Device, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, out] = &arguments[..] else { return Err("usage: look_inside IMAGE OUT.png".into()) };
    let model = Model::embedded(&Device::cpu(0))?;
    let image = decode(&std::fs::read(path)?, &Limits::default())?;
    let input = InputImage::new(&model, path, &image)?;
    let prediction = model.explained(&input, Aim::Predicted, 1)?;
    // How much each patch speaks for the predicted class (Chefer et al., arXiv:2103.15679).
    let options = Options::default();
    let map = model
        .explain(&input, Method::Chefer, prediction.target.as_ref(), &options, &mut |_| ControlFlow::Continue(()))?;
    let shown = paint::overlay(&paint::enlarged(&input.shown), &map, 0.6)?;
    std::fs::write(out, paint::png(&shown)?)?;
    println!("{path}: {} ({out} shows why)", prediction.explained);
    Ok(())
}
