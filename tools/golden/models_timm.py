"""Cases in timm's layout, saved by `timm.models.save_for_hf`, with the architecture's defaults overridden."""

import json
import types
from functools import partial

import timm
import timm.models
import torch
from safetensors.torch import load_file, save_file
from timm.layers import AttentionRope, GroupNormAct, HybridEmbed, StdConv2dSame
from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import Attention, ParallelScalingBlock, VisionTransformer

from common import MODELS, Capture, additive, patch_mask, pixels, randomize, seeded, write

TINY = dict(embed_dim=24, depth=2, num_heads=3, img_size=32, patch_size=8, num_classes=5, mlp_ratio=2)


def attention_modules(block):
    """The modules that hold an `attn_drop`, in order: one a block, two in a block of pairs."""
    kinds = (Attention, AttentionRope, ParallelScalingBlock, BeitAttention, EvaAttention)
    return [module for module in block.modules() if isinstance(module, kinds)]


def use_plain_attention(model):
    """Makes timm compute attention step by step, so that the weights pass through `attn_drop`."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False


def run(name, model, folder, size, masked, classes):
    generator = seeded(name + " input")
    use_plain_attention(model)
    inputs = dict(pixel_values=pixels(generator, 2, model.in_chans, *size))
    capture = Capture(model.blocks)
    pairs = any(len(attention_modules(block)) > 1 for block in model.blocks)
    for block in model.blocks:
        if not pairs:
            capture.attention(attention_modules(block)[0].attn_drop)
    extra = {}
    if masked:
        grid = model.patch_embed.grid_size
        inputs["mask"] = patch_mask(generator, 2, *grid)
        extra = dict(attn_mask=additive(inputs["mask"], model.num_prefix_tokens))
        tokens = model.num_prefix_tokens + grid[0] * grid[1]
        extra["attn_mask"] = extra["attn_mask"].expand(-1, 1, tokens, tokens)
    with torch.no_grad():
        tokens = model.forward_features(inputs["pixel_values"], **extra)
        expected = dict(features=model.forward_head(tokens, pre_logits=True))
        if classes:
            expected = dict(logits=model.forward_head(tokens)) | expected
    write(folder, inputs, expected | capture.states())


def case(architecture="vit_tiny_patch16_224", size=(32, 32), masked=False, container=None, **arguments):
    def make(name):
        merged = TINY | arguments
        merged = {key: value for key, value in merged.items() if value != "default"}
        torch.manual_seed(0)
        model = timm.create_model(architecture, **merged).eval()
        randomize(model, seeded(name))
        folder = MODELS / name
        timm.models.save_for_hf(model, folder, model_args=merged, safe_serialization=True)
        if container:
            path = folder / "model.safetensors"
            halves = {key: value.to(getattr(torch, container)) for key, value in load_file(path).items()}
            save_file(halves, path)
            model.load_state_dict({key: value.float() for key, value in halves.items()})
        run(name, model, folder, size, masked, merged["num_classes"])

    return make


def resnet_stem(**arguments):
    """timm's published hybrids are too large for a golden; this is the same stem with one block in two stages."""
    backbone = ResNetV2(
        layers=(1, 1),
        channels=(256, 512),
        num_classes=0,
        global_pool="",
        preact=False,
        stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
    )
    return VisionTransformer(embed_layer=partial(HybridEmbed, backbone=backbone), **arguments).eval()


def hybrid_with_stages(name):
    model = resnet_stem(**TINY | dict(patch_size=1))
    randomize(model, seeded(name))
    # Eight values a sign: git packs this to a fraction.
    with torch.no_grad():
        for parameter in model.patch_embed.backbone.parameters():
            if parameter.ndim == 4:
                spread = parameter.std()
                parameter.copy_((parameter / spread * 4).round().clamp(-8, 8) / 64)
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half() for key, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    model.load_state_dict({key: value.float() for key, value in weights.items()})
    stem = dict(
        layers=[1, 1], width_factor=1, same_padding=True, groups=32, standardization_epsilon=1e-8, norm_epsilon=1e-5
    )
    config = dict(
        image_size=32, patch_size=1, classes=5, width=24, depth=2, heads=3, head_width=8, mlp_width=48, stem=dict(hybrid=stem)
    )
    (folder / "vitral-config.json").write_text(json.dumps(dict(dialect="timm", model=config), indent=2) + "\n")
    run(name, model, folder, (32, 32), False, 5)


def hybrid_on_resnet_d(name):
    """The stem of `vit_small_resnet26d_224`, narrower and with fewer stages."""
    arguments = dict(layers=(1, 2, 1, 1), channels=(8, 16, 32, 64), stem_width=8)
    backbone = timm.create_model("resnet26d", features_only=True, out_indices=[2], **arguments)
    tiny = TINY | dict(patch_size=1, img_size=[24, 32])
    model = VisionTransformer(embed_layer=partial(HybridEmbed, backbone=backbone), **tiny).eval()
    randomize(model, seeded(name))
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.to(torch.bfloat16) if value.is_floating_point() else value for key, value in model.state_dict().items()}, folder / "model.safetensors")
    stem = dict(layers=[1, 2], root_width=8, stage_width=8, norm_epsilon=1e-5)
    config = dict(
        image_size=[24, 32], patch_size=1, classes=5, width=24, depth=2, heads=3, head_width=8, mlp_width=48
    ) | {"stem": {"resnet-d": stem}}
    (folder / "vitral-config.json").write_text(json.dumps(dict(dialect="timm", model=config), indent=2) + "\n")
    run(name, model, folder, (24, 32), False, 5)


