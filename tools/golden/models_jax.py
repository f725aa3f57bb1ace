"""Files in the layout of google-research/vision_transformer and big_vision, written from a timm model's random weights.

timm's own reader of such files loads each of them into a second model, which must have the first one's weights and gives
the expected numbers. Where timm cannot say what the JAX code does, the case says it here: pre-logits (timm drops them),
SimpleViT's fixed positions, and positions resampled with aligned corners. GELU is flax's, the tanh approximation.
"""

import sys
import types

import ml_dtypes
import numpy as np
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer, _load_weights

from common import MODELS, randomize, rounded, seeded
from models_timm import TINY, resnet_stem, run

BASE = TINY | dict(act_layer="gelu_tanh")


def arrays(model, big_vision=False, stacked=False):
    """The weights of a timm model as JAX code names and lays them out."""
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    out = {}

    def linear(ours, theirs):
        out[f"{theirs}/kernel"] = state[f"{ours}.weight"].T
        out[f"{theirs}/bias"] = state[f"{ours}.bias"]

    def norm(ours, theirs, axes=1):
        for key, name in [("weight", "scale"), ("bias", "bias")]:
            value = state[f"{ours}.{key}"]
            out[f"{theirs}/{name}"] = value.reshape((1,) * (axes - 1) + value.shape)

    def convolution(ours, theirs):
        out[f"{theirs}/kernel"] = state[f"{ours}.weight"].transpose(2, 3, 1, 0)

    def heads(weight, bias, theirs, count):
        out[f"{theirs}/kernel"] = weight.T.reshape(weight.shape[1], count, -1)
        out[f"{theirs}/bias"] = bias.reshape(count, -1)

    def projection(ours, theirs, count):
        weight = state[f"{ours}.weight"]
        out[f"{theirs}/kernel"] = weight.T.reshape(count, -1, weight.shape[0])
        out[f"{theirs}/bias"] = state[f"{ours}.bias"]

    if model.cls_token is not None:
        out["cls"] = state["cls_token"]
    out["pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding"] = state["pos_embed"]
    convolution("patch_embed.proj", "embedding")
    out["embedding/bias"] = state["patch_embed.proj.bias"]
    backbone = getattr(model.patch_embed, "backbone", None)
    if backbone is not None:
        stem = "patch_embed.backbone" + (".stem" if hasattr(backbone, "stem") else "")
        convolution(f"{stem}.conv", "conv_root")
        norm(f"{stem}.norm", "gn_root", axes=4)
        for s, stage in enumerate(getattr(backbone, "stages", [])):
            for b, block in enumerate(stage.blocks):
                ours, theirs = f"patch_embed.backbone.stages.{s}.blocks.{b}", f"block{s + 1}/unit{b + 1}"
                for r in [1, 2, 3]:
                    convolution(f"{ours}.conv{r}", f"{theirs}/conv{r}")
                    norm(f"{ours}.norm{r}", f"{theirs}/gn{r}", axes=4)
                if block.downsample is not None:
                    convolution(f"{ours}.downsample.conv", f"{theirs}/conv_proj")
                    norm(f"{ours}.downsample.norm", f"{theirs}/gn_proj", axes=4)
    attention, mlp, second = (0, 0, 1) if big_vision else (1, 3, 2)
    for i, block in enumerate(model.blocks):
        ours, theirs = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        norm(f"{ours}.norm1", f"{theirs}/LayerNorm_0")
        norm(f"{ours}.norm2", f"{theirs}/LayerNorm_{second}")
        parts = zip(*[np.split(state[f"{ours}.attn.qkv.{key}"], 3) for key in ["weight", "bias"]])
        for name, (weight, bias) in zip(["query", "key", "value"], parts):
            heads(weight, bias, f"{theirs}/MultiHeadDotProductAttention_{attention}/{name}", block.attn.num_heads)
        projection(f"{ours}.attn.proj", f"{theirs}/MultiHeadDotProductAttention_{attention}/out", block.attn.num_heads)
        for r in [0, 1]:
            linear(f"{ours}.mlp.fc{r + 1}", f"{theirs}/MlpBlock_{mlp}/Dense_{r}")
    norm("norm", "Transformer/encoder_norm")
    if model.attn_pool is not None:
        pool, count = "MAPHead_0", model.attn_pool.num_heads
        out[f"{pool}/probe"] = state["attn_pool.latent"]
        inner = f"{pool}/MultiHeadDotProductAttention_0"
        heads(state["attn_pool.q.weight"], state["attn_pool.q.bias"], f"{inner}/query", count)
        parts = zip(*[np.split(state[f"attn_pool.kv.{key}"], 2) for key in ["weight", "bias"]])
        for name, (weight, bias) in zip(["key", "value"], parts):
            heads(weight, bias, f"{inner}/{name}", count)
        projection("attn_pool.proj", f"{inner}/out", count)
        norm("attn_pool.norm", f"{pool}/LayerNorm_0")
        for r in [0, 1]:
            linear(f"attn_pool.mlp.fc{r + 1}", f"{pool}/MlpBlock_0/Dense_{r}")
    if model.num_classes:
        linear("head", "head")
    if stacked:
        first, block = "Transformer/encoderblock_0/", "Transformer/encoderblock/"
        for name in [name[len(first) :] for name in out if name.startswith(first)]:
            each = [out.pop(f"Transformer/encoderblock_{i}/{name}") for i in range(len(model.blocks))]
            out[block + name] = np.stack(each)
    return out


