"""Prints the rows of `crates/vitral/src/weights/catalog.rs`: counts and preprocessing as timm and torchvision have them.

Accuracies are given here by hand: timm's from its `results/results-imagenet.csv`, torchvision's from its own weights, the rest
from what their publishers say; a model without a classifier, or without a figure that we could check, has none.

    python tools/golden/catalog.py
"""

import timm
import torch
from torchvision import models

TIMM = """
vit_tiny_patch16_224.augreg_in21k_ft_in1k Ti/16 -
vit_tiny_patch16_384.augreg_in21k_ft_in1k Ti/16 -
vit_small_patch16_224.augreg_in21k_ft_in1k S/16 81.384
vit_small_patch16_384.augreg_in21k_ft_in1k S/16 83.802
vit_small_patch32_224.augreg_in21k_ft_in1k S/32 -
vit_base_patch8_224.augreg2_in21k_ft_in1k B/8 86.218
vit_base_patch16_224.orig_in21k_ft_in1k B/16 81.786
vit_base_patch16_224.augreg_in21k_ft_in1k B/16 84.532
vit_base_patch16_224.augreg2_in21k_ft_in1k B/16 85.096
vit_base_patch16_384.augreg_in21k_ft_in1k B/16 85.996
vit_base_patch32_224.augreg_in21k_ft_in1k B/32 -
vit_base_patch32_384.augreg_in21k_ft_in1k B/32 83.350
vit_large_patch16_224.augreg_in21k_ft_in1k L/16 85.834
vit_large_patch16_384.augreg_in21k_ft_in1k L/16 87.084
vit_large_patch32_384.orig_in21k_ft_in1k L/32 81.510
vit_base_patch16_224.augreg_in21k B/16 -
vit_large_patch16_224.augreg_in21k L/16 -
vit_huge_patch14_224.orig_in21k H/14 -
vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k R+Ti/16 -
vit_small_r26_s32_224.augreg_in21k_ft_in1k R26+S/32 81.864
vit_small_r26_s32_384.augreg_in21k_ft_in1k R26+S/32 84.048
vit_base_r50_s16_384.orig_in21k_ft_in1k R50+B/16 84.976
vit_large_r50_s32_224.augreg_in21k_ft_in1k R50+L/32 84.422
vit_large_r50_s32_384.augreg_in21k_ft_in1k R50+L/32 86.182
deit_tiny_patch16_224.fb_in1k Ti/16 72.2
deit_small_patch16_224.fb_in1k S/16 79.9
deit_base_patch16_224.fb_in1k B/16 81.992
deit_base_patch16_384.fb_in1k B/16 83.106
deit_tiny_distilled_patch16_224.fb_in1k Ti/16 -
deit_small_distilled_patch16_224.fb_in1k S/16 81.218
deit_base_distilled_patch16_224.fb_in1k B/16 83.386
deit_base_distilled_patch16_384.fb_in1k B/16 85.426
deit3_small_patch16_224.fb_in22k_ft_in1k S/16 83.074
deit3_base_patch16_224.fb_in22k_ft_in1k B/16 85.700
deit3_large_patch16_224.fb_in22k_ft_in1k L/16 86.982
deit3_huge_patch14_224.fb_in22k_ft_in1k H/14 87.186
flexivit_small.1200ep_in1k S/16 82.520
flexivit_base.1200ep_in1k B/16 84.678
flexivit_large.1200ep_in1k L/16 85.646
vit_base_patch16_rpn_224.sw_in1k B/16 82.206
vit_base_patch32_clip_224.openai B/32 -
vit_base_patch16_clip_224.openai B/16 -
vit_large_patch14_clip_336.openai L/14 -
vit_base_patch16_clip_224.openai_ft_in1k B/16 85.292
vit_large_patch14_clip_336.openai_ft_in12k_in1k L/14 88.268
vit_huge_patch14_clip_336.laion2b_ft_in12k_in1k H/14 88.592
vit_small_patch16_224.dino S/16 -
vit_small_patch8_224.dino S/8 -
vit_base_patch16_224.dino B/16 -
vit_base_patch16_224.mae B/16 -
vit_large_patch16_224.mae L/16 -
vit_small_patch14_dinov2.lvd142m S/14 -
vit_base_patch14_dinov2.lvd142m B/14 -
vit_large_patch14_dinov2.lvd142m L/14 -
vit_giant_patch14_dinov2.lvd142m g/14 -
vit_small_patch14_reg4_dinov2.lvd142m S/14 -
vit_base_patch14_reg4_dinov2.lvd142m B/14 -
vit_base_patch16_siglip_224.webli B/16 -
vit_so400m_patch14_siglip_384.webli So400m/14 -
beit_base_patch16_224.in22k_ft_in22k_in1k B/16 85.212
beit_base_patch16_384.in22k_ft_in22k_in1k B/16 86.800
beit_base_patch16_224.in22k_ft_in22k B/16 -
beit_large_patch16_224.in22k_ft_in22k_in1k L/16 87.478
beit_large_patch16_384.in22k_ft_in22k_in1k L/16 88.402
beit_large_patch16_512.in22k_ft_in22k_in1k L/16 88.596
beit_large_patch16_224.in22k_ft_in22k L/16 -
beitv2_base_patch16_224.in1k_ft_in22k_in1k B/16 86.474
beitv2_base_patch16_224.in1k_ft_in1k B/16 85.594
beitv2_base_patch16_224.in1k_ft_in22k B/16 -
beitv2_large_patch16_224.in1k_ft_in22k_in1k L/16 88.394
beitv2_large_patch16_224.in1k_ft_in1k L/16 87.412
beitv2_large_patch16_224.in1k_ft_in22k L/16 -
eva_giant_patch14_224.clip_ft_in1k g/14 88.880
eva_giant_patch14_336.clip_ft_in1k g/14 89.466
eva_giant_patch14_336.m30m_ft_in22k_in1k g/14 89.566
eva_giant_patch14_560.m30m_ft_in22k_in1k g/14 89.786
vit_small_patch16_dinov3.lvd1689m S/16 -
vit_small_plus_patch16_dinov3.lvd1689m S+/16 -
vit_base_patch16_dinov3.lvd1689m B/16 -
vit_large_patch16_dinov3.lvd1689m L/16 -
vit_large_patch16_dinov3.sat493m L/16 -
vit_huge_plus_patch16_dinov3.lvd1689m H+/16 -
vit_7b_patch16_dinov3.lvd1689m 7B/16 -
resnetv2_50x1_bit.goog_in21k_ft_in1k R50x1 -
resnetv2_101x1_bit.goog_in21k_ft_in1k R101x1 -
resnetv2_152x2_bit.goog_in21k_ft_in1k R152x2 -
resnetv2_50x1_bit.goog_in21k R50x1 -
resnetv2_101x1_bit.goog_in21k R101x1 -
resnetv2_152x2_bit.goog_in21k R152x2 -
"""
TORCHVISION = [("vit_b_16", "B/16"), ("vit_b_32", "B/32"), ("vit_l_16", "L/16"), ("vit_l_32", "L/32"), ("vit_h_14", "H/14")]


