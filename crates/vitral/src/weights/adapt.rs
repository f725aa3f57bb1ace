//! Adapts weights to a variant of the model: another image or patch size, other input channels, another head, with or
//! without a distillation token.

use std::borrow::Cow;

use vitral_engine::ParameterSpec;
use vitral_engine::ops::{AxisWeights, resample};

use super::resample::resample_positions;
use super::{Assignment, WeightsError};
use crate::config::{
    Head, ModelConfig, OtherSizes, PositionResample, Positions, Problem, RelativePositions, Size, Stem,
};
use crate::model::init::initial_values;
use crate::model::{Initialization, Vit};

/// How a model is changed on loading. Not at all by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adaptation {
    /// Another image size: learned positions and relative position tables are resampled.
    pub image_size: Option<Size>,
    /// Another patch size: the patch embedding is resized so that a resized patch gives the same token (FlexiViT,
    /// arXiv:2212.08013), and positions follow the new grid.
    pub patch_size: Option<Size>,
    /// Another number of input channels: a single one gets the sum of the kernels, more of them repeat the kernels,
    /// scaled, as in timm.
    pub channels: Option<usize>,
    /// Which of the new channels, from 0, are red, green and blue, and get the kernels of a source of three channels; all others
    /// get the mean of the three. All are scaled as without.
    pub colors: Option<[usize; 3]>,
    /// What happens to the classifier.
    pub head: HeadChoice,
    /// What happens to a distillation token.
    pub distillation_token: TokenChoice,
    /// The kernel for resampling positions; if absent, that of the source library (timm's if it has none).
    pub positions: Option<PositionResample>,
}

/// What happens to the classifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadChoice {
    /// It is kept.
    #[default]
    Keep,
    /// It is removed; there are no logits.
    Drop,
    /// It is replaced by one with this many classes, all zero, as the ViT paper does for fine-tuning.
    Zeros {
        /// Number of classes.
        classes: usize,
    },
    /// It is replaced by one with this many classes, initialized at random.
    Initialized {
        /// Number of classes.
        classes: usize,
        /// The initialization scheme.
        scheme: Initialization,
        /// The random seed.
        seed: u64,
    },
}

/// What happens to a distillation token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenChoice {
    /// It is kept, if there is one.
    #[default]
    Keep,
    /// It is removed with its head and its position; only the class token's head remains.
    Drop,
}

impl Adaptation {
    /// The adapted configuration.
    #[must_use]
    pub fn target(&self, source: &ModelConfig) -> ModelConfig {
        let mut config = source.clone();
        config.image_size = self.image_size.unwrap_or(source.image_size);
        config.patch_size = self.patch_size.unwrap_or(source.patch_size);
        config.channels = self.channels.unwrap_or(source.channels);
        match self.head {
            HeadChoice::Keep => {}
            HeadChoice::Drop => config.classes = 0,
            HeadChoice::Zeros { classes } | HeadChoice::Initialized { classes, .. } => {
                config.classes = classes;
                if config.problem == Problem::Embedding {
                    // What projected to an embedding is a classifier like any other.
                    (config.problem, config.head_bias) = (Problem::SingleLabel, true);
                }
                // All zero, a head of several maps would never learn.
                if config.head != Head::Linear {
                    config.head = Head::Linear;
                    config.head_bias = true;
                }
            }
        }
        if self.distillation_token == TokenChoice::Drop {
            config.distillation_token = false;
            config.distillation_head = false;
        }
        if let (Some(chosen), OtherSizes::Resample { kernel, .. }) = (self.positions, &mut config.other_sizes) {
            *kernel = chosen;
        }
        config
    }

