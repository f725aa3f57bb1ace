//! Initial values of parameters, following the schemes of the common libraries.

use std::convert::Infallible;

use rayon::prelude::*;
use vitral_engine::random::{mix, normal, uniform};
use vitral_engine::{Declarations, Device, ParameterId, ParameterSpec, Parameters};

use super::corrupted::MaskedPatches;
use super::masked::MaskedAutoencoder;
use super::storage::storage;
use super::vit::Vit;
use crate::config::ModelConfig;

/// The library whose initialization scheme is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialization {
    /// timm: linear maps normal 0.02, the patch embedding like PyTorch's convolution, positions 0.02, tokens 1e-6.
    Timm,
    /// The ViT paper's JAX code: Xavier uniform, patch embedding LeCun normal, class token and head zero, MLP biases
    /// 1e-6, positions 0.02.
    Jax,
    /// Hugging Face: everything normal 0.02, biases zero.
    HuggingFace,
    /// `_init_vit_weights` of the first PyTorch ports: linear maps normal 0.01, convolutions Kaiming by fan-out, tokens
    /// and positions 0.02.
    Classic,
    /// lucidrains: PyTorch's defaults for layers, tokens and positions standard normal.
    Lucidrains,
}

/// The distribution of one tensor's values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    Constant(f32),
    Normal(f32),
    /// Normal truncated at two standard deviations; this is the standard deviation after truncation.
    Truncated(f32),
    Uniform(f32),
}

/// The role of a tensor in the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Norm {
        weight: bool,
    },
    LayerScale,
    /// Class, distillation and register tokens, an attention pool's probe, and what stands for hidden patches.
    Token,
    Positions,
    RelativePositions,
    /// The patch embedding and the stem's convolutions.
    Convolution {
        weight: bool,
    },
    Head {
        weight: bool,
    },
    Mlp {
        weight: bool,
    },
    Linear {
        weight: bool,
    },
}

fn role(name: &str) -> Role {
    let weight = name.ends_with(".weight");
    let parts: Vec<&str> = name.split('.').collect();
    let parent = parts.len().checked_sub(2).map_or("", |i| parts[i]);
    let leaf = parts.last().copied().unwrap_or_default();
    if parent.contains("norm") {
        Role::Norm { weight: weight || leaf == "variance" }
    } else if leaf.starts_with("scale") {
        Role::LayerScale
    } else if name == "positions" {
        Role::Positions
    } else if leaf == "relative_positions" {
        Role::RelativePositions
    } else if parts[0] == "tokens" || leaf == "probe" || leaf == "mask" {
        Role::Token
    } else if parts[0] == "patches" || parts[0] == "stem" {
        Role::Convolution { weight }
    } else if parts[0] == "head" || parts[0] == "distillation_head" {
        Role::Head { weight }
    } else if parts.contains(&"mlp") {
        Role::Mlp { weight }
    } else {
        Role::Linear { weight }
    }
}

/// Fan-in and fan-out of a linear map or convolution.
fn fans(spec: &ParameterSpec, config: &ModelConfig) -> (f32, f32) {
    let inputs: usize = spec.shape[1..].iter().product();
    let area: usize = match spec.shape.len() {
        4 => spec.shape[2..].iter().product(),
        _ if spec.name.starts_with("patches.") => config.patch_size.area(),
        _ => 1,
    };
    // Packed projections are drawn like the single ones they consist of.
    let packed = if spec.name.ends_with("qkv.weight") {
        3
    } else if spec.name.ends_with("key_value.weight") {
        2
    } else {
        1
    };
    (inputs as f32, (spec.shape[0] / packed * area) as f32)
}

