//! How each library names its tensors and lays them out, as data: one TOML file per dialect.
//!
//! A dialect maps our parameter names to those of another library. In both, `{i}` is the index of a block, `{j}` of one
//! in a pair, `{s}` and `{b}` of a stage and its block, and `{p}` is `weight` or `bias`. In the other library's names,
//! `{s+1}` counts from one, `{b+1:02}` has two digits, and `{kernel}`, `{scale}` and `{gamma}` replace `{p}` where a
//! weight has that name. The right-hand side is one of
//!
//! - a name;
//! - a list of sources, concatenated along the first axis (query, key and value; gate and up);
//! - `{ any = […] }`: the first source whose tensors all exist;
//! - `{ from = name, rows = "first" | "last" }`: as many rows as the parameter has, from a tensor that holds several
//!   parameters;
//! - `{ from = name, at = "{i}" }`: one of several tensors of equal shape, stacked along a leading axis;
//! - `{ from = name, layout = … }`: a [`SourceLayout`].
//!
//! `rotary` lists the kinds of rotary positions that models of these names may have; none, if absent: libraries order a head's channels in
//! two ways under the same names.
//!
//! The same data is used in both directions: reading takes whatever exists, writing takes the first source whose `when`
//! holds for the model.

mod pattern;

use std::collections::HashMap;
use std::sync::OnceLock;

use serde::Deserialize;

pub(crate) use pattern::{Pattern, matches_glob, matches_template};

use super::WeightsError;
use crate::config::{BlockKind, MlpKind, ModelConfig, Rotary, Stem};

/// One library's names and layouts.
#[derive(Clone, Debug)]
pub struct Dialect {
    name: String,
    prefixes: Vec<String>,
    leftovers: Vec<String>,
    tensors: Vec<(Pattern, Source)>,
    axes: HashMap<String, usize>,
    /// The kinds of rotary positions that models of these names may have.
    rotary: Vec<RotaryKind>,
    identity: bool,
    /// What a module around the model adds to its names, such as `model.`.
    wrapper: Option<String>,
}

/// Where a parameter comes from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// An unmodified tensor.
    Name(String),
    /// Several sources, concatenated along the first axis.
    Joined(Vec<Source>),
    /// The first source that exists.
    Any {
        /// The sources, in order of preference.
        any: Vec<Source>,
    },
    /// A part of a tensor, or a tensor in another layout.
    Part {
        /// The tensor.
        from: String,
        /// Which rows of it.
        #[serde(default)]
        rows: Option<Rows>,
        /// The index into a stacked tensor: `{i}`.
        #[serde(default)]
        at: Option<String>,
        /// Its layout.
        #[serde(default)]
        layout: Option<SourceLayout>,
        /// Which models are written this way; any, if absent. Ignored when reading.
        #[serde(default)]
        when: Option<Condition>,
    },
}

/// The models that a source is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Blocks of [`BlockKind::ParallelScaling`].
    ParallelScaling,
    /// The same, without a bias on query, key and value.
    ParallelScalingWithoutQkvBias,
    /// A gated MLP.
    Gated,
    /// A separate head for the distillation token.
    DistillationHead,
    /// A bias in the classifier.
    HeadBias,
    /// A hybrid whose stem is a single convolution.
    StemOnly,
    /// A hybrid on a ResNet-D.
    #[serde(rename = "resnet-d")]
    ResNetD,
}

impl Condition {
    /// Whether it holds for a model.
    pub(crate) fn holds(self, config: &ModelConfig) -> bool {
        match self {
            Condition::ParallelScaling => config.block == BlockKind::ParallelScaling,
            Condition::ParallelScalingWithoutQkvBias => config.block == BlockKind::ParallelScaling && !config.qkv_bias,
            Condition::Gated => config.mlp == MlpKind::Gated,
            Condition::DistillationHead => config.distillation_head,
            Condition::HeadBias => config.head_bias,
            Condition::StemOnly => matches!(&config.stem, Stem::Hybrid(stem) if stem.layers.is_empty()),
            Condition::ResNetD => matches!(config.stem, Stem::ResNetD(_)),
        }
    }
}

