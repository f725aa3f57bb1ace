//! Frozen parameters, and the low-rank updates trained in their place (LoRA, arXiv:2106.09685).

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vitral::model::Vit;
use vitral_engine::random::{mix, uniform};
use vitral_engine::{Adapter, DeviceError, ParameterId, ParameterKind, Parameters};

use crate::error::TrainError;

/// Low-rank updates of linear maps: the model is frozen; its head and the updates are trained. The resulting model is
/// an ordinary one, with each update added to its matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of each update.
    pub rank: usize,
    /// Each update is multiplied by `alpha / rank`.
    #[serde(default = "alpha")]
    pub alpha: f32,
    /// Linear maps to adapt in every block.
    #[serde(default = "attention")]
    pub maps: Vec<Map>,
    /// Dropout rate on the inputs of the updates.
    #[serde(default)]
    pub dropout: f32,
}

fn alpha() -> f32 {
    16.0
}

fn attention() -> Vec<Map> {
    vec![Map::Qkv, Map::Projection]
}

/// A linear map of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Map {
    /// The attention's queries, keys and values, as one matrix.
    Qkv,
    /// The attention's output projection.
    Projection,
    /// The first linear layer of the MLP.
    Up,
    /// The second linear layer of the MLP.
    Down,
}

impl Map {
    fn ending(self) -> &'static str {
        match self {
            Map::Qkv => ".attention.qkv.weight",
            Map::Projection => ".attention.projection.weight",
            Map::Up => ".mlp.up.weight",
            Map::Down => ".mlp.down.weight",
        }
    }
}

/// A model's parameters, some of them frozen (those given, and with LoRA all but the head), with low-rank updates added
/// if requested. Frozen parameters are prepared once and have no gradients or moments.
///
/// # Errors
/// If the updates do not fit the model, or nothing is left to train.
pub fn prepare(
    vit: &Vit,
    parameters: Parameters,
    frozen: &[ParameterId],
    lora: Option<&Lora>,
    seed: u64,
) -> Result<Parameters, TrainError> {
    let fault = |fault: String| TrainError::Recipe { path: "[model]".into(), fault };
    let mut declarations = vit.declarations().clone();
    let adapters = match lora {
        Some(lora) => lora.declare(vit, &mut declarations).map_err(fault)?,
        None => Vec::new(),
    };
    let names = vit.declarations();
    let head = |id| ["head.", "distillation_head."].iter().any(|head| names.spec(id).name.starts_with(head));
    let free = |id: &ParameterId| !frozen.contains(id) && (lora.is_none() || head(*id));
    let own: Vec<ParameterId> = names.ids().filter(free).collect();
    if own.is_empty() && lora.is_none() {
        return Err(fault(
            "`groups.freeze` freezes every parameter and leaves nothing to train; remove a pattern".to_owned(),
        ));
    }
    if own.len() == names.specs().len() {
        return Ok(parameters);
    }
    let updates = declarations.ids().skip(names.specs().len());
    let trained: HashSet<ParameterId> = own.iter().copied().chain(updates).collect();
    let read = |spec: &vitral_engine::ParameterSpec| {
        let id = names.find(&spec.name).expect("only the model's own parameters are frozen");
        Ok::<_, TrainError>(parameters.read(id)?.into())
    };
    let device = parameters.device().clone();
    let mut prepared = Parameters::partly_frozen(declarations, device, |id| trained.contains(&id), read)?;
    for id in own {
        prepared.write(id, &parameters.read(id)?);
    }
    for (number, (weight, adapter)) in adapters.into_iter().enumerate() {
        // Updates start at zero: one factor is initialized like PyTorch's linear layers, the other is zero.
        let shape = prepared.declarations().spec(adapter.down).shape.clone();
        let bound = 1.0 / (shape[1] as f32).sqrt();
        let seed = mix(seed ^ mix(0x104a ^ number as u64));
        let drawn: Vec<f32> = (0..shape[0] * shape[1]).map(|i| bound * (2.0 * uniform(seed, i as u64) - 1.0)).collect();
        prepared.write(adapter.down, &drawn);
        prepared.adapt(weight, adapter);
    }
    Ok(prepared)
}

impl Lora {
    /// The defaults of a recipe: updates of the attention's maps.
    pub fn of_rank(rank: usize) -> Self {
        Lora { rank, alpha: alpha(), maps: attention(), dropout: 0.0 }
    }

