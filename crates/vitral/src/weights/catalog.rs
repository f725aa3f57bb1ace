//! Well-known published models: one row each, for `vitral models`. Nothing here is used when a model is loaded: its own
//! files decide.

use serde::Serialize;

/// Where a published model can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A timm folder on the hub, pulled as `timm/…`.
    Timm,
    /// A transformers folder on the hub, pulled as `hf:…`.
    HuggingFace,
    /// Weights of torchvision, which are downloaded from its own site.
    Torchvision,
}

/// A published model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Where it can be found.
    pub origin: Origin,
    /// Its name there.
    pub name: &'static str,
    /// Its size, as named in the papers.
    pub size: &'static str,
    /// Height and width of its input images.
    pub image: usize,
    /// Number of parameters, including the classifier if it has one.
    pub parameters: usize,
    /// The weights' license.
    pub license: &'static str,
    /// Top-1 accuracy on the ImageNet validation set, in percent, as published.
    pub top1: Option<f32>,
    /// Its preprocessing, in brief.
    pub images: &'static str,
}

#[expect(clippy::too_many_arguments)]
const fn row(
    origin: Origin,
    name: &'static str,
    size: &'static str,
    image: usize,
    parameters: usize,
    license: &'static str,
    top1: Option<f32>,
    images: &'static str,
) -> Published {
    Published { origin, name, size, image, parameters, license, top1, images }
}

use Origin::{HuggingFace, Timm, Torchvision};