/// A kind of rotary positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RotaryKind {
    Normalized,
    Axial,
    Mixed,
}

impl From<Rotary> for RotaryKind {
    fn from(rotary: Rotary) -> Self {
        match rotary {
            Rotary::Normalized { .. } => RotaryKind::Normalized,
            Rotary::Axial { .. } => RotaryKind::Axial,
            Rotary::Mixed { .. } => RotaryKind::Mixed,
        }
    }
}

/// Which rows of a tensor that holds several parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// The first, as many as the parameter has.
    First,
    /// The last, as many as the parameter has.
    Last,
}

/// A layout of another library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceLayout {
    /// The last axis runs over a patch's rows, columns, channels; ours over channels, rows, columns.
    PatchChannelsLast,
    /// `[in, out]`; ours is `[out, in]`.
    Transposed,
    /// A convolution's `[height, width, in, out]`; ours is `[out, in, height, width]`.
    Hwio,
    /// Queries, keys or values as `[in, heads, head width]`; ours is `[heads · head width, in]`.
    InHeads,
    /// An attention's projection as `[heads, head width, out]`; ours is `[out, heads · head width]`.
    HeadsOut,
    /// A bias as `[heads, head width]`; ours is flat.
    Heads,
    /// Queries or keys, or their bias, with a pair of rotary positions in neighboring channels; ours has the first of all
    /// pairs in the first half of a head.
    NeighborPairs,
    /// Queries, keys and values one after the other, the first two as in `neighbor-pairs`.
    PackedNeighborPairs,
    /// Positions as `[rows, columns, width]`; ours are `[rows · columns, width]`.
    Grid,
    /// One of several tensors that are stacked along the second axis, `[axes, blocks, heads, pairs]`; ours is
    /// `[axes, heads · pairs]`.
    ByAxis,
}

impl SourceLayout {
    /// Number of axes in the other library, if it differs from the parameter's.
    pub(crate) fn rank(self) -> Option<usize> {
        match self {
            SourceLayout::PatchChannelsLast
            | SourceLayout::Transposed
            | SourceLayout::NeighborPairs
            | SourceLayout::PackedNeighborPairs => None,
            SourceLayout::Hwio | SourceLayout::ByAxis => Some(4),
            SourceLayout::InHeads | SourceLayout::HeadsOut | SourceLayout::Grid => Some(3),
            SourceLayout::Heads => Some(2),
        }
    }