impl Initialization {
    fn draw(self, spec: &ParameterSpec, fan: impl Fn() -> (f32, f32), layer_scale: f32) -> Draw {
        let role = role(&spec.name);
        match role {
            Role::Norm { weight } => return Draw::Constant(if weight { 1.0 } else { 0.0 }),
            Role::LayerScale => return Draw::Constant(layer_scale),
            // BEiT's initialization, whatever the scheme.
            Role::RelativePositions => return Draw::Constant(0.0),
            _ => {}
        }
        // A stem's filters are standardized: only their direction matters.
        if spec.shape.len() == 4 {
            return Draw::Normal((2.0 / fan().1).sqrt());
        }
        let weight = matches!(
            role,
            Role::Convolution { weight: true }
                | Role::Head { weight: true }
                | Role::Mlp { weight: true }
                | Role::Linear { weight: true }
        );
        let torch_default = || Draw::Uniform(1.0 / fan().0.sqrt());
        match (self, role) {
            (Initialization::Timm, Role::Token) => Draw::Normal(1e-6),
            (Initialization::Timm, Role::Positions) => Draw::Normal(0.02),
            (Initialization::Timm, Role::Convolution { .. }) => torch_default(),
            (Initialization::Timm, _) => Draw::Normal(if weight { 0.02 } else { 0.0 }),

            (Initialization::Jax, Role::Token | Role::Head { .. }) => Draw::Constant(0.0),
            (Initialization::Jax, Role::Positions) => Draw::Normal(0.02),
            (Initialization::Jax, Role::Convolution { weight: true }) => Draw::Truncated((1.0 / fan().0).sqrt()),
            (Initialization::Jax, Role::Mlp { weight: false }) => Draw::Normal(1e-6),
            (Initialization::Jax, _) if weight => {
                let (inputs, outputs) = fan();
                Draw::Uniform((6.0 / (inputs + outputs)).sqrt())
            }
            (Initialization::Jax, _) => Draw::Constant(0.0),

            (Initialization::HuggingFace, Role::Token | Role::Positions) => Draw::Normal(0.02),
            (Initialization::HuggingFace, _) => Draw::Normal(if weight { 0.02 } else { 0.0 }),

            (Initialization::Classic, Role::Token | Role::Positions) => Draw::Normal(0.02),
            (Initialization::Classic, Role::Convolution { weight: true }) => Draw::Normal((2.0 / fan().1).sqrt()),
            (Initialization::Classic, _) => Draw::Normal(if weight { 0.01 } else { 0.0 }),

            (Initialization::Lucidrains, Role::Token | Role::Positions) => Draw::Normal(1.0),
            (Initialization::Lucidrains, _) => torch_default(),
        }
    }
}

impl Draw {
    fn value(self, seed: u64, index: u64) -> f32 {
        match self {
            Draw::Constant(value) => value,
            Draw::Normal(deviation) => deviation * normal(seed, index),
            Draw::Uniform(bound) => bound * (2.0 * uniform(seed, index) - 1.0),
            Draw::Truncated(deviation) => {
                // The standard deviation of a standard normal truncated at two.
                const CUT: f32 = 0.879_625_7;
                let value = (0..).map(|again| normal(mix(seed ^ again), index)).find(|value| value.abs() <= 2.0);
                deviation / CUT * value.expect("most samples are within two standard deviations")
            }
        }
    }
}

/// Fills flat parameters with initial values drawn from a seed. A tensor's values depend on the seed and its name
/// alone.
pub fn initialize(vit: &Vit, parameters: &mut Parameters, scheme: Initialization, seed: u64) {
    for id in vit.declarations().ids() {
        parameters.write(id, &initial_values(vit, id, scheme, seed));
    }
}

/// The initial values of one parameter.
pub fn initial_values(vit: &Vit, id: ParameterId, scheme: Initialization, seed: u64) -> Vec<f32> {
    drawn(vit.declarations(), vit.config(), id, scheme, seed)
}

impl MaskedAutoencoder {
    /// Fills flat parameters with initial values, the decoder's like the encoder's, which are those of [`initialize`].
    pub fn initialize(&self, parameters: &mut Parameters, scheme: Initialization, seed: u64) {
        for id in self.declarations().ids() {
            parameters.write(id, &drawn(self.declarations(), self.vit().config(), id, scheme, seed));
        }
    }
}

impl MaskedPatches {
    /// Fills flat parameters with initial values, those of the encoder as [`initialize`] does.
    pub fn initialize(&self, parameters: &mut Parameters, scheme: Initialization, seed: u64) {
        for id in self.declarations().ids() {
            parameters.write(id, &drawn(self.declarations(), self.vit().config(), id, scheme, seed));
        }
    }
}

fn drawn(
    declarations: &Declarations,
    config: &ModelConfig,
    id: ParameterId,
    scheme: Initialization,
    seed: u64,
) -> Vec<f32> {
    let spec = declarations.spec(id);
    let mut values = vec![0.0; spec.count()];
    fill(declarations, config, spec, scheme, seed, &mut values);
    values
}

/// The same values in the form for inference, drawn one tensor at a time.
pub fn frozen(vit: &Vit, scheme: Initialization, seed: u64, device: &Device) -> Parameters {
    let read = |spec: &ParameterSpec| {
        let mut values = vec![0.0; spec.count()];
        fill(vit.declarations(), vit.config(), spec, scheme, seed, &mut values);
        Ok::<_, Infallible>(values.into())
    };
    let stored = |spec: &ParameterSpec| storage(device.precision(), &spec.name);
    let Ok(parameters) = Parameters::prepared_as(vit.declarations().clone(), device.clone(), stored, read);
    parameters
}

