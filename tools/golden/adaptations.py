"""Models of `goldens/models` brought to another form by timm, in `goldens/adaptations/CASE`.

`adaptation.json` names the model and what is asked of it; the tensors are as in a model case.

    python tools/golden/adaptations.py [WORD]     # only cases whose name contains WORD
"""

import json
import sys

import timm
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.layers.patch_embed import resample_patch_embed
from timm.models._manipulate import adapt_input_conv

import common
import models_timm
from common import MODELS, pixels, seeded

OUT = MODELS.parent / "adaptations"


def case(source="timm_plain", drop_distillation=False, **asked):
    def make(name):
        config = json.loads((MODELS / source / "config.json").read_text())
        state = load_file(MODELS / source / "model.safetensors")
        arguments = config["model_args"] | {key: value for key, value in asked.items() if value is not None}
        architecture = "vit_tiny_patch16_224" if drop_distillation else config["architecture"]
        model = timm.create_model(architecture, **arguments).eval()
        if drop_distillation:
            state = {key: value for key, value in state.items() if "dist" not in key}
            state["pos_embed"] = state["pos_embed"][:, [0, *range(2, state["pos_embed"].shape[1])]]
        kernel = adapt_input_conv(model.in_chans, state["patch_embed.proj.weight"])
        state["patch_embed.proj.weight"] = resample_patch_embed(kernel, list(model.patch_embed.patch_size))
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(model.patch_embed.grid_size), None, prefix)
        if "num_classes" in asked:
            state = {key: value for key, value in state.items() if not key.startswith("head.")}
            if asked["num_classes"]:
                state |= {"head.weight": torch.zeros(asked["num_classes"], model.num_features)}
                state |= {"head.bias": torch.zeros(asked["num_classes"])}
        model.load_state_dict(state, strict=True)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        said = dict(source=source, drop_distillation=drop_distillation) | asked
        (folder / "adaptation.json").write_text(json.dumps(said, indent=2) + "\n")
        size = arguments["img_size"]
        size = (size, size) if isinstance(size, int) else tuple(size)
        models_timm.run(name, model, folder, size, False, model.num_classes)

    return make


def beit_case(source, **asked):
    """timm brings a model that is already there to another size."""

    def make(name):
        config = json.loads((MODELS / source / "config.json").read_text())
        model = timm.create_model(config["architecture"], **config["model_args"]).eval()
        model.load_state_dict(load_file(MODELS / source / "model.safetensors"), strict=True)
        size = asked["img_size"]
        size = (size, size) if isinstance(size, int) else tuple(size)
        model.set_input_size(size)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        said = dict(source=source, drop_distillation=False) | asked
        (folder / "adaptation.json").write_text(json.dumps(said, indent=2) + "\n")
        models_timm.run(name, model, folder, size, False, model.num_classes)

    return make


def main():
    torch.set_num_threads(1)
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, make in dict(
        larger_image=case(img_size=48),
        rectangular_image=case(img_size=[24, 48]),
        smaller_image_registers=case("timm_registers", img_size=24),
        larger_image_no_embed_class=case("timm_no_embed_class", img_size=56),
        larger_patch=case(patch_size=16, img_size=64),
        smaller_patch=case(patch_size=5, img_size=20),
        rectangular_patch=case(patch_size=[6, 10], img_size=[24, 40]),
        one_channel=case(in_chans=1),
        five_channels=case(in_chans=5),
        five_channels_smaller_patch_larger_grid=case(in_chans=5, patch_size=4, img_size=32),
        no_head=case(num_classes=0),
        zero_head=case(num_classes=9),
        no_distillation=case("timm_deit_distilled", drop_distillation=True),
        no_distillation_larger_image=case("timm_deit_distilled", drop_distillation=True, img_size=48),
        beit_larger_image=beit_case("timm_beit", img_size=48),
        beit_rectangular_image=beit_case("timm_beit_both", img_size=[24, 48]),
        beit_smaller_image_shared=beit_case("timm_beit_shared", img_size=24),
        beit_from_a_rectangle=beit_case("timm_beit_rectangular", img_size=[40, 50]),
    ).items():
        if word in name:
            make(name)


if __name__ == "__main__":
    main()