    /// Another library's shape in our layout; `None` if it has the wrong number of axes.
    pub(crate) fn ours(self, shape: &[usize]) -> Option<Vec<usize>> {
        match (self, shape) {
            (SourceLayout::NeighborPairs | SourceLayout::PackedNeighborPairs, shape) => Some(shape.to_vec()),
            // A convolution has its channels first.
            (SourceLayout::PatchChannelsLast, shape) if shape.len() != 4 => Some(shape.to_vec()),
            (SourceLayout::Grid, &[rows, columns, width]) => Some(vec![rows.checked_mul(columns)?, width]),
            (SourceLayout::ByAxis, &[axes, _, heads, pairs]) => Some(vec![axes, heads.checked_mul(pairs)?]),
            (SourceLayout::Transposed, shape) => Some(shape.iter().rev().copied().collect()),
            (SourceLayout::Hwio, &[height, width, inputs, outputs]) => Some(vec![outputs, inputs, height, width]),
            (SourceLayout::InHeads, &[inputs, heads, width]) => Some(vec![heads.checked_mul(width)?, inputs]),
            (SourceLayout::HeadsOut, &[heads, width, outputs]) => Some(vec![outputs, heads.checked_mul(width)?]),
            (SourceLayout::Heads, &[heads, width]) => Some(vec![heads.checked_mul(width)?]),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DialectFile {
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    leftovers: Vec<String>,
    tensors: toml::Table,
    #[serde(default)]
    axes: HashMap<String, usize>,
    #[serde(default)]
    rotary: Vec<RotaryKind>,
}

/// Every built-in dialect: one line and one file each.
const BUILT_IN: [(&str, &str); 20] = [
    ("huggingface-vit", include_str!("huggingface-vit.toml")),
    ("huggingface-deit", include_str!("huggingface-deit.toml")),
    ("huggingface-dinov2", include_str!("huggingface-dinov2.toml")),
    ("huggingface-dinov3", include_str!("huggingface-dinov3.toml")),
    ("huggingface-beit", include_str!("huggingface-beit.toml")),
    ("huggingface-clip", include_str!("huggingface-clip.toml")),
    ("huggingface-siglip2", include_str!("huggingface-siglip2.toml")),
    ("huggingface-siglip", include_str!("huggingface-siglip.toml")),
    ("timm", include_str!("timm.toml")),
    ("timm-beit", include_str!("timm-beit.toml")),
    ("timm-eva", include_str!("timm-eva.toml")),
    ("timm-naflex", include_str!("timm-naflex.toml")),
    ("timm-resnet", include_str!("timm-resnet.toml")),
    ("torchvision", include_str!("torchvision.toml")),
    ("openai-clip", include_str!("openai-clip.toml")),
    ("jax", include_str!("jax.toml")),
    ("bit", include_str!("bit.toml")),
    ("big-vision", include_str!("big-vision.toml")),
    ("lucidrains", include_str!("lucidrains.toml")),
    ("lucidrains-simple", include_str!("lucidrains-simple.toml")),
];

/// The dialects of text towers: their names are those of [`crate::model::TextTower`], so they are not among those that a
/// vision tower is recognized by.
#[cfg(feature = "text")]
const OF_TEXTS: [(&str, &str); 3] = [
    ("huggingface-clip-text", include_str!("huggingface-clip-text.toml")),
    ("huggingface-siglip-text", include_str!("huggingface-siglip-text.toml")),
    ("openai-clip-text", include_str!("openai-clip-text.toml")),
];

/// Buffers that are not weights in any dialect.
const BUFFERS: [&str; 4] = ["*num_batches_tracked", "*position_ids", "*relative_position_index", "n_averaged"];

impl Dialect {
    /// All built-in dialects of other libraries.
    pub fn built_in() -> &'static [Dialect] {
        static DIALECTS: OnceLock<Vec<Dialect>> = OnceLock::new();
        DIALECTS.get_or_init(|| {
            BUILT_IN
                .iter()
                .map(|(name, text)| match Self::parse(name, text) {
                    Ok(dialect) => dialect,
                    // The files are part of the program, and a test parses each of them.
                    Err(fault) => panic!("built-in dialect `{name}`: {fault}"),
                })
                .collect()
        })
    }

    /// Our own names, as in a Vitral bundle.
    pub fn vitral() -> Dialect {
        let name = "vitral".to_owned();
        Dialect {
            name,
            prefixes: Vec::new(),
            leftovers: Vec::new(),
            tensors: Vec::new(),
            axes: HashMap::new(),
            rotary: Vec::new(),
            identity: true,
            wrapper: None,
        }
    }

    /// The dialect with this name.
    pub fn named(name: &str) -> Result<Dialect, WeightsError> {
        if name == "vitral" {
            return Ok(Self::vitral());
        }
        Self::built_in().iter().find(|dialect| dialect.name == name).cloned().ok_or_else(|| {
            let known = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).chain(["vitral".to_owned()]);
            WeightsError::NoSuchDialect { found: name.to_owned(), known: known.collect() }
        })
    }

    /// The dialect of a text tower with this name.
    #[cfg(feature = "text")]
    pub(crate) fn of_texts(name: &str) -> Option<Dialect> {
        let (name, text) = OF_TEXTS.iter().find(|(known, _)| *known == name)?;
        Self::parse(name, text).ok()
    }

    /// Reads a dialect from TOML.
    pub fn parse(name: &str, text: &str) -> Result<Dialect, String> {
        let file: DialectFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut tensors = Vec::new();
        for (ours, theirs) in file.tensors {
            let source: Source = theirs.try_into().map_err(|error| format!("`{ours}`: {error}"))?;
            tensors.push((Pattern::new(&ours), source));
        }
        Ok(Dialect {
            name: name.to_owned(),
            prefixes: file.prefixes,
            leftovers: file.leftovers,
            tensors,
            axes: file.axes,
            rotary: file.rotary,
            identity: false,
            wrapper: None,
        })
    }

    /// The same dialect with some names replaced: ours on the left, theirs on the right.
    #[must_use]
    pub fn with_names(mut self, names: &[(String, Source)]) -> Dialect {
        for (ours, source) in names {
            // Earlier entries take precedence.
            self.tensors.insert(0, (Pattern::new(ours), source.clone()));
        }
        self
    }

    /// The same dialect inside a module that adds a prefix to some or all names.
    #[must_use]
    pub(crate) fn wrapped(mut self, prefix: &str) -> Dialect {
        self.wrapper = Some(prefix.to_owned());
        self
    }

    /// What a module around the model adds to its names, such as `model.`.
    pub fn wrapper(&self) -> Option<&str> {
        self.wrapper.as_deref()
    }

    /// Whether the names can be those of a model with such rotary positions: the same names may stand for channels in
    /// another order.
    pub(crate) fn takes(&self, rotary: Option<Rotary>) -> bool {
        self.identity || rotary.is_none_or(|rotary| self.rotary.contains(&rotary.into()))
    }

    /// The dialect's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Our names that have a source, with placeholders: `blocks.{i}.norm1.{p}`.
    pub fn parameters(&self) -> impl Iterator<Item = String> {
        self.tensors.iter().map(|(pattern, _)| pattern.text())
    }

    /// Where a parameter comes from, with its placeholders filled in.
    pub(crate) fn source(&self, parameter: &str) -> Option<Source> {
        self.tensors
            .iter()
            .find_map(|(pattern, source)| pattern.captures(parameter).map(|found| source.filled(&found)))
            .or_else(|| self.identity.then(|| Source::Name(parameter.to_owned())))
    }

    /// How many axes the library gives a parameter, if more than we do.
    pub(crate) fn axes(&self, parameter: &str) -> Option<usize> {
        self.axes.get(parameter).copied()
    }

    /// The spellings of a name in this library, the plain one first.
    pub(crate) fn spellings<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let plain = move || {
            std::iter::once(name.to_owned()).chain(self.prefixes.iter().map(move |prefix| format!("{prefix}{name}")))
        };
        let wrapped = self.wrapper.iter().flat_map(move |wrapper| plain().map(move |name| format!("{wrapper}{name}")));
        plain().chain(wrapped)
    }