def cases():
    rectangular = dict(img_size=[24, 40], patch_size=[8, 10], size=(24, 40))
    return dict(
        timm_plain=case(),
        timm_no_head=case(num_classes=0),
        timm_avg=case(global_pool="avg"),
        timm_avg_fc_norm_off=case(global_pool="avg", fc_norm=False),
        timm_token_fc_norm_on=case(fc_norm=True),
        timm_avg_with_prefix=case(global_pool="avg", pool_include_prefix=True),
        timm_avgmax=case(global_pool="avgmax"),
        timm_max=case(global_pool="max"),
        timm_map=case(global_pool="map"),
        timm_map_no_class_token=case("vit_base_patch16_siglip_224", num_classes=5),
        timm_map_with_prefix=case(global_pool="map", pool_include_prefix=True),
        timm_max_with_prefix=case(global_pool="max", pool_include_prefix=True, reg_tokens=2),
        timm_no_pool=case(global_pool=""),
        timm_no_class_token=case(global_pool="avg", class_token=False),
        timm_no_positions=case(pos_embed="none"),
        timm_no_embed_class=case(no_embed_class=True),
        timm_registers=case(reg_tokens=3),
        timm_registers_no_embed_class=case(reg_tokens=3, no_embed_class=True),
        timm_registers_gap=case("vit_medium_patch16_reg4_gap_256"),
        timm_clip=case("vit_base_patch32_clip_224"),
        timm_clip_quickgelu=case("vit_base_patch16_clip_quickgelu_224"),
        timm_layer_scale=case(init_values=0.1),
        timm_no_final_norm=case("vit_intern300m_patch14_448", dynamic_img_size=False),
        timm_qk_norm=case(qk_norm=True),
        timm_no_qkv_bias=case(qkv_bias=False),
        timm_no_proj_bias=case(proj_bias=False),
        timm_scale_norms=case(scale_attn_norm=True, scale_mlp_norm=True),
        timm_gelu_tanh=case(act_layer="gelu_tanh"),
        timm_rms_norm=case(norm_layer="rmsnorm"),
        timm_swiglu_packed=case("vit_giant_patch14_dinov2", mlp_ratio=4, num_classes=5),
        timm_dinov2_registers=case("vit_small_patch14_reg4_dinov2", num_classes=0, mlp_ratio="default"),
        timm_swiglu_split=case("aimv2_large_patch14_224"),
        timm_residual_post_norm=case("vit_base_patch16_rpn_224"),
        timm_parallel_scaling=case("vit_pwee_patch16_reg1_gap_256"),
        timm_parallel_scaling_no_bias=case("vit_pwee_patch16_reg1_gap_256", qkv_bias=False, qk_norm=True),
        timm_parallel_scaling_rms=case("vit_base_patch16_xp_224"),
        timm_parallel_pairs=case("vit_small_patch16_18x2_224"),
        timm_parallel_pairs_norms=case(
            "vit_small_patch16_18x2_224", qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True
        ),
        timm_deit_distilled=case("deit_tiny_distilled_patch16_224"),
        timm_deit_distilled_no_head=case("deit_tiny_distilled_patch16_224", num_classes=0),
        timm_deit3=case("deit3_small_patch16_224"),
        timm_dynamic_size=case(dynamic_img_size=True, size=(48, 24)),
        timm_dynamic_size_no_embed_class=case(dynamic_img_size=True, no_embed_class=True, reg_tokens=2, size=(24, 48)),
        timm_dynamic_pad=case(dynamic_img_size=True, dynamic_img_pad=True, size=(37, 29)),
        timm_one_channel=case(in_chans=1),
        timm_rectangular=case(**rectangular),
        timm_masked=case(masked=True),
        timm_masked_registers=case(masked=True, reg_tokens=2, qk_norm=True, global_pool="avg"),
        timm_masked_parallel_pairs=case("vit_small_patch16_18x2_224", masked=True),
        timm_beit=case("beit_base_patch16_224"),
        timm_beit_shared=case(
            "beitv2_base_patch16_224",
            use_abs_pos_emb=True,
            use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True,
            global_pool="token",
        ),
        timm_beit_both=case("beit_base_patch16_224", use_shared_rel_pos_bias=True, qkv_bias=False, init_values=0),
        timm_beit_rectangular=case("beit_large_patch16_224", **rectangular),
        timm_beit_swiglu=case("beit_base_patch16_224", swiglu_mlp=True, scale_mlp=True, use_fc_norm=False, in_chans=1),
        timm_beit_no_pool=case("beit_base_patch16_224", global_pool="", num_classes=0),
        timm_eva=case("eva_giant_patch14_224"),
        timm_eva_no_embed_class=case(
            "eva_giant_patch14_224", no_embed_class=True, num_reg_tokens=2, scale_attn_inner=True, global_pool="token"
        ),
        timm_dinov3=case("vit_small_patch16_dinov3"),
        timm_dinov3_qkvb=case("vit_base_patch16_dinov3_qkvb", global_pool="token", num_classes=0),
        timm_dinov3_swiglu=case("vit_small_plus_patch16_dinov3", mlp_ratio=1.8, rope_temperature=37.0),
        timm_dinov3_swiglu_packed=case("vit_huge_plus_patch16_dinov3", swiglu_align_to=0),
        timm_dinov3_other_size=case("vit_small_patch16_dinov3_qkvb", size=(48, 24)),
        timm_dinov3_masked=case("vit_small_patch16_dinov3", masked=True),
        timm_hybrid_stem=case("vit_tiny_r_s16_p8_224", patch_size=2, container="float16"),
        timm_hybrid_stages=hybrid_with_stages,
        timm_hybrid_resnet_d=hybrid_on_resnet_d,
    )
