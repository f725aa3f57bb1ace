//! What is hidden from a model that is trained without labels, and what it is to predict.

mod brightness;
mod corruption;
mod removal;

use serde::{Deserialize, Serialize};

pub use brightness::Brightness;
pub use corruption::{Corruption, brightness_of, colors};
pub use removal::Removal;
pub(crate) use removal::moments;

/// Pre-training without labels: the table `pretraining` of a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub enum Pretraining {
    /// A masked autoencoder.
    MaskedAutoencoder(Removal),
    /// Masked-patch prediction.
    MaskedPatches(Corruption),
}

/// The method, as recipes name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Method {
    #[default]
    MaskedAutoencoder,
    MaskedPatches,
}

/// The keys of the table, of which each method has its own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    /// Left out where it is the first, which runs of earlier versions had without a name.
    #[serde(skip_serializing_if = "is_default")]
    method: Method,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupted: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normalize_patches: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoder_width: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoder_depth: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoder_heads: Option<usize>,
}

fn is_default(method: &Method) -> bool {
    *method == Method::default()
}

impl TryFrom<Keys> for Pretraining {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Self, String> {
        match keys.method {
            Method::MaskedAutoencoder => {
                if keys.corrupted.is_some() {
                    return Err("`corrupted` is for `method = \"masked-patches\"`; a masked autoencoder has `hidden`"
                        .to_owned());
                }
                let default = Removal::default();
                Ok(Pretraining::MaskedAutoencoder(Removal {
                    hidden: keys.hidden.unwrap_or(default.hidden),
                    normalize_patches: keys.normalize_patches.unwrap_or(default.normalize_patches),
                    decoder_width: keys.decoder_width.unwrap_or(default.decoder_width),
                    decoder_depth: keys.decoder_depth.unwrap_or(default.decoder_depth),
                    decoder_heads: keys.decoder_heads.unwrap_or(default.decoder_heads),
                }))
            }
            Method::MaskedPatches => {
                let others = [
                    ("hidden", keys.hidden.is_some()),
                    ("normalize_patches", keys.normalize_patches.is_some()),
                    ("decoder_width", keys.decoder_width.is_some()),
                    ("decoder_depth", keys.decoder_depth.is_some()),
                    ("decoder_heads", keys.decoder_heads.is_some()),
                ];
                if let Some((key, _)) = others.into_iter().find(|(_, given)| *given) {
                    return Err(format!(
                        "`{key}` is for `method = \"masked-autoencoder\"`; masked patches have `corrupted` alone"
                    ));
                }
                let default = Corruption::default();
                Ok(Pretraining::MaskedPatches(Corruption { corrupted: keys.corrupted.unwrap_or(default.corrupted) }))
            }
        }
    }
}

impl From<Pretraining> for Keys {
    fn from(pretraining: Pretraining) -> Self {
        match pretraining {
            Pretraining::MaskedAutoencoder(removal) => Keys {
                hidden: Some(removal.hidden),
                normalize_patches: Some(removal.normalize_patches),
                decoder_width: Some(removal.decoder_width),
                decoder_depth: Some(removal.decoder_depth),
                decoder_heads: Some(removal.decoder_heads),
                ..Keys::default()
            },
            Pretraining::MaskedPatches(Corruption { corrupted }) => {
                Keys { method: Method::MaskedPatches, corrupted: Some(corrupted), ..Keys::default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_own_keys() {
        let read = toml::from_str::<Pretraining>;
        assert_eq!(read("").expect("valid"), Pretraining::MaskedAutoencoder(Removal::default()));
        let patches = read("method = \"masked-patches\"").expect("valid");
        assert_eq!(patches, Pretraining::MaskedPatches(Corruption { corrupted: 0.5 }));
        for (keys, named) in [
            ("corrupted = 0.5", "`hidden`"),
            ("method = \"masked-patches\"\ndecoder_depth = 2", "`decoder_depth`"),
            ("method = \"other\"", "masked-patches"),
        ] {
            let error = read(keys).expect_err("a mistake").to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    /// Runs go on only with the recipe that they began with.
    #[test]
    fn earlier_recipes_are_written_as_they_were() {
        let written = toml::to_string(&Pretraining::MaskedAutoencoder(Removal::default())).expect("valid");
        let expected =
            "hidden = 0.75\nnormalize_patches = true\ndecoder_width = 512\ndecoder_depth = 8\ndecoder_heads = 16\n";
        assert_eq!(written, expected);
        let patches = Pretraining::MaskedPatches(Corruption { corrupted: 0.25 });
        let written = toml::to_string(&patches).expect("valid");
        assert_eq!(written, "method = \"masked-patches\"\ncorrupted = 0.25\n");
        assert_eq!(toml::from_str::<Pretraining>(&written).expect("valid"), patches);
    }
}