    /// A prefix without the dialect's own at its end; `None` if nothing is left.
    pub(crate) fn without_own_prefix<'a>(&self, prefix: &'a str) -> Option<&'a str> {
        let own = self.prefixes.iter().find_map(|own| prefix.strip_suffix(own.as_str()));
        Some(own.unwrap_or(prefix)).filter(|prefix| !prefix.is_empty())
    }

    /// The rest of a name inside the wrapper.
    fn unwrapped<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.wrapper.as_deref()?)
    }

    /// Whether a tensor's name belongs to this dialect.
    pub fn knows(&self, name: &str) -> bool {
        let plain = |name: &str| {
            let templates = self.tensors.iter().flat_map(|(_, source)| source.names());
            templates.into_iter().any(|template| matches_template(&template, name))
        };
        let known = |name: &str| {
            plain(name) || self.prefixes.iter().any(|prefix| name.strip_prefix(prefix.as_str()).is_some_and(plain))
        };
        known(name) || self.unwrapped(name).is_some_and(known)
    }

    /// Whether an unused tensor is not an error: buffers, and parts of a larger model that a ViT does not use.
    pub(crate) fn is_leftover(&self, name: &str) -> bool {
        let plain = |pattern: &&str| {
            let name = self.unwrapped(name).unwrap_or(name);
            matches_glob(pattern, name)
                || self
                    .prefixes
                    .iter()
                    .any(|prefix| name.strip_prefix(prefix.as_str()).is_some_and(|name| matches_glob(pattern, name)))
        };
        self.leftovers.iter().map(String::as_str).chain(BUFFERS).any(|pattern| plain(&pattern))
    }
}

