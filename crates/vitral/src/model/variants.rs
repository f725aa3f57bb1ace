//! Known model sizes, with the papers' names: one row each.

use crate::config::{Activation, Border, ModelConfig, Pooling, Positions, ResNetV2, Root, Size};

/// A size of the encoder, as named in the papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The paper's name: `B` in `B/16`.
    pub name: &'static str,
    /// The long name in timm and Hugging Face.
    pub long_name: &'static str,
    /// Width of a token.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP.
    pub mlp_width: usize,
    /// Patch sizes of published models.
    pub patches: &'static [usize],
}

const fn row(
    name: &'static str,
    long_name: &'static str,
    [width, depth, heads, mlp_width]: [usize; 4],
    patches: &'static [usize],
) -> Variant {
    Variant { name, long_name, width, depth, heads, mlp_width, patches }
}

/// Table 1 of arXiv:2010.11929, table 2 of arXiv:2106.04560 (µ, Ti, S, M, g, G), arXiv:2305.13035 (So400m), and one for
/// tests.
pub const VARIANTS: &[Variant] = &[
    row("test", "test", [32, 2, 2, 64], &[4, 8]),
    row("mu", "mu", [32, 1, 2, 128], &[16]),
    row("Ti", "tiny", [192, 12, 3, 768], &[4, 8, 16]),
    row("S", "small", [384, 12, 6, 1536], &[8, 14, 16, 32]),
    row("M", "medium", [512, 12, 8, 2048], &[16, 32]),
    row("B", "base", [768, 12, 12, 3072], &[8, 14, 16, 32]),
    row("L", "large", [1024, 24, 16, 4096], &[14, 16, 32]),
    row("So400m", "so400m", [1152, 27, 16, 4304], &[14, 16]),
    row("H", "huge", [1280, 32, 16, 5120], &[14, 16]),
    row("g", "giant", [1408, 40, 16, 6144], &[14]),
    row("g-opt", "giantopt", [1536, 40, 16, 6144], &[14, 16]),
    row("G", "gigantic", [1664, 48, 16, 8192], &[14]),
    row("G-opt", "giganticopt", [1536, 48, 16, 8192], &[14]),
    row("e", "enormous", [1792, 56, 16, 15360], &[14]),
];

impl Variant {
    /// The plain ViT of this size: 224 pixels, 1000 classes, as in the paper and timm.
    pub fn config(&self, patch: usize) -> ModelConfig {
        ModelConfig {
            patch_size: Size::square(patch),
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            head_width: self.width / self.heads,
            mlp_width: self.mlp_width,
            ..ModelConfig::default()
        }
    }
}

/// A depth of BiT's ResNet, which the ViT paper compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResNetVariant {
    /// The paper's name: `R50` in `R50x1`.
    pub name: &'static str,
    /// Blocks of each stage.
    pub layers: &'static [usize],
    /// Width factors of published models, or one for tests.
    pub factors: &'static [usize],
}

/// Table 6 of arXiv:2010.11929 and arXiv:1912.11370, and two smaller ones.
pub const RESNETS: &[ResNetVariant] = &[
    ResNetVariant { name: "R14", layers: &[1, 1, 1, 1], factors: &[1] },
    ResNetVariant { name: "R26", layers: &[2, 2, 2, 2], factors: &[1] },
    ResNetVariant { name: "R50", layers: &[3, 4, 6, 3], factors: &[1, 2, 3] },
    ResNetVariant { name: "R101", layers: &[3, 4, 23, 3], factors: &[1, 3] },
    ResNetVariant { name: "R152", layers: &[3, 8, 36, 3], factors: &[1, 2, 4] },
];

/// Finds BiT's ResNet by name: the paper's `R50x1`, with any factor (`R26x0.5`), with `-small` appended for a root for
/// small images, or timm's `resnetv2_50x1_bit`.
fn resnet(name: &str) -> Option<ModelConfig> {
    let plain =
        name.strip_prefix("resnetv2_").and_then(|name| name.strip_suffix("_bit")).map(|name| format!("R{name}"));
    let name = plain.as_deref().unwrap_or(name);
    let (name, root) = name.strip_suffix("-small").map_or((name, Root::Large), |name| (name, Root::Small));
    let (depth, factor) = name.split_once('x')?;
    let variant = RESNETS.iter().find(|variant| variant.name == depth)?;
    let width_factor = factor.parse().ok().filter(|factor| (0.125..=16.0).contains(factor))?;
    let resnet = ResNetV2 {
        layers: variant.layers.to_vec(),
        width_factor,
        root,
        padding: Border::Fixed,
        // Otherwise narrow ones would normalize single channels.
        groups: if width_factor < 1.0 { 8 } else { 32 },
        standardization_epsilon: 1e-8,
        norm_epsilon: 1e-5,
    };
    Some(resnet.classifier(1000))
}

