#!/usr/bin/env python3
"""Gradients of every parameter and ten successive losses, from PyTorch and timm, for the training crate's tests.

  python tools/golden/training.py [CASE...]      -> goldens/training/CASE/{config.json,model,batch,gradients,expected,muon}.safetensors

The losses are those of ten steps on one batch, without anything dropped: by AdamW (rate 1e-3, decay 0.05, gradients
clipped to norm 1), by SGD (rate 0.05, Nesterov momentum 0.9, decay 1e-4), by SGD with timm's adaptive clipping (0.02), by
timm's LAMB (rate 0.01, decay 0.05, norm 1) and timm's Lion (rate 1e-4, decay 0.05). `muon.safetensors` has those of PyTorch's
Muon for the blocks' matrices, its iteration in 32 bits in place of 16, and AdamW for the rest (rate 1e-3, decay 0.05). Decay leaves out biases, norms, tokens
and positions. `gradients` holds the first step's, under timm's names, before clipping. Needs torch, timm, safetensors.
"""
import json, pathlib, sys
from unittest import mock

import timm, timm.optim, timm.utils, torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens/training"
SMALL = dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=5)
CASES = {
    "vit": ("vit_tiny_patch16_224", dict(SMALL, init_values=0.5)),
    "deit_distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "hybrid": ("vit_tiny_r_s16_p8_224", dict(SMALL, img_size=16, patch_size=1)),
    "beit": ("beit_base_patch16_224", dict(SMALL, init_values=0.5, use_shared_rel_pos_bias=True)),
    "bit": ("resnetv2_50x1_bit", dict(stem_chs=32, channels=[128], num_classes=5)),
}
SIDE = 16
# Trained in 64 bits for the losses: these fall so low that PyTorch's own rounding in 32 shows in the fourth digit.
EXACT = {"bit"}


def decays(name, parameter):
    """Neither biases and norms, nor tokens and positions of any kind."""
    embedding = name in ("cls_token", "dist_token", "pos_embed") or "relative_position" in name
    return parameter.ndim > 1 and not embedding


def loss_of(model, x, labels):
    y = model(x)
    if isinstance(y, tuple):
        return sum(torch.nn.functional.cross_entropy(part, labels) for part in y) / 2
    return torch.nn.functional.cross_entropy(y, labels)


def muon(model, x, labels):
    """Ten losses; PyTorch iterates in bfloat16, which no other order of sums could follow for ten steps."""
    module = sys.modules["torch.optim._muon"]

    class Wide:
        """The module's torch, with the one cast that it makes left out."""

        def __getattr__(self, name):
            return torch.float32 if name == "bfloat16" else getattr(torch, name)

    hidden = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2 and decays(n, p)]
    plain = [p for n, p in model.named_parameters() if not decays(n, p)]
    taken = {id(p) for p in hidden + plain}
    others = [p for p in model.parameters() if id(p) not in taken]
    adamw = torch.optim.AdamW([dict(params=others, weight_decay=0.05), dict(params=plain, weight_decay=0.0)], lr=1e-3)
    matrices = torch.optim.Muon(hidden, lr=1e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw") if hidden else None
    losses = []
    with mock.patch.object(module, "torch", Wide()):
        for _ in range(10):
            model.zero_grad()
            loss = loss_of(model, x, labels)
            loss.backward()
            adamw.step()
            if matrices:
                matrices.step()
            losses.append(loss.item())
    return torch.tensor(losses)


def make(case, architecture, arguments):
    generator = torch.Generator().manual_seed(len(case) * 7919)

    def fresh():
        model = timm.create_model(architecture, **arguments)
        model.train()
        if hasattr(model, "distilled_training"):
            model.set_distilled_training(True)
        return model

    def started():
        model = fresh()
        model.load_state_dict(start)
        return model.double() if case in EXACT else model

    model = fresh()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = (0.3 * noise + (1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0)).bfloat16().float()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(6, 3, SIDE, SIDE, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    pixels = x.double() if case in EXACT else x

    loss_of(model, x, labels).backward()
    gradients = {name: p.grad.clone().contiguous() for name, p in model.named_parameters()}
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in gradients.values()))
    expected = {"gradient_norm": torch.tensor([float(norm)])}
    for name in ["adamw", "sgd", "sgd_adaptive", "lamb", "lion"]:
        model = started()
        plain = [p for n, p in model.named_parameters() if not decays(n, p)]
        ids = {id(p) for p in plain}
        decayed = [p for p in model.parameters() if id(p) not in ids]
        decay = 1e-4 if name.startswith("sgd") else 0.05
        groups = [dict(params=decayed, weight_decay=decay), dict(params=plain, weight_decay=0.0)]
        optimizer = {
            "adamw": lambda: torch.optim.AdamW(groups, lr=1e-3),
            "lamb": lambda: timm.optim.Lamb(groups, lr=0.01, max_grad_norm=None),
            "lion": lambda: timm.optim.Lion(groups, lr=1e-4),
        }.get(name, lambda: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True))()
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = loss_of(model, pixels, labels)
            loss.backward()
            if name in ("adamw", "lamb"):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            elif name == "sgd_adaptive":
                timm.utils.adaptive_clip_grad(model.parameters(), clip_factor=0.02)
            optimizer.step()
            losses.append(loss.item())
        expected[f"losses.{name}"] = torch.tensor(losses)

    folder = OUT / case
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(architecture=architecture, num_classes=5, num_features=model.num_features, model_args=arguments,
                  pretrained_cfg=dict(input_size=[3, SIDE, SIDE]))
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    big = sum(p.numel() for p in model.parameters()) > 200_000
    weights = {name: (value.bfloat16() if big else value).contiguous() for name, value in start.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    save_file(gradients if not big else {n: g.bfloat16() for n, g in gradients.items()}, folder / "gradients.safetensors")
    save_file({"pixel_values": x, "labels": labels.to(torch.int64)}, folder / "batch.safetensors")
    save_file(expected, folder / "expected.safetensors")
    save_file({"losses.muon": muon(started(), pixels, labels)}, folder / "muon.safetensors")
    print(case, {k: v.tolist() for k, v in expected.items()})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case, (architecture, arguments) in CASES.items():
        if not sys.argv[1:] or case in sys.argv[1:]:
            make(case, architecture, arguments)