    /// Declares the factors of the updates after the model's own parameters.
    fn declare(
        &self,
        vit: &Vit,
        declarations: &mut vitral_engine::Declarations,
    ) -> Result<Vec<(ParameterId, Adapter)>, String> {
        if self.maps.is_empty() {
            return Err("`lora.maps` is empty; list some of qkv, projection, up and down".to_owned());
        }
        if !(0.0..1.0).contains(&self.dropout) || !self.alpha.is_finite() {
            let (dropout, alpha) = (self.dropout, self.alpha);
            return Err(format!(
                "`lora.dropout` is {dropout} and `lora.alpha` {alpha}; expected a dropout below 1 and a finite alpha"
            ));
        }
        let mut adapters = Vec::new();
        for (place, &map) in self.maps.iter().enumerate() {
            if self.maps[..place].contains(&map) {
                return Err(format!("`lora.maps` lists {map:?} twice; keep one"));
            }
            let before = adapters.len();
            for weight in vit.declarations().ids() {
                let spec = vit.declarations().spec(weight);
                if !(spec.name.starts_with("blocks.") && spec.name.ends_with(map.ending())) {
                    continue;
                }
                let (outputs, inputs) = (spec.shape[0], spec.shape[1]);
                if self.rank == 0 || self.rank > outputs.min(inputs) {
                    let (rank, most) = (self.rank, outputs.min(inputs));
                    return Err(format!(
                        "`lora.rank` is {rank}; expected 1 to {most}, as `{}` is {outputs} × {inputs}",
                        spec.name
                    ));
                }
                let stem = spec.name.trim_end_matches(".weight");
                let mut factor = |name: &str, shape: &[usize]| {
                    declarations.declare(format!("{stem}.adapter.{name}.weight"), shape, ParameterKind::Matrix)
                };
                let down = factor("down", &[self.rank, inputs]);
                let up = factor("up", &[outputs, self.rank]);
                let scale = self.alpha / self.rank as f32;
                adapters.push((weight, Adapter { down, up, scale, dropout: self.dropout }));
            }
            if adapters.len() == before {
                return Err(format!("`lora.maps`: the model's blocks have no {map:?}; remove it"));
            }
        }
        Ok(adapters)
    }
}

/// A parameter's values, with its update added if it has one. `flat` holds the trained parameters, laid out like
/// [`Parameters::flat`].
///
/// # Errors
/// Any error of the device.
pub fn merged(parameters: &Parameters, flat: &[f32], id: ParameterId) -> Result<Vec<f32>, DeviceError> {
    let own = |id: ParameterId| match parameters.is_flat(id) {
        true => Ok(flat[parameters.range(id)].to_vec()),
        false => parameters.read(id),
    };
    let mut values = own(id)?;
    if let Some(Adapter { down, up, scale, .. }) = parameters.adapter(id) {
        let width = parameters.declarations().spec(id).shape[1];
        let (down, up) = (own(down)?, own(up)?);
        let rank = down.len() / width;
        values.par_chunks_mut(width).zip(up.par_chunks(rank)).for_each(|(row, up)| {
            for (column, value) in row.iter_mut().enumerate() {
                let update: f64 = (0..rank).map(|r| f64::from(up[r]) * f64::from(down[r * width + column])).sum();
                *value = (f64::from(*value) + f64::from(scale) * update) as f32;
            }
        });
    }
    Ok(values)
}

/// Number of values that are trained, and number of values in the model without updates.
pub fn trainable(vit: &Vit, parameters: &Parameters) -> (usize, usize) {
    let declarations = parameters.declarations();
    let trained = declarations.ids().filter(|&id| parameters.is_trainable(id));
    (trained.map(|id| declarations.spec(id).count()).sum(), vit.declarations().count())
}

/// A checksum of the frozen parameters. They are not in a checkpoint, so it is only valid with these values.
///
/// # Errors
/// Any error of the device.
pub fn checksum(parameters: &Parameters) -> Result<u32, DeviceError> {
    let frozen = parameters.declarations().ids().filter(|&id| !parameters.is_flat(id));
    let mut sum = 0;
    for id in frozen {
        let bytes: Vec<u8> = parameters.read(id)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        sum = crc32c::crc32c_append(sum, &bytes);
    }
    Ok(sum)
}
