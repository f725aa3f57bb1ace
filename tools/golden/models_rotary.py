"""Cases of timm's `Eva` with rotary positions: RoPE-ViT, EVA-02, Perception Encoder, and what else that class can be.

Images are not square, so that rows and columns cannot be taken for each other.
"""

from functools import partial

from models_timm import case

SMALL = dict(embed_dim=16, num_heads=2, img_size=[24, 32], container="bfloat16", size=(24, 32))
# The next size takes another grid than the model's own.
LARGER = dict(dynamic_img_size=True, size=(40, 24))


def cases():
    small = partial(case, **SMALL)
    other = lambda architecture, **more: case(architecture, **SMALL | LARGER | more)
    return dict(
        timm_rope_axial=small("vit_small_patch16_rope_224"),
        timm_rope_axial_other_size=other("vit_small_patch16_rope_224"),
        timm_rope_mixed=small("vit_small_patch16_rope_mixed_224", masked=True),
        timm_rope_mixed_ape=other("vit_small_patch16_rope_mixed_ape_224", rope_grid_indexing="ij"),
        timm_eva02=small("eva02_tiny_patch14_224", num_reg_tokens=2, global_pool="avgmax"),
        timm_eva02_scaled=other("eva02_base_patch14_448"),
        timm_eva02_clip=small("eva02_base_patch16_clip_224"),
        timm_eva02_post_norm=small("eva02_enormous_patch14_clip_224"),
        timm_pe_core=small("vit_pe_core_small_patch16_384"),
        timm_pe_core_no_class=small("vit_pe_core_gigantic_patch14_448", attn_pool_num_heads=4, attn_pool_mlp_ratio="default"),
        timm_pe_lang=small("vit_pe_lang_large_patch14_448"),
        timm_pe_spatial=other("vit_pe_spatial_small_patch16_512"),
        timm_dinov3_map=small(
            "vit_small_patch16_dinov3_qkvb", global_pool="map", use_pre_transformer_norm=True, qkv_fused=False
        ),
    )
