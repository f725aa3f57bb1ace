//! BiT's own files (google-research/big_transfer): only arrays, like the ViT's.
//!
//! What shapes do not show is constant in that code: 32 groups with an epsilon of 1e-5, max pooling with zero padding,
//! and images resized to 480 pixels regardless of aspect ratio, by `tf.image.resize` (which does not antialias), then scaled
//! to [−1, 1] (BiT-HyperRule, for images of more than 96 pixels). The network takes any size.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::contents::{Description, PreprocessSource};
use super::super::imagenet::LabelSet;
use crate::config::{Border, ModelConfig, ResNetV2, Root, Size};
use crate::weights::{Container, WeightsError};

const ROOT: &str = "root_block/standardized_conv2d/kernel";

fn prefix(container: &Container) -> Option<&'static str> {
    ["resnet/", ""].into_iter().find(|prefix| container.contains(&format!("{prefix}{ROOT}")))
}

pub(super) fn recognizes(container: &Container) -> bool {
    prefix(container).is_some()
}

/// Describes a file by its arrays.
pub(super) fn file(path: &Path, stem: String, container: &Container) -> Result<Description, WeightsError> {
    let prefix = prefix(container).unwrap_or_default();
    let shape = |name: &str| container.shape(&format!("{prefix}{name}")).unwrap_or_default();
    let &[7, 7, channels, root] = shape(ROOT) else {
        let fault = format!("`{prefix}{ROOT}`: expected [7, 7, channels, width], found {:?}", shape(ROOT));
        return Err(WeightsError::description(path, fault));
    };
    let unit = |block: usize, unit: usize| format!("block{block}/unit{unit:02}/a/standardized_conv2d/kernel");
    let units = |block: usize| (1..).take_while(|&i| !shape(&unit(block, i)).is_empty()).count();
    let resnet = ResNetV2 {
        layers: (1..).map(units).take_while(|&units| units > 0).collect(),
        width_factor: root as f32 / 64.0,
        root: Root::Large,
        padding: Border::Fixed,
        groups: 32,
        // Theirs is 1e-10, timm's 1e-8; the group norm cancels the difference.
        standardization_epsilon: 1e-8,
        norm_epsilon: 1e-5,
    };
    let classes = shape("head/conv2d/bias").last().copied().unwrap_or(0);
    let config = ModelConfig { image_size: Size::square(480), channels, ..resnet.classifier(classes) };
    let preprocess = json!({
        "channels": if channels == 1 { "gray" } else { "rgb" },
        "steps": [{ "interpolate": { "to": { "exact": config.image_size }, "whole": false } }],
        "rescale": { "multiply": { "factor": 1.0 / 127.5, "offset": -1.0 } },
        "normalize": null,
    });
    let classes = config.classes;
    Ok(Description {
        name: stem.clone(),
        config,
        preprocess: PreprocessSource::Vitral(preprocess),
        labels: LabelSet::of_jax(&stem, classes).map(LabelSet::names),
        license: None,
        precision: None,
        dialect: Some("bit".into()),
        names: Vec::new(),
        files: vec![PathBuf::from(path)],
    })
}