    /// A parameter of the adapted model, computed from the source's weights.
    ///
    /// # Errors
    /// Those of [`Assignment::read`].
    pub fn read<'a>(
        &self,
        assignment: &'a Assignment<'_>,
        spec: &ParameterSpec,
        source: &Vit,
        target: &Vit,
    ) -> Result<Cow<'a, [f32]>, WeightsError> {
        if self.replaces(&spec.name) {
            return Ok(match (self.head, target.declarations().find(&spec.name)) {
                (HeadChoice::Initialized { scheme, seed, .. }, Some(id)) => {
                    initial_values(target, id, scheme, seed).into()
                }
                _ => vec![0.0; spec.count()].into(),
            });
        }
        let (source, target) = (source.config(), target.config());
        let values = assignment.read(&spec.name)?;
        let hybrid = !matches!(source.stem, Stem::Patches);
        Ok(match spec.name.as_str() {
            "positions" => self.positions_of(values, source, target),
            name if name.ends_with("relative_positions") => relative_positions_at(values, source, target.grid()),
            "patches.weight" => {
                let (mut values, mut channels) = (values, source.channels);
                if hybrid {
                    channels = values.len() / (source.width * source.patch_size.area());
                } else if self.changes_channels(source, target) {
                    let area = source.patch_size.area();
                    values = self.channels_of(&values, source.channels, target.channels, area).into();
                    channels = target.channels;
                }
                if source.patch_size == target.patch_size {
                    values
                } else {
                    resample_patches(&values, source.width * channels, source.patch_size, target.patch_size).into()
                }
            }
            "stem.conv.weight" | "stem.root.0.conv.weight" if self.changes_channels(source, target) => {
                let area = values.len() / (spec.shape[0] * source.channels);
                self.channels_of(&values, source.channels, target.channels, area).into()
            }
            _ => values,
        })
    }

    /// Whether kernels are made for other channels, or for the same ones in another order.
    fn changes_channels(&self, source: &ModelConfig, target: &ModelConfig) -> bool {
        target.channels != source.channels || self.colors.is_some_and(|colors| colors != [0, 1, 2])
    }

    /// Kernels `[outputs, from, area]` for other channels.
    fn channels_of(&self, values: &[f32], from: usize, to: usize, area: usize) -> Vec<f32> {
        match self.colors {
            Some(colors) if from == 3 && to > 1 => adapt_colors(values, colors, to, area),
            _ => adapt_channels(values, from, to, area),
        }
    }

    /// Whether a parameter belongs to a head that is replaced.
    pub fn replaces(&self, name: &str) -> bool {
        let new = matches!(self.head, HeadChoice::Zeros { .. } | HeadChoice::Initialized { .. });
        new && (name.starts_with("head.") || name.starts_with("distillation_head."))
    }

    fn positions_of<'a>(&self, values: Cow<'a, [f32]>, source: &ModelConfig, target: &ModelConfig) -> Cow<'a, [f32]> {
        let width = source.width;
        let mut values = values;
        let with_prefix = matches!(source.positions, Positions::LearnedAll | Positions::LearnedWithoutRegisters);
        if source.distillation_token && !target.distillation_token && with_prefix {
            // Class, distillation, patches: the second is removed.
            let owned = values.to_mut();
            let at = usize::from(source.class_token) * width;
            owned.drain(at..at + width);
        }
        let (from, to) = (source.grid(), target.grid());
        if from == to {
            return values;
        }
        let prefix = values.len() / width - from.area();
        let kernel = self.positions.unwrap_or(match source.other_sizes {
            OtherSizes::Resample { kernel, .. } => kernel,
            OtherSizes::Refuse => PositionResample::BicubicAntialias,
        });
        resample_positions(&values, prefix, from, to, width, kernel).into()
    }
}

/// A relative position table of this model for another grid; the class token's entries are kept.
pub(crate) fn relative_positions_at<'a>(values: Cow<'a, [f32]>, source: &ModelConfig, grid: Size) -> Cow<'a, [f32]> {
    let [from, to] = [source.grid(), grid].map(RelativePositions::offsets);
    if from == to {
        return values;
    }
    let [rows, columns] = source.relative_resample.axes(from, to);
    let (offsets, class) = values.split_at(from.area() * source.heads);
    let mut out = resample(offsets, source.heads, &rows, &columns);
    out.extend_from_slice(class);
    out.into()
}

/// Adapts kernels `[outputs, from, area]` to another number of input channels, like timm's `adapt_input_conv`: a single
/// channel gets the sum, more of them repeat the kernels, scaled so that uniform brightness gives the same output.
///
/// # Panics
/// If the values are not a whole number of kernels.
pub fn adapt_channels(values: &[f32], from: usize, to: usize, area: usize) -> Vec<f32> {
    assert!(values.len().is_multiple_of(from * area), "{} values of {from} channels and {area} cells", values.len());
    let scale = from as f32 / to as f32;
    let mut out = Vec::with_capacity(values.len() / from * to);
    for kernel in values.chunks_exact(from * area) {
        if to == 1 {
            out.extend((0..area).map(|place| kernel.iter().skip(place).step_by(area).sum::<f32>()));
            continue;
        }
        for channel in 0..to {
            out.extend(kernel[channel % from * area..][..area].iter().map(|value| value * scale));
        }
    }
    out
}

/// Adapts kernels `[outputs, 3, area]` of color to channels three of which, by their numbers, are red, green and blue: these get
/// the color's own kernel, all others the mean of the three. Scaled like [`adapt_channels`].
///
/// # Panics
/// If the values are not a whole number of kernels.
pub fn adapt_colors(values: &[f32], colors: [usize; 3], to: usize, area: usize) -> Vec<f32> {
    assert!(values.len().is_multiple_of(3 * area), "{} values of 3 channels and {area} cells", values.len());
    let scale = 3.0 / to as f32;
    let mut out = Vec::with_capacity(values.len() / 3 * to);
    for kernel in values.chunks_exact(3 * area) {
        let color = |color: usize, place: usize| kernel[color * area + place];
        for channel in 0..to {
            let own = colors.iter().position(|&color| color == channel);
            out.extend((0..area).map(|place| match own {
                Some(own) => scale * color(own, place),
                None => scale * ((color(0, place) + color(1, place) + color(2, place)) / 3.0),
            }));
        }
    }
    out
}

