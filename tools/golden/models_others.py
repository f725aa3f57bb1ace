"""Single checkpoint files, as torchvision and lucidrains/vit-pytorch users save them, with our `config.json` beside."""

import json

import torch
from safetensors.torch import save_file
from torchvision.models import VisionTransformer
from vit_pytorch import SimpleViT, ViT

from common import MODELS, Capture, additive, patch_mask, pixels, randomize, seeded, write


def save(folder, model, config, wrapped=None, safetensors=False, legacy=False):
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    torch.save(wrapped(state) if wrapped else state, folder / "model.pth", _use_new_zipfile_serialization=not legacy)
    if safetensors:
        save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def torchvision_case(masked=False, wrapped=None, legacy=False, both=False, **more):
    def make(name):
        torch.manual_seed(0)
        model = VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=40, num_classes=5, **more
        ).eval()
        randomize(model, seeded(name))
        config = dict(
            dialect="torchvision",
            model=dict(
                image_size=32, patch_size=8, classes=5, width=24, depth=2, heads=3, head_width=8, mlp_width=40, norm_epsilon=1e-6
            ),
        )
        if more.get("representation_size"):
            config["model"]["pre_logits"] = more["representation_size"]
        folder = MODELS / name
        save(folder, model, config, wrapped, safetensors=both, legacy=legacy)
        generator = seeded(name + " input")
        inputs = dict(pixel_values=pixels(generator, 2, 3, 32, 32))
        bias = None
        if masked:
            inputs["mask"] = patch_mask(generator, 2, 4, 4)
            bias = additive(inputs["mask"], 1).expand(-1, 3, 17, 17).reshape(6, 17, 17)
        capture = Capture(model.encoder.layers)
        for block in model.encoder.layers:
            plain = block.self_attention.forward

            # torchvision asks for no weights; the same attention is asked for them here.
            def forward(query, key, value, need_weights=False, plain=plain):
                return plain(query, key, value, need_weights=True, average_attn_weights=False, attn_mask=bias)

            block.self_attention.forward = forward
            capture.attention(block.self_attention, lambda args, out: out[1])
        heads_input = []
        model.heads.head.register_forward_pre_hook(lambda _, args: heads_input.append(args[0]))
        with torch.no_grad():
            logits = model(inputs["pixel_values"])
        write(folder, inputs, dict(logits=logits, features=heads_input[0]) | capture.states())

    return make


def lucidrains_case(
    simple=False, rectangular=False, pool="cls", wrapped=None, dim_scale=False, old_head=False, **more
):
    def make(name):
        torch.manual_seed(0)
        image, patch = ((24, 40), (8, 10)) if rectangular else (32, 8)
        shape = dict(image_size=image, patch_size=patch, num_classes=5, dim=24, depth=2, heads=3, dim_head=10, mlp_dim=40)
        model = (SimpleViT(**shape) if simple else ViT(**shape, pool=pool, **more)).eval()
        if old_head:
            # Older releases had no norm after the blocks, and one in the head.
            model.transformer.norm = torch.nn.Identity()
            setattr(model, "linear_head" if simple else "mlp_head", torch.nn.Sequential(torch.nn.LayerNorm(24), torch.nn.Linear(24, 5)))
        randomize(model, seeded(name))
        if dim_scale:
            # The first releases, and models that follow them, scale by the token's whole width.
            for attention, _ in model.transformer.layers:
                attention.scale = shape["dim"] ** -0.5
        described = dict(
            image_size=list(image) if rectangular else image,
            patch_size=list(patch) if rectangular else patch,
            classes=5,
            width=24,
            depth=2,
            heads=3,
            head_width=10,
            mlp_width=40,
            norm_epsilon=1e-5,
            qkv_bias=False,
            patch_norms=True,
        )
        if simple:
            described |= dict(class_token=False, positions="sin-cos2d", pooling="mean", projection_bias=False)
        else:
            described |= dict(pooling="class") if pool == "cls" else dict(pooling="mean", class_token=False)
        if old_head:
            described |= dict(final_norm=False, pooled_norm=True)
        if dim_scale:
            described |= dict(qk_scale="width")
        folder = MODELS / name
        save(folder, model, dict(dialect="lucidrains-simple" if simple else "lucidrains", model=described), wrapped)
        inputs = dict(pixel_values=pixels(seeded(name + " input"), 2, 3, *(image if rectangular else (image,) * 2)))
        blocks = list(model.transformer.layers)
        # A block here is a pair of modules whose residuals stand outside: states are taken where they are sums.
        capture = Capture([])
        for attention, _ in blocks:
            attention.register_forward_pre_hook(lambda _, args: capture.hidden.append(args[0]))
            capture.attention(attention.attend, lambda args, out: out)
        model.transformer.norm.register_forward_pre_hook(lambda _, args: capture.hidden.append(args[0]))
        head = model.linear_head if simple else model.mlp_head
        head = head[1] if old_head else head
        features = []
        head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
        with torch.no_grad():
            logits = model(inputs["pixel_values"])
        write(folder, inputs, dict(logits=logits, features=features[0]) | capture.states())

    return make


def cases():
    lightning = lambda state: {
        "epoch": 3,
        "lr": 0.1,
        "state_dict": {f"module.{key}": value for key, value in state.items()},
    }
    return dict(
        torchvision_plain=torchvision_case(both=True),
        torchvision_legacy_file=torchvision_case(legacy=True),
        torchvision_representation=torchvision_case(representation_size=10),
        torchvision_masked=torchvision_case(masked=True),
        torchvision_wrapped=torchvision_case(wrapped=lightning),
        lucidrains_cls=lucidrains_case(),
        lucidrains_mean=lucidrains_case(pool="mean"),
        lucidrains_rectangular=lucidrains_case(rectangular=True),
        lucidrains_compiled=lucidrains_case(wrapped=lambda s: {"model": {f"_orig_mod.{k}": v for k, v in s.items()}}),
        lucidrains_dim_scale=lucidrains_case(dim_scale=True),
        lucidrains_simple=lucidrains_case(simple=True),
        lucidrains_old_head=lucidrains_case(pool="mean", old_head=True),
        lucidrains_simple_old_head=lucidrains_case(simple=True, old_head=True),
    )
