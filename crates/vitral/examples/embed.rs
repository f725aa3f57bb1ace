//! Images to vectors, and how alike they are: `cargo run --release -p vitral --example embed -- IMAGE IMAGE...`.

use vitral::features::FeatureKind;
use vitral::image::{Limits, decode};
use vitral::{Device, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::embedded(&Device::cpu(0))?;
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let mut vectors = Vec::new();
    for path in &paths {
        let image = decode(&std::fs::read(path)?, &Limits::default())?;
        let features = model.features(&model.pixels(&[image])?, FeatureKind::Pooled)?;
        let mut vector = features.to_vec()?;
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
        vectors.push(vector);
    }
    println!("cosine similarity of {} images", paths.len());
    for (path, a) in paths.iter().zip(&vectors) {
        let row = vectors.iter().map(|b| format!("{:6.3}", a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>()));
        println!("{}  {path}", row.collect::<Vec<_>>().join(" "));
    }
    Ok(())
}