/// Resizes `count` patch kernels `[height, width]` with the pseudo-inverse of the patch resize (FlexiViT): a patch
/// resized by antialiased bicubic interpolation gives the same product with the new kernel as the original patch with
/// the old one.
///
/// # Panics
/// If the number of values does not match.
pub fn resample_patches(values: &[f32], count: usize, from: Size, to: Size) -> Vec<f32> {
    assert_eq!(values.len(), count * from.area(), "{count} kernels of {from}");
    let rows = pseudo_inverse_of_resize(from.height, to.height);
    let columns = pseudo_inverse_of_resize(from.width, to.width);
    let kernels = values.chunks_exact(from.area().max(1));
    kernels.flat_map(|kernel| resample(kernel, 1, &rows, &columns)).collect()
}

/// `pinv(Rᵀ)`, where `R` is the `[to, from]` matrix that resizes one axis. A resize along two axes is a Kronecker
/// product, whose pseudo-inverse is that of its factors.
fn pseudo_inverse_of_resize(from: usize, to: usize) -> AxisWeights {
    let resize = AxisWeights::bicubic_antialias(from, to);
    let at = |i: usize, j: usize| f64::from(resize.weights()[i * from + j]);
    let mut weights = vec![0.0f32; to * from];
    if to >= from {
        // Full column rank: R (Rᵀ R)⁻¹, row by row.
        let gram = |i: usize, j: usize| (0..to).map(|k| at(k, i) * at(k, j)).sum();
        let solve = Solver::new(from, gram);
        for i in 0..to {
            let row = solve.solve((0..from).map(|j| at(i, j)).collect());
            for (j, value) in row.into_iter().enumerate() {
                weights[i * from + j] = value as f32;
            }
        }
    } else {
        // Full row rank: (R Rᵀ)⁻¹ R, column by column.
        let gram = |i: usize, j: usize| (0..from).map(|k| at(i, k) * at(j, k)).sum();
        let solve = Solver::new(to, gram);
        for j in 0..from {
            let column = solve.solve((0..to).map(|i| at(i, j)).collect());
            for (i, value) in column.into_iter().enumerate() {
                weights[i * from + j] = value as f32;
            }
        }
    }
    AxisWeights::new(from, to, weights)
}

/// A Cholesky factor of a symmetric positive definite matrix.
struct Solver {
    size: usize,
    lower: Vec<f64>,
}

impl Solver {
    fn new(size: usize, matrix: impl Fn(usize, usize) -> f64) -> Self {
        let mut lower = vec![0.0f64; size * size];
        for i in 0..size {
            for j in 0..=i {
                let done: f64 = (0..j).map(|k| lower[i * size + k] * lower[j * size + k]).sum();
                let rest = matrix(i, j) - done;
                lower[i * size + j] =
                    if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / lower[j * size + j] };
            }
        }
        Solver { size, lower }
    }

    fn solve(&self, mut b: Vec<f64>) -> Vec<f64> {
        let (n, l) = (self.size, &self.lower);
        for i in 0..n {
            let done: f64 = (0..i).map(|k| l[i * n + k] * b[k]).sum();
            b[i] = (b[i] - done) / l[i * n + i];
        }
        for i in (0..n).rev() {
            let done: f64 = (i + 1..n).map(|k| l[k * n + i] * b[k]).sum();
            b[i] = (b[i] - done) / l[i * n + i];
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_sum_or_repeat() {
        // One output, three channels, two cells.
        let kernel = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
        assert_eq!(adapt_channels(&kernel, 3, 1, 2), [111.0, 222.0]);
        assert_eq!(adapt_channels(&kernel, 3, 4, 2), [0.75, 1.5, 7.5, 15.0, 75.0, 150.0, 0.75, 1.5]);
    }

    #[test]
    fn colors_keep_their_kernels_where_they_are_named() {
        let kernel = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
        // Blue, green, red, infrared, as satellites order them.
        let expected = [75.0, 150.0, 7.5, 15.0, 0.75, 1.5, 27.75, 55.5];
        assert_eq!(adapt_colors(&kernel, [2, 1, 0], 4, 2), expected);
    }

    #[test]
    fn a_resized_patch_gives_the_same_token() {
        let (from, to) = (Size::square(4), Size { height: 8, width: 6 });
        let kernel: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
        let patch: Vec<f32> = (0..16).map(|i| (i as f32 * 1.3).cos()).collect();
        let [rows, columns] = PositionResample::BicubicAntialias.axes(from, to);
        let resized = resample(&patch, 1, &rows, &columns);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let new = resample_patches(&kernel, 1, from, to);
        assert!((dot(&kernel, &patch) - dot(&new, &resized)).abs() < 1e-4);
        assert_eq!(resample_patches(&kernel, 1, from, from).len(), 16);
    }
}
