"""Tiny models with random weights, made and run by the libraries people have weights from.

Each case is a folder `goldens/models/CASE` in the library's own published layout, with `input.safetensors`
(`pixel_values`, sometimes `mask`) and `expected.safetensors` (what `vitral forward` must print).

    python tools/golden/models.py [WORD]     # only cases whose name contains WORD
"""

import sys

import torch

import models_bit
import models_huggingface
import models_jax
import models_naflex
import models_original
import models_others
import models_rotary
import models_timm


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    modules = [models_huggingface, models_timm, models_others, models_jax, models_original, models_bit]
    for module in modules + [models_rotary, models_naflex]:
        for name, make in module.cases().items():
            if word in name:
                make(name)


if __name__ == "__main__":
    main()