/// All models. The rows are printed by `tools/golden/catalog.py`.
#[rustfmt::skip]
pub const CATALOG: &[Published] = &[
    row(HuggingFace, "google/vit-base-patch16-224", "B/16", 224, 86_567_656, "apache-2.0", None, "squash bilinear, mean one half"),
    row(HuggingFace, "google/vit-base-patch16-224-in21k", "B/16", 224, 86_389_248, "apache-2.0", None, "squash bilinear, mean one half"),
    row(HuggingFace, "google/vit-large-patch16-224", "L/16", 224, 304_326_632, "apache-2.0", None, "squash bilinear, mean one half"),
    row(HuggingFace, "facebook/deit-base-distilled-patch16-224", "B/16", 224, 87_338_192, "apache-2.0", Some(83.4), "squash 256 crop 224 bicubic, ImageNet mean"),
    row(HuggingFace, "facebook/dinov2-small", "S/14", 518, 22_056_192, "apache-2.0", None, "short 256 crop 224 bicubic, ImageNet mean"),
    row(HuggingFace, "facebook/dinov2-base", "B/14", 518, 86_579_712, "apache-2.0", None, "short 256 crop 224 bicubic, ImageNet mean"),
    row(HuggingFace, "facebook/dinov2-large", "L/14", 518, 304_367_616, "apache-2.0", None, "short 256 crop 224 bicubic, ImageNet mean"),
    row(HuggingFace, "microsoft/beit-base-patch16-224", "B/16", 224, 86_530_984, "apache-2.0", None, "squash, mean one half"),
    row(HuggingFace, "microsoft/beit-base-patch16-224-pt22k-ft22k", "B/16", 224, 102_557_713, "apache-2.0", None, "squash, mean one half"),
    row(HuggingFace, "microsoft/beit-large-patch16-224", "L/16", 224, 304_430_568, "apache-2.0", None, "squash, mean one half"),
    row(Timm, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "Ti/16", 224, 5_717_416, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_tiny_patch16_384.augreg_in21k_ft_in1k", "Ti/16", 384, 5_790_376, "apache-2.0", None, "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", "S/16", 224, 22_050_664, "apache-2.0", Some(81.384), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_small_patch16_384.augreg_in21k_ft_in1k", "S/16", 384, 22_196_584, "apache-2.0", Some(83.802), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_small_patch32_224.augreg_in21k_ft_in1k", "S/32", 224, 22_878_952, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch8_224.augreg2_in21k_ft_in1k", "B/8", 224, 86_576_872, "apache-2.0", Some(86.218), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_224.orig_in21k_ft_in1k", "B/16", 224, 86_567_656, "apache-2.0", Some(81.786), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_224.augreg_in21k_ft_in1k", "B/16", 224, 86_567_656, "apache-2.0", Some(84.532), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", "B/16", 224, 86_567_656, "apache-2.0", Some(85.096), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_384.augreg_in21k_ft_in1k", "B/16", 384, 86_859_496, "apache-2.0", Some(85.996), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch32_224.augreg_in21k_ft_in1k", "B/32", 224, 88_224_232, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch32_384.augreg_in21k_ft_in1k", "B/32", 384, 88_297_192, "apache-2.0", Some(83.35), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_large_patch16_224.augreg_in21k_ft_in1k", "L/16", 224, 304_326_632, "apache-2.0", Some(85.834), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_large_patch16_384.augreg_in21k_ft_in1k", "L/16", 384, 304_715_752, "apache-2.0", Some(87.084), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_large_patch32_384.orig_in21k_ft_in1k", "L/32", 384, 306_632_680, "apache-2.0", Some(81.51), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_224.augreg_in21k", "B/16", 224, 102_595_923, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_large_patch16_224.augreg_in21k", "L/16", 224, 325_690_707, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_huge_patch14_224.orig_in21k", "H/14", 224, 630_764_800, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k", "R+Ti/16", 224, 6_337_704, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_small_r26_s32_224.augreg_in21k_ft_in1k", "R26+S/32", 224, 36_431_912, "apache-2.0", Some(81.864), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_small_r26_s32_384.augreg_in21k_ft_in1k", "R26+S/32", 384, 36_468_392, "apache-2.0", Some(84.048), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_base_r50_s16_384.orig_in21k_ft_in1k", "R50+B/16", 384, 98_950_952, "apache-2.0", Some(84.976), "center 1 bicubic, mean one half"),
    row(Timm, "timm/vit_large_r50_s32_224.augreg_in21k_ft_in1k", "R50+L/32", 224, 328_994_856, "apache-2.0", Some(84.422), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_large_r50_s32_384.augreg_in21k_ft_in1k", "R50+L/32", 384, 329_092_136, "apache-2.0", Some(86.182), "center 1 bicubic, mean one half"),
    row(Timm, "timm/deit_tiny_patch16_224.fb_in1k", "Ti/16", 224, 5_717_416, "apache-2.0", Some(72.2), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_small_patch16_224.fb_in1k", "S/16", 224, 22_050_664, "apache-2.0", Some(79.9), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_base_patch16_224.fb_in1k", "B/16", 224, 86_567_656, "apache-2.0", Some(81.992), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_base_patch16_384.fb_in1k", "B/16", 384, 86_859_496, "apache-2.0", Some(83.106), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_tiny_distilled_patch16_224.fb_in1k", "Ti/16", 224, 5_910_800, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_small_distilled_patch16_224.fb_in1k", "S/16", 224, 22_436_432, "apache-2.0", Some(81.218), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_base_distilled_patch16_224.fb_in1k", "B/16", 224, 87_338_192, "apache-2.0", Some(83.386), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/deit_base_distilled_patch16_384.fb_in1k", "B/16", 384, 87_630_032, "apache-2.0", Some(85.426), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/deit3_small_patch16_224.fb_in22k_ft_in1k", "S/16", 224, 22_059_496, "apache-2.0", Some(83.074), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/deit3_base_patch16_224.fb_in22k_ft_in1k", "B/16", 224, 86_585_320, "apache-2.0", Some(85.7), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/deit3_large_patch16_224.fb_in22k_ft_in1k", "L/16", 224, 304_374_760, "apache-2.0", Some(86.982), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/deit3_huge_patch14_224.fb_in22k_ft_in1k", "H/14", 224, 632_126_440, "apache-2.0", Some(87.186), "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/flexivit_small.1200ep_in1k", "S/16", 240, 22_061_416, "apache-2.0", Some(82.52), "center 0.95 bicubic, mean one half"),
    row(Timm, "timm/flexivit_base.1200ep_in1k", "B/16", 240, 86_589_160, "apache-2.0", Some(84.678), "center 0.95 bicubic, mean one half"),
    row(Timm, "timm/flexivit_large.1200ep_in1k", "L/16", 240, 304_355_304, "apache-2.0", Some(85.646), "center 0.95 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch16_rpn_224.sw_in1k", "B/16", 224, 86_538_472, "apache-2.0", Some(82.206), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_base_patch32_clip_224.openai", "B/32", 224, 87_849_728, "apache-2.0", None, "center 0.9 bicubic, CLIP mean"),
    row(Timm, "timm/vit_base_patch16_clip_224.openai", "B/16", 224, 86_193_152, "apache-2.0", None, "center 0.9 bicubic, CLIP mean"),
    row(Timm, "timm/vit_large_patch14_clip_336.openai", "L/14", 336, 304_294_656, "apache-2.0", None, "center 1 bicubic, CLIP mean"),
    row(Timm, "timm/vit_base_patch16_clip_224.openai_ft_in1k", "B/16", 224, 86_568_424, "apache-2.0", Some(85.292), "center 0.9 bicubic, CLIP mean"),
    row(Timm, "timm/vit_large_patch14_clip_336.openai_ft_in12k_in1k", "L/14", 336, 304_532_456, "apache-2.0", Some(88.268), "squash 1 bicubic, CLIP mean"),
    row(Timm, "timm/vit_huge_patch14_clip_336.laion2b_ft_in12k_in1k", "H/14", 336, 632_456_680, "apache-2.0", Some(88.592), "squash 1 bicubic, CLIP mean"),
    row(Timm, "timm/vit_small_patch16_224.dino", "S/16", 224, 21_665_664, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_small_patch8_224.dino", "S/8", 224, 21_670_272, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch16_224.dino", "B/16", 224, 85_798_656, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch16_224.mae", "B/16", 224, 85_798_656, "cc-by-nc-4.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_large_patch16_224.mae", "L/16", 224, 303_301_632, "cc-by-nc-4.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_small_patch14_dinov2.lvd142m", "S/14", 518, 22_056_192, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch14_dinov2.lvd142m", "B/14", 518, 86_579_712, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_large_patch14_dinov2.lvd142m", "L/14", 518, 304_367_616, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_giant_patch14_dinov2.lvd142m", "g/14", 518, 1_136_479_232, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_small_patch14_reg4_dinov2.lvd142m", "S/14", 518, 22_057_344, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch14_reg4_dinov2.lvd142m", "B/14", 518, 86_582_016, "apache-2.0", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch16_siglip_224.webli", "B/16", 224, 92_884_224, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/vit_so400m_patch14_siglip_384.webli", "So400m/14", 384, 428_225_600, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/beit_base_patch16_224.in22k_ft_in22k_in1k", "B/16", 224, 86_530_984, "apache-2.0", Some(85.212), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/beit_base_patch16_384.in22k_ft_in22k_in1k", "B/16", 384, 86_744_104, "apache-2.0", Some(86.8), "center 1 bicubic, mean one half"),
    row(Timm, "timm/beit_base_patch16_224.in22k_ft_in22k", "B/16", 224, 102_557_713, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/beit_large_patch16_224.in22k_ft_in22k_in1k", "L/16", 224, 304_430_568, "apache-2.0", Some(87.478), "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/beit_large_patch16_384.in22k_ft_in22k_in1k", "L/16", 384, 304_998_888, "apache-2.0", Some(88.402), "center 1 bicubic, mean one half"),
    row(Timm, "timm/beit_large_patch16_512.in22k_ft_in22k_in1k", "L/16", 512, 305_674_728, "apache-2.0", Some(88.596), "center 1 bicubic, mean one half"),
    row(Timm, "timm/beit_large_patch16_224.in22k_ft_in22k", "L/16", 224, 325_792_593, "apache-2.0", None, "center 0.9 bicubic, mean one half"),
    row(Timm, "timm/beitv2_base_patch16_224.in1k_ft_in22k_in1k", "B/16", 224, 86_530_984, "apache-2.0", Some(86.474), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/beitv2_base_patch16_224.in1k_ft_in1k", "B/16", 224, 86_530_984, "apache-2.0", Some(85.594), "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/beitv2_base_patch16_224.in1k_ft_in22k", "B/16", 224, 102_557_713, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/beitv2_large_patch16_224.in1k_ft_in22k_in1k", "L/16", 224, 304_430_568, "apache-2.0", Some(88.394), "center 0.95 bicubic, ImageNet mean"),
    row(Timm, "timm/beitv2_large_patch16_224.in1k_ft_in1k", "L/16", 224, 304_430_568, "apache-2.0", Some(87.412), "center 0.95 bicubic, ImageNet mean"),
    row(Timm, "timm/beitv2_large_patch16_224.in1k_ft_in22k", "L/16", 224, 325_792_593, "apache-2.0", None, "center 0.9 bicubic, ImageNet mean"),
    row(Timm, "timm/eva_giant_patch14_224.clip_ft_in1k", "g/14", 224, 1_012_555_112, "mit", Some(88.88), "center 0.9 bicubic, CLIP mean"),
    row(Timm, "timm/eva_giant_patch14_336.clip_ft_in1k", "g/14", 336, 1_013_005_672, "mit", Some(89.466), "squash 1 bicubic, CLIP mean"),
    row(Timm, "timm/eva_giant_patch14_336.m30m_ft_in22k_in1k", "g/14", 336, 1_013_005_672, "mit", Some(89.566), "squash 1 bicubic, ImageNet mean"),
    row(Timm, "timm/eva_giant_patch14_560.m30m_ft_in22k_in1k", "g/14", 560, 1_014_447_464, "mit", Some(89.786), "squash 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_small_patch16_dinov3.lvd1689m", "S/16", 256, 21_586_944, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_small_plus_patch16_dinov3.lvd1689m", "S+/16", 256, 28_683_264, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_base_patch16_dinov3.lvd1689m", "B/16", 256, 85_641_216, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_large_patch16_dinov3.lvd1689m", "L/16", 256, 303_079_424, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_large_patch16_dinov3.sat493m", "L/16", 256, 303_079_424, "dinov3-license", None, "center 1 bicubic, .43 .411 .296"),
    row(Timm, "timm/vit_huge_plus_patch16_dinov3.lvd1689m", "H+/16", 256, 840_509_440, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/vit_7b_patch16_dinov3.lvd1689m", "7B/16", 256, 6_716_030_976, "dinov3-license", None, "center 1 bicubic, ImageNet mean"),
    row(Timm, "timm/resnetv2_50x1_bit.goog_in21k_ft_in1k", "R50x1", 448, 25_549_352, "apache-2.0", None, "center 1 bilinear, mean one half"),
    row(Timm, "timm/resnetv2_101x1_bit.goog_in21k_ft_in1k", "R101x1", 448, 44_541_480, "apache-2.0", None, "center 1 bilinear, mean one half"),
    row(Timm, "timm/resnetv2_152x2_bit.goog_in21k_ft_in1k", "R152x2", 448, 236_335_208, "apache-2.0", None, "center 1 bilinear, mean one half"),
    row(Timm, "timm/resnetv2_50x1_bit.goog_in21k", "R50x1", 224, 68_256_659, "apache-2.0", None, "center 0.875 bilinear, mean one half"),
    row(Timm, "timm/resnetv2_101x1_bit.goog_in21k", "R101x1", 224, 87_248_787, "apache-2.0", None, "center 0.875 bilinear, mean one half"),
    row(Timm, "timm/resnetv2_152x2_bit.goog_in21k", "R152x2", 224, 321_728_979, "apache-2.0", None, "center 0.875 bilinear, mean one half"),
    row(Torchvision, "vit_b_16.IMAGENET1K_V1", "B/16", 224, 86_567_656, "bsd-3-clause", Some(81.072), "center bilinear, ImageNet mean"),
    row(Torchvision, "vit_b_16.IMAGENET1K_SWAG_E2E_V1", "B/16", 384, 86_859_496, "cc-by-nc-4.0", Some(85.304), "center bicubic, ImageNet mean"),
    row(Torchvision, "vit_b_16.IMAGENET1K_SWAG_LINEAR_V1", "B/16", 224, 86_567_656, "cc-by-nc-4.0", Some(81.886), "center bicubic, ImageNet mean"),
    row(Torchvision, "vit_b_32.IMAGENET1K_V1", "B/32", 224, 88_224_232, "bsd-3-clause", Some(75.912), "center bilinear, ImageNet mean"),
    row(Torchvision, "vit_l_16.IMAGENET1K_V1", "L/16", 224, 304_326_632, "bsd-3-clause", Some(79.662), "center bilinear, ImageNet mean"),
    row(Torchvision, "vit_l_16.IMAGENET1K_SWAG_E2E_V1", "L/16", 512, 305_174_504, "cc-by-nc-4.0", Some(88.064), "center bicubic, ImageNet mean"),
    row(Torchvision, "vit_l_16.IMAGENET1K_SWAG_LINEAR_V1", "L/16", 224, 304_326_632, "cc-by-nc-4.0", Some(85.146), "center bicubic, ImageNet mean"),
    row(Torchvision, "vit_l_32.IMAGENET1K_V1", "L/32", 224, 306_535_400, "bsd-3-clause", Some(76.972), "center bilinear, ImageNet mean"),
    row(Torchvision, "vit_h_14.IMAGENET1K_SWAG_E2E_V1", "H/14", 518, 633_470_440, "cc-by-nc-4.0", Some(88.552), "center bicubic, ImageNet mean"),
    row(Torchvision, "vit_h_14.IMAGENET1K_SWAG_LINEAR_V1", "H/14", 224, 632_045_800, "cc-by-nc-4.0", Some(85.708), "center bicubic, ImageNet mean"),
];

/// The row with this name, with or without `hf:`.
pub fn find(name: &str) -> Option<&'static Published> {
    let name = name.strip_prefix("hf:").unwrap_or(name);
    CATALOG.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Vit;
    use crate::weights::description::timm_config;

    #[test]
    fn counts_match_timm_exactly() {
        for row in CATALOG.iter().filter(|row| row.origin == Timm) {
            let architecture = row.name.strip_prefix("timm/").expect("a name of timm's");
            // The table does not say how many classes the published file has.
            let counts = [1000, 0, 21_843, 21_841, 512, 768, 1024].map(|classes| {
                let folder = json!({
                    "architecture": architecture,
                    "num_classes": classes,
                    "pretrained_cfg": { "input_size": [3, row.image, row.image], "fixed_input_size": true },
                });
                let config = timm_config(&folder).unwrap_or_else(|error| panic!("{}: {error}", row.name));
                assert_eq!(config.image_size.height, row.image, "{}", row.name);
                Vit::new(config).expect("a published model").declarations().count()
            });
            assert!(counts.contains(&row.parameters), "{}: {} in timm, {counts:?} here", row.name, row.parameters);
        }
    }

    #[test]
    fn sizes_match_the_papers() {
        let of = |name: &str| find(name).map(|row| row.parameters);
        assert_eq!(of("timm/vit_base_r50_s16_384.orig_in21k_ft_in1k"), Some(98_950_952));
        assert_eq!(of("hf:facebook/deit-base-distilled-patch16-224"), Some(87_338_192));
        // R50+B/16 at 224 pixels without a classifier: 97.89 million.
        let config = timm_config(&json!({ "architecture": "vit_base_r50_s16_224", "num_classes": 0 })).expect("known");
        assert_eq!(Vit::new(config).expect("a published model").declarations().count(), 97_890_112);
        assert_eq!(of("no-such-model"), None);
        let names: std::collections::HashSet<_> = CATALOG.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), CATALOG.len());
    }
}