def short(values):
    known = {0.5: "mean one half", 0.485: "ImageNet mean", 0.48145466: "CLIP mean"}
    if values[0] in known:
        return known[values[0]]
    values = [f"{value:g}".replace("0.", ".", 1) for value in values]
    return values[0] if len(set(values)) == 1 else " ".join(values)


def row(origin, name, size, image, count, license, top1, images):
    count = f"{count:_}"
    top1 = "None" if top1 == "-" else f"Some({float(top1)})"
    print(f'    row({origin}, "{name}", "{size}", {image}, {count}, "{license}", {top1}, "{pictures}"),')


def main():
    for line in TIMM.strip().splitlines():
        name, size, top1 = line.split()
        model = timm.create_model(name, device="meta")
        given = model.pretrained_cfg
        crop = f"{given['crop_mode']} {given['crop_pct']:g} {given['interpolation']}"
        count = sum(parameter.numel() for parameter in model.parameters())
        images = f"{crop}, {short(given['mean'])}"
        row("Timm", f"timm/{name}", size, given["input_size"][1], count, given.get("license") or "unstated", top1, images)
    for name, size in TORCHVISION:
        for weights in models.get_model_weights(name):
            with torch.device("meta"):
                image = weights.meta["min_size"][0]
                model = getattr(models, name)(image_size=image)
            count = sum(parameter.numel() for parameter in model.parameters())
            top1 = weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
            interpolation = str(weights.transforms().interpolation.value)
            row("Torchvision", f"{name}.{weights.name}", size, image, count, "bsd-3-clause" if "SWAG" not in weights.name else "cc-by-nc-4.0", top1, f"center {interpolation}, ImageNet mean")


if __name__ == "__main__":
    main()
