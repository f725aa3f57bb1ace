"""BiT's ResNets in timm's layout and in Google's own files, which timm's reader loads into a second model.

Published ones are too large for a golden; these have fewer and narrower stages. Hidden states hold one entry: the cells of
the last feature map, which are the tokens here.
"""

from functools import partial

import numpy as np
import timm
import timm.models
import torch
from safetensors.torch import load_file, save_file
from timm.layers import StdConv2d
from timm.models.resnetv2 import ResNetV2

from common import MODELS, pixels, randomize, seeded, write
from models_jax import with_numpy_for_jax


@torch.no_grad()
def simplify(model):
    """Eight values a sign in convolutions: git packs this to a fraction. The norms before make that no loss."""
    for parameter in model.parameters():
        if parameter.ndim == 4 and parameter.shape[0] > 8:
            parameter.copy_((parameter / parameter.std() * 4).round().clamp(-8, 8) / 64)


@torch.no_grad()
def run(name, model, folder, size):
    inputs = dict(pixel_values=pixels(seeded(name + " input"), 2, model.in_chans, *size))
    cells = model.forward_features(inputs["pixel_values"])
    expected = dict(features=model.forward_head(cells, pre_logits=True))
    if model.num_classes:
        expected = dict(logits=model.forward_head(cells)) | expected
    write(folder, inputs, expected | {"hidden_states.0": cells.flatten(2).transpose(1, 2)})


def timm_case(size=(32, 32), **arguments):
    def make(name):
        merged = dict(stem_chs=32, channels=[128], num_classes=5) | arguments
        torch.manual_seed(0)
        model = timm.create_model("resnetv2_50x1_bit", **merged).eval()
        randomize(model, seeded(name))
        simplify(model)
        folder = MODELS / name
        timm.models.save_for_hf(model, folder, model_args=merged, safe_serialization=True)
        path = folder / "model.safetensors"
        halves = {key: value.half() for key, value in load_file(path).items()}
        save_file(halves, path)
        model.load_state_dict({key: value.float() for key, value in halves.items()})
        run(name, model, folder, size)

    return make


def arrays(model):
    """The weights of a timm model as big_transfer names and lays them out."""
    out = {}

    def convolution(module, name):
        out[f"{name}/kernel"] = module.weight.detach().numpy().transpose(2, 3, 1, 0)
        if module.bias is not None:
            out[f"{name}/bias"] = module.bias.detach().numpy()

    def norm(module, name):
        out[f"{name}/gamma"], out[f"{name}/beta"] = module.weight.detach().numpy(), module.bias.detach().numpy()

    convolution(model.stem.conv, "root_block/standardized_conv2d")
    for s, stage in enumerate(model.stages):
        for b, block in enumerate(stage.blocks):
            unit = f"block{s + 1}/unit{b + 1:02}"
            for r, letter in enumerate("abc", 1):
                norm(getattr(block, f"norm{r}"), f"{unit}/{letter}/group_norm")
                convolution(getattr(block, f"conv{r}"), f"{unit}/{letter}/standardized_conv2d")
            if block.downsample is not None:
                convolution(block.downsample.conv, f"{unit}/a/proj/standardized_conv2d")
    norm(model.norm, "group_norm")
    convolution(model.head.fc, "head/conv2d")
    return {f"resnet/{name}": value for name, value in out.items()}


def google_case(size=(32, 32), **arguments):
    def make(name):
        def build():
            convolution = partial(StdConv2d, eps=1e-8)
            return ResNetV2(width_factor=0.5, stem_type="fixed", conv_layer=convolution, num_classes=5, **arguments).eval()

        torch.manual_seed(0)
        model = build()
        randomize(model, seeded(name))
        simplify(model)
        folder = MODELS / name
        folder.mkdir(parents=True, exist_ok=True)
        halves = {key: np.ascontiguousarray(value.astype(np.float16)) for key, value in arrays(model).items()}
        np.savez_compressed(folder / "model.npz", **halves)
        loaded = build()
        with_numpy_for_jax()
        loaded.load_pretrained(str(folder / "model.npz"))
        for key, value in loaded.state_dict().items():
            assert torch.equal(value, model.state_dict()[key].half().float()), f"{name}: timm reads another `{key}`"
        run(name, loaded, folder, size)

    return make


def cases():
    return dict(
        timm_bit=timm_case(),
        timm_bit_other_size=timm_case(size=(21, 30), in_chans=1, global_pool="avgmax"),
        bit=google_case(layers=[1, 2], size=(32, 23)),
    )