def with_numpy_for_jax():
    """timm reads bfloat16 through JAX, of which it needs no more than this."""
    fake = types.ModuleType("jax.numpy")
    fake.load, fake.float32 = np.load, np.float32
    sys.modules.setdefault("jax", types.ModuleType("jax")).numpy = fake
    sys.modules.setdefault("jax.numpy", fake)


def sin_cos_2d(height, width, channels):
    """big_vision's `posemb_sincos_2d`."""
    y, x = np.mgrid[:height, :width]
    omega = 1.0 / (10_000.0 ** (np.arange(channels // 4) / (channels // 4 - 1)))
    y, x = np.einsum("m,d->md", y.flatten(), omega), np.einsum("m,d->md", x.flatten(), omega)
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    return torch.tensor(table[None], dtype=torch.float32)


def case(
    big_vision=False,
    stacked=False,
    prefix="",
    more=(),
    bfloat16=False,
    compressed=False,
    fortran=False,
    zero_head=False,
    fixed_positions=False,
    pre_logits=None,
    size=(32, 32),
    build=None,
    **arguments,
):
    def make(name):
        torch.manual_seed(0)
        create = build or (lambda **given: timm.create_model("vit_tiny_patch16_224", **given))
        model = create(**BASE | arguments).eval()
        randomize(model, seeded(name))
        with torch.no_grad():
            if zero_head:
                model.head.weight.zero_(), model.head.bias.zero_()
            if fixed_positions:
                model.pos_embed.copy_(sin_cos_2d(*model.patch_embed.grid_size, model.embed_dim))
            if build:
                # Eight values a sign: git packs this to a fraction.
                for parameter in model.patch_embed.backbone.parameters():
                    if parameter.ndim == 4:
                        parameter.copy_((parameter / parameter.std() * 4).round().clamp(-8, 8) / 64)
        named = {prefix + key: value for key, value in arrays(model, big_vision, stacked).items()}
        generator = seeded(name + " more")
        named |= {key: rounded(torch.randn(*shape, generator=generator)).numpy() for key, shape in more}
        extra = None
        if pre_logits:
            extra = torch.nn.Linear(model.embed_dim, pre_logits)
            model.head = torch.nn.Linear(pre_logits, model.num_classes)
            for each in [extra, model.head]:
                randomize(each, generator)
            for key, layer in [("pre_logits", extra), ("head", model.head)]:
                named[f"{prefix}{key}/kernel"] = layer.weight.detach().numpy().T
                named[f"{prefix}{key}/bias"] = layer.bias.detach().numpy()
        if build:
            named = {key: value.astype(np.float16) for key, value in named.items()}
        if bfloat16:
            named = {key: value.astype(ml_dtypes.bfloat16) for key, value in named.items()}
        if fortran:
            named = {key: np.asfortranarray(value) for key, value in named.items()}
        else:
            named = {key: np.ascontiguousarray(value) for key, value in named.items()}
        folder = MODELS / name
        folder.mkdir(parents=True, exist_ok=True)
        (np.savez_compressed if compressed else np.savez)(folder / "model.npz", **named)

        torch.manual_seed(1)
        loaded = create(**BASE | arguments).eval()
        read = folder / "model.npz"
        if pre_logits:
            loaded.head = torch.nn.Linear(pre_logits, model.num_classes)
        if fixed_positions:
            # timm knows no such model: it gets the positions as if they were learned, the file does not have them.
            read = folder / "for_timm.npz"
            np.savez(read, **named)
            named.pop("pos_embedding")
            np.savez(folder / "model.npz", **named)
        with_numpy_for_jax()
        _load_weights(loaded, str(read), load_bfloat16=bfloat16)
        if fixed_positions:
            read.unlink()
        reference = {key: value.half().float() if build else value for key, value in model.state_dict().items()}
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, reference[key]), f"{name}: timm reads another `{key}`"
        if size != (32, 32):
            loaded.set_input_size(size)
            prefix_positions = 0 if loaded.no_embed_class else loaded.num_prefix_tokens
            stored = resample_abs_pos_embed(
                model.pos_embed, [side // 8 for side in size], (4, 4), prefix_positions, "bilinear", False,
                align_corners=True,
            )
            loaded.pos_embed = torch.nn.Parameter(stored.detach())
        if extra is not None:
            loaded.fc_norm = torch.nn.Sequential(extra, torch.nn.Tanh())
        run(name, loaded, folder, size, False, loaded.num_classes)

    return make


def cases():
    def hybrid(**given):
        return resnet_stem(**given | dict(patch_size=1))

    gap = dict(class_token=False, global_pool="avg", fc_norm=False)
    siglip = dict(class_token=False, global_pool="map", num_classes=0)
    towers = [("params/txt/Embed_0/embedding", (7, 4)), ("params/t", (1,)), ("params/b", (1,))]
    return dict(
        jax_vit=case(),
        jax_vit_optimizer_state=case(prefix="opt/target/", more=[("opt/state/step", (1,))]),
        jax_vit_pre_logits=case(pre_logits=10),
        jax_vit_zero_head=case(zero_head=True),
        jax_vit_compressed=case(compressed=True),
        jax_vit_fortran=case(fortran=True),
        jax_vit_fortran_compressed=case(fortran=True, compressed=True),
        jax_vit_bfloat16=case(bfloat16=True),
        jax_vit_one_channel=case(in_chans=1),
        jax_vit_other_size=case(size=(48, 24)),
        jax_hybrid=case(build=hybrid, compressed=True),
        big_vision_map=case(big_vision=True, stacked=True, prefix="params/img/", more=towers, **siglip),
        big_vision_map_classifier=case(big_vision=True, class_token=False, global_pool="map"),
        big_vision_mean=case(big_vision=True, bfloat16=True, stacked=True, prefix="params/", **gap),
        big_vision_class=case(big_vision=True, stacked=True, no_embed_class=True),
        big_vision_other_size=case(big_vision=True, no_embed_class=True, size=(40, 64)),
        big_vision_pre_logits=case(big_vision=True, no_embed_class=True, pre_logits=10),
        big_vision_simple=case(big_vision=True, fixed_positions=True, **gap),
    )
