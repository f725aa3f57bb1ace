//! Which features of an image, where one vector is needed.

use clap::ValueEnum;
use vitral::features::FeatureKind;

/// A vector for each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pool {
    /// The model's own pooling: what its classifier sees
    #[default]
    Pooled,
    /// The class token after the final norm
    #[value(alias = "cls")]
    Class,
    /// The mean of the patch tokens after the final norm
    #[value(alias = "avg")]
    Mean,
    /// Both, side by side
    ClassAndMean,
}

impl From<Pool> for FeatureKind {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Pooled => FeatureKind::Pooled,
            Pool::Class => FeatureKind::Class,
            Pool::Mean => FeatureKind::Mean,
            Pool::ClassAndMean => FeatureKind::ClassAndMean,
        }
    }
}
