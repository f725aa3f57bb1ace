#!/usr/bin/env python3
"""DINOv2 ViT-S/14 on real weights at other sizes than its own, from transformers.

  python tools/golden/dinov2.py DINOV2_FOLDER REFERENCE_DAISY.safetensors   -> goldens/dinov2/sizes.safetensors

The daisy's pixels, 224×224, are mirrored at their edges up to 518×518 and 224×336; kept are the states of some tokens after
the final norm. Needs torch, transformers, safetensors.
"""
import pathlib, sys

import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Model

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens/dinov2"


def mirrored(length, size):
    period = [*range(length), *reversed(range(length))]
    return torch.tensor([period[i % len(period)] for i in range(size)])


if __name__ == "__main__":
    folder, reference = sys.argv[1:]
    model = Dinov2Model.from_pretrained(folder, attn_implementation="eager").eval()
    pixels = load_file(reference)["pixel_values"]
    kept = {}
    for height, width in [(518, 518), (224, 336)]:
        x = pixels[:, :, mirrored(224, height)][:, :, :, mirrored(224, width)]
        with torch.no_grad():
            states = model(pixel_values=x).last_hidden_state[0]
        tokens = torch.tensor([0, 1, len(states) // 3, len(states) // 2, len(states) - 1])
        kept[f"{height}x{width}.tokens"] = tokens
        kept[f"{height}x{width}.states"] = states[tokens].contiguous()
        print(height, width, tuple(states.shape), states.std().item())
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(kept, OUT / "sizes.safetensors")