fn fill(
    declarations: &Declarations,
    config: &ModelConfig,
    spec: &ParameterSpec,
    scheme: Initialization,
    seed: u64,
    values: &mut [f32],
) {
    let of_name = spec.name.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)));
    // A bias is drawn like the weight it belongs to.
    let weight = spec.name.strip_suffix(".bias").map(|stem| match stem.rsplit_once('.') {
        // The separate biases of a packed projection whose keys have none.
        Some((attention, "query" | "value")) if attention.ends_with(".attention") => format!("{attention}.qkv.weight"),
        _ => format!("{stem}.weight"),
    });
    let weight = weight.and_then(|weight| declarations.find(&weight)).map(|id| declarations.spec(id));
    let fan = || fans(weight.unwrap_or(spec), config);
    let draw = scheme.draw(spec, fan, config.layer_scale.unwrap_or(1.0));
    if let (true, Some(rotary)) = (spec.name.ends_with(".frequencies"), config.rotary) {
        return random_frequencies(rotary.theta(), config.head_width / 2, of_name, values);
    }
    const CHUNK: usize = 1 << 14;
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        for (i, value) in values.iter_mut().enumerate() {
            *value = draw.value(of_name, (chunk * CHUNK + i) as u64);
        }
    });
}

/// Frequencies of mixed rotary positions as RoPE-ViT starts them (arXiv:2403.13298): two axes at right angles, turned at
/// random for each head, along which the frequencies fall from 1 to `1 / theta`.
fn random_frequencies(theta: f32, pairs: usize, seed: u64, values: &mut [f32]) {
    let (half, count) = (pairs / 2, values.len() / 2);
    let (first, second) = values.split_at_mut(count);
    for (i, (first, second)) in first.iter_mut().zip(second).enumerate() {
        let (head, pair) = (i / pairs, i % pairs);
        let magnitude = theta.powf(-((pair % half.max(1)) as f32 / half.max(1) as f32));
        let right_angle = if pair < half { 0.0 } else { std::f32::consts::FRAC_PI_2 };
        let angle = std::f32::consts::TAU * uniform(seed, head as u64) + right_angle;
        (*first, *second) = (magnitude * angle.cos(), magnitude * angle.sin());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::variants;

    fn drawn(scheme: Initialization) -> (Vit, Parameters) {
        let config = variants::find("Ti/16").expect("known");
        let vit = Vit::new(ModelConfig { depth: 1, ..config }).expect("valid");
        let mut parameters = Parameters::zeros(vit.declarations().clone(), Device::cpu(1));
        initialize(&vit, &mut parameters, scheme, 3);
        (vit, parameters)
    }

    fn deviation(scheme: Initialization, name: &str) -> f32 {
        let (vit, parameters) = drawn(scheme);
        let values = parameters.read(vit.declarations().find(name).expect("declared")).expect("memory");
        (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
    }

    #[test]
    fn flat_and_frozen_parameters_have_the_same_values() {
        let (vit, flat) = drawn(Initialization::Timm);
        let frozen = frozen(&vit, Initialization::Timm, 3, &Device::cpu(1));
        for id in vit.declarations().ids() {
            assert_eq!(flat.read(id), frozen.read(id), "{}", vit.declarations().spec(id).name);
        }
    }

    #[test]
    fn standard_deviations_match_each_scheme() {
        use Initialization::*;
        let uniform = |bound: f32| bound / 3f32.sqrt();
        let fan_in = 1.0 / (768f32).sqrt();
        for (scheme, name, expected) in [
            (Timm, "blocks.0.mlp.up.weight", 0.02),
            (Timm, "blocks.0.mlp.up.bias", 0.0),
            (Timm, "patches.weight", uniform(fan_in)),
            (Timm, "tokens.class", 1e-6),
            (Timm, "positions", 0.02),
            (Jax, "head.weight", 0.0),
            (Jax, "tokens.class", 0.0),
            (Jax, "blocks.0.attention.qkv.weight", uniform((6.0f32 / 384.0).sqrt())),
            (Jax, "blocks.0.mlp.down.bias", 1e-6),
            (Jax, "patches.weight", fan_in),
            (HuggingFace, "patches.weight", 0.02),
            (HuggingFace, "tokens.class", 0.02),
            (Classic, "head.weight", 0.01),
            (Classic, "patches.weight", (2.0f32 / (192.0 * 256.0)).sqrt()),
            (Lucidrains, "positions", 1.0),
            (Lucidrains, "blocks.0.mlp.up.weight", uniform(1.0 / 192f32.sqrt())),
            (Lucidrains, "blocks.0.mlp.up.bias", uniform(1.0 / 192f32.sqrt())),
        ] {
            let found = deviation(scheme, name);
            assert!((found - expected).abs() <= 0.15 * expected, "{scheme:?} `{name}`: {found} for {expected}");
        }
        for scheme in [Timm, Jax, HuggingFace, Classic, Lucidrains] {
            assert_eq!(deviation(scheme, "norm.weight"), 1.0);
            assert_eq!(deviation(scheme, "blocks.0.norm1.bias"), 0.0);
        }
    }
}
