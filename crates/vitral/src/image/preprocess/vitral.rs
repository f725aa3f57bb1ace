//! Our own format: the steps written out, or a torchvision transform by name.

use serde::Deserialize;
use serde_json::Value;

use super::{Channels, Preprocess};
use crate::image::ImageError;
use crate::image::bands::MOST_BANDS;

/// `{"torchvision": "vit_b_16", "weights": "IMAGENET1K_V1"}`: torchvision defines preprocessing in code, not in files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    torchvision: String,
    weights: String,
}

impl Preprocess {
    /// Reads the `preprocess` of a bundle or a `--config` file.
    ///
    /// # Errors
    /// If the value is malformed, with the key that is wrong.
    pub fn from_vitral(value: &Value) -> Result<Self, ImageError> {
        let fault = |error: serde_json::Error| ImageError::OwnForm { fault: error.to_string() };
        if value.get("torchvision").is_some() {
            let named = Named::deserialize(value).map_err(fault)?;
            return Preprocess::from_torchvision(&named.torchvision, &named.weights);
        }
        let preprocess = Preprocess::deserialize(value).map_err(fault)?;
        if let Channels::Bands(bands) = preprocess.channels
            && !(1..=MOST_BANDS).contains(&bands)
        {
            let fault = format!("expected 1 to {MOST_BANDS} bands, found {bands}");
            return Err(ImageError::OwnForm { fault });
        }
        Ok(preprocess)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_round_trip_and_names_are_looked_up() {
        let named = json!({"torchvision": "vit_b_16", "weights": "IMAGENET1K_V1"});
        let preset = Preprocess::from_vitral(&named).expect("a known preset");
        let written = serde_json::to_value(&preset).expect("plain data");
        assert_eq!(Preprocess::from_vitral(&written).expect("our own form"), preset);
        for wrong in [json!({"torchvision": "vit_b_16"}), json!({"steps": []}), json!(3)] {
            assert!(Preprocess::from_vitral(&wrong).is_err(), "{wrong}");
        }
    }
}