impl Source {
    fn filled(&self, captures: &pattern::Captures<'_>) -> Source {
        let all = |sources: &[Source]| sources.iter().map(|source| source.filled(captures)).collect();
        match self {
            Source::Name(name) => Source::Name(captures.fill(name)),
            Source::Joined(sources) => Source::Joined(all(sources)),
            Source::Any { any } => Source::Any { any: all(any) },
            Source::Part { from, rows, at, layout, when } => Source::Part {
                from: captures.fill(from),
                rows: *rows,
                at: at.as_ref().map(|at| captures.fill(at)),
                layout: *layout,
                when: *when,
            },
        }
    }

    /// Whether it is one of several tensors stacked in one.
    pub(crate) fn is_stacked(&self) -> bool {
        match self {
            Source::Name(_) => false,
            Source::Part { at, .. } => at.is_some(),
            Source::Joined(sources) | Source::Any { any: sources } => sources.iter().any(Source::is_stacked),
        }
    }

    /// Every tensor name in the source.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Source::Name(name) | Source::Part { from: name, .. } => vec![name.clone()],
            Source::Joined(sources) | Source::Any { any: sources } => sources.iter().flat_map(Source::names).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_dialect_parses() {
        for (name, text) in BUILT_IN {
            let dialect = Dialect::parse(name, text).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            let body = ["blocks.11.attention.qkv.weight", "stem.stages.0.2.conv1.weight"];
            assert!(body.iter().any(|name| dialect.source(name).is_some()), "{name}");
            // transformers has DINOv3 without a classifier.
            let headless = name == "huggingface-dinov3";
            assert_eq!(dialect.source("head.weight").is_none(), headless, "{name}");
        }
    }

    #[test]
    #[cfg(feature = "text")]
    fn every_dialect_of_a_text_tower_parses() {
        for (name, text) in OF_TEXTS {
            let dialect = Dialect::parse(name, text).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            for parameter in ["table", "blocks.11.attention.qkv.weight", "projection.weight"] {
                assert!(dialect.source(parameter).is_some(), "{name}: {parameter}");
            }
        }
    }

    #[test]
    fn placeholders_are_filled_and_overrides_win() {
        let dialect = Dialect::named("torchvision").unwrap();
        let source = dialect.source("blocks.3.attention.qkv.bias");
        let name = "encoder.layers.encoder_layer_3.self_attention.in_proj_bias";
        assert_eq!(source, Some(Source::Name(name.into())));
        let own = dialect.with_names(&[("blocks.{i}.norm1.{p}".into(), Source::Name("b{i}.n.{p}".into()))]);
        assert_eq!(own.source("blocks.2.norm1.weight"), Some(Source::Name("b2.n.weight".into())));
    }

    #[test]
    fn an_unknown_dialect_is_reported_with_the_known_ones() {
        let error = Dialect::named("keras").unwrap_err().to_string();
        assert!(error.contains("`keras`") && error.contains("`timm`") && error.contains("`vitral`"), "{error}");
    }
}