/// Finds a model by name: the paper's `B/16` (any patch size), timm's `vit_base_patch16_224`, Hugging Face's
/// `google/vit-base-patch16-224`, DeiT's `deit_tiny_patch16_224` and `deit_tiny_distilled_patch16_224`, or SimpleViT's
/// `S/16-simple`. A size after the patch size is the image size. Or BiT's ResNet: `R50x1`, `R26x0.5-small`, timm's
/// `resnetv2_50x1_bit`.
pub fn find(name: &str) -> Option<ModelConfig> {
    if let Some(config) = resnet(name) {
        return Some(config);
    }
    let name = name.rsplit('/').next().filter(|last| last.contains("patch")).unwrap_or(name);
    if let Some((size, patch)) = name.split_once('/') {
        let (patch, simple) = patch.strip_suffix("-simple").map_or((patch, false), |patch| (patch, true));
        let variant = VARIANTS.iter().find(|variant| variant.name == size)?;
        let config = variant.config(patch.parse().ok().filter(|&patch| patch > 0)?);
        return Some(if simple { simple_vit(config) } else { config });
    }
    let name = name.to_lowercase().replace('-', "_");
    let name =
        name.strip_prefix("vit_").or_else(|| name.strip_prefix("deit_")).map(|rest| (rest, name.starts_with("deit")));
    let (name, deit) = name?;
    let (size, rest) = name.split_once('_')?;
    let variant = VARIANTS.iter().find(|variant| variant.long_name == size)?;
    let (distilled, rest) = rest.strip_prefix("distilled_").map_or((false, rest), |rest| (deit, rest));
    let (patch, image) = rest.strip_prefix("patch")?.split_once('_').unwrap_or((rest.strip_prefix("patch")?, "224"));
    let mut config = variant.config(patch.parse().ok().filter(|&patch| patch > 0)?);
    config.image_size = Size::square(image.split('_').next()?.parse().ok().filter(|&size| size > 0)?);
    config.distillation_token = distilled;
    config.distillation_head = distilled;
    Some(config)
}

/// SimpleViT (arXiv:2205.01580): mean pooling, fixed sine-cosine positions, no class token.
fn simple_vit(config: ModelConfig) -> ModelConfig {
    ModelConfig {
        class_token: false,
        positions: Positions::SinCos2d,
        pooling: Pooling::Mean,
        activation: Activation::GeluTanh,
        ..config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vit;

    fn count(name: &str) -> usize {
        let config = find(name).unwrap_or_else(|| panic!("no variant `{name}`"));
        Vit::new(config).expect("a known variant").declarations().count()
    }

    /// Published counts: timm's for the first six, the JAX code's sizes with 1000 classes.
    const COUNTS: [(&str, usize); 16] = [
        ("Ti/16", 5_717_416),
        ("S/16", 22_050_664),
        ("B/32", 88_224_232),
        ("B/16", 86_567_656),
        ("L/16", 304_326_632),
        ("H/14", 632_045_800),
        ("vit_base_patch8_224", 86_576_872),
        ("vit_base_patch16_384", 86_859_496),
        ("deit_base_distilled_patch16_224", 87_338_192),
        ("deit_tiny_distilled_patch16_224", 5_910_800),
        ("S/16-simple", 21_974_632),
        ("R50x1", 25_549_352),
        ("R50x3", 217_319_080),
        ("R101x1", 44_541_480),
        ("R152x2", 236_335_208),
        ("resnetv2_152x4_bit", 936_533_224),
    ];

    #[test]
    fn parameter_counts_match_the_published_ones() {
        for (name, expected) in COUNTS {
            assert_eq!(count(name), expected, "{name}");
        }
    }

    #[test]
    fn every_variant_builds() {
        for variant in VARIANTS {
            for &patch in variant.patches {
                let config = variant.config(patch);
                assert_eq!(variant.width % variant.heads, 0, "{}", variant.name);
                Vit::new(config).expect("a known variant");
            }
        }
    }

    #[test]
    fn every_resnet_builds() {
        for variant in RESNETS {
            for factor in variant.factors {
                for root in ["", "-small"] {
                    let config = find(&format!("{}x{factor}{root}", variant.name)).expect("known");
                    Vit::new(config).expect("a known variant");
                }
            }
        }
        for name in ["R26x0.25", "R14x0.125-small", "R50x1.5"] {
            Vit::new(find(name).expect("known")).expect("divides into groups");
        }
    }

    #[test]
    fn names_of_other_libraries_are_aliases() {
        assert_eq!(find("google/vit-base-patch16-224"), find("B/16"));
        assert_eq!(find("vit_tiny_patch16_224"), find("Ti/16"));
        assert_eq!(find("vit_base_patch16_384").map(|c| c.image_size), Some(Size::square(384)));
        assert_eq!(find("facebook/deit-small-patch16-224"), find("S/16"));
        for unknown in [
            "",
            "B",
            "B/0",
            "Z/16",
            "vit_base",
            "vit_base_patch0_224",
            "resnet50",
            "B/x",
            "R50",
            "R50x0",
            "R51x1",
            "Rx",
        ] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
    }
}
