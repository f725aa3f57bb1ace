"""Checkpoints as Meta's DeiT, DINO, DINOv2 and MAE, OpenAI's CLIP and OpenCLIP save them, from a timm model's weights.

timm's own converter of such files reads each of them into a second model, strictly, which gives the expected numbers.
"""

import json

import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from common import MODELS, randomize, rounded, seeded
from models_timm import TINY, run

CLIP = [
    ("patch_embed.proj", "conv1"),
    ("norm_pre", "ln_pre"),
    ("blocks.", "transformer.resblocks."),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("ls1", "ls_1"),
    ("ls2", "ls_2"),
]


def clip(state):
    """The visual tower under OpenAI's names, beside a piece of a text tower of the same names."""
    out = {"logit_scale": torch.ones([]), "positional_embedding": torch.ones(7, 4), "text_projection": torch.ones(4, 5)}
    out |= {"token_embedding.weight": torch.ones(9, 4), "ln_final.weight": torch.ones(4)}
    out["transformer.resblocks.0.ln_1.weight"] = torch.ones(4)
    for key, value in state.items():
        if key == "head.bias":
            continue
        for ours, theirs in CLIP:
            key = key.replace(ours, theirs)
        if key.startswith("norm."):
            key = key.replace("norm.", "ln_post.")
        key = {"cls_token": "class_embedding", "pos_embed": "positional_embedding", "head.weight": "proj"}.get(key, key)
        value = value.T if key == "proj" else value
        value = value[0] if key == "positional_embedding" else value.flatten() if key == "class_embedding" else value
        out[f"visual.{key}"] = value.contiguous()
    return out


def dino(state):
    head = {"head.mlp.0.weight": torch.ones(4, 24), "head.mlp.0.bias": torch.ones(4), "head.last_layer.weight_g": torch.ones(4, 1)}
    teacher = {f"backbone.{key}": value for key, value in state.items()} | head
    student = {f"module.{key}": value + 1 for key, value in teacher.items()}
    return dict(student=student, teacher=teacher, epoch=3)


def mae(state):
    decoder = dict(mask_token=torch.ones(1, 1, 4), decoder_pos_embed=torch.ones(1, 17, 4))
    decoder |= {"decoder_embed.weight": torch.ones(4, 24), "decoder_norm.weight": torch.ones(4)}
    return dict(model=dict(state) | decoder, epoch=3)


def dinov2(state):
    """The class token has a position of its own, which timm adds to the token; registers have none."""
    generator = seeded("dinov2 position")
    position = rounded(torch.randn(1, 1, state["pos_embed"].shape[-1], generator=generator))
    state = dict(state) | {"mask_token": torch.ones(1, 24), "register_tokens": state["reg_token"]}
    del state["reg_token"]
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    for key in [key for key in state if ".mlp.fc" in key]:
        state[key.replace("fc1", "w12").replace("fc2", "w3")] = state.pop(key)
    return state


def for_timm(saved):
    """What a person passes to timm's converter: the weights inside, without what is no part of the encoder."""
    state = saved.get("teacher", saved.get("model", saved))
    # timm's converter leaves LayerScale under OpenCLIP's names.
    state = {key.removeprefix("backbone.").replace(".ls_", ".ls"): value for key, value in state.items()}
    return {key: v for key, v in state.items() if "decoder" not in key and not key.startswith(("head.mlp", "head.last"))}


def case(form, described, architecture="vit_tiny_patch16_224", dialect="timm", **arguments):
    def make(name):
        torch.manual_seed(0)
        model = timm.create_model(architecture, **TINY | arguments).eval()
        randomize(model, seeded(name))
        saved = form(model.state_dict())
        folder = MODELS / name
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(saved, folder / "model.pth")
        config = dict(image_size=32, patch_size=8, classes=model.num_classes, width=24, depth=2, heads=3, head_width=8)
        config |= dict(mlp_width=48) | described
        (folder / "config.json").write_text(json.dumps(dict(dialect=dialect, model=config), indent=2) + "\n")
        torch.manual_seed(1)
        loaded = timm.create_model(architecture, **TINY | arguments).eval()
        given = for_timm(saved)
        if form is mae:
            given.pop("mask_token")
        loaded.load_state_dict(checkpoint_filter_fn(given, loaded), strict=True)
        run(name, loaded, folder, (32, 32), False, loaded.num_classes)

    return make


def with_pre_logits(name):
    """A file of timm's from when it had a linear map and tanh before the classifier; it runs here as a norm of the pooled."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **TINY).eval()
    before = torch.nn.Linear(24, 10)
    model.head = torch.nn.Linear(10, 5)
    for module in [model, before]:
        randomize(module, seeded(name))
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    named = {f"pre_logits.fc.{key}": value for key, value in before.state_dict().items()}
    torch.save(dict(model.state_dict()) | named, folder / "model.pth")
    config = dict(image_size=32, patch_size=8, classes=5, width=24, depth=2, heads=3, head_width=8, mlp_width=48)
    config |= dict(pre_logits=10)
    (folder / "config.json").write_text(json.dumps(dict(dialect="timm", model=config), indent=2) + "\n")
    model.fc_norm = torch.nn.Sequential(before, torch.nn.Tanh())
    run(name, model, folder, (32, 32), False, 5)


def cases():
    seen = dict(pre_norm=True, final_norm=False, pooled_norm=True, patch_bias=False, head_bias=False, norm_epsilon=1e-5)
    registers = dict(registers=2, positions="learned-without-registers", layer_scale=1.0)
    swiglu = dict(mlp="gated", activation="silu", mlp_width=64)
    distilled = dict(distillation_token=True, distillation_head=True)
    quick = dict(activation="quick-gelu")
    return dict(
        original_deit=case(lambda state: dict(model=dict(state)), {}),
        original_deit_distilled=case(
            lambda state: dict(model=dict(state)), distilled, architecture="deit_tiny_distilled_patch16_224"
        ),
        original_dino=case(dino, {}, num_classes=0),
        original_mae=case(mae, {}, num_classes=0),
        original_mae_fine_tuned=case(
            lambda state: dict(model=dict(state)),
            dict(pooling="mean", pooled_norm=True, final_norm=False),
            global_pool="avg",
        ),
        original_dinov2_registers=case(
            dinov2,
            registers | swiglu,
            architecture="vit_giant_patch14_reg4_dinov2",
            reg_tokens=2,
            mlp_ratio=64 * 2 / 24 + 1e-6,
            num_classes=0,
        ),
        openai_clip=case(clip, seen | quick, architecture="vit_base_patch16_clip_quickgelu_224", dialect="openai-clip"),
        openai_clip_open=case(clip, seen, architecture="vit_base_patch32_clip_224", dialect="openai-clip"),
        openai_clip_layer_scale=case(
            clip,
            seen | dict(layer_scale=0.1),
            architecture="vit_base_patch32_clip_224",
            dialect="openai-clip",
            init_values=0.1,
        ),
        original_timm_pre_logits=with_pre_logits,
        openai_clip_parallel=case(
            lambda state: {f"module.{key}": value for key, value in clip(state).items()},
            seen,
            architecture="vit_base_patch32_clip_224",
            dialect="openai-clip",
        ),
    )
