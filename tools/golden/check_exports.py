"""Loads what we export into the libraries themselves, strictly, and compares their numbers with the goldens'.

    VITRAL_KEEP_EXPORTS=/tmp/exports cargo test -p vitral --test it every_golden_goes_home
    python tools/golden/check_exports.py /tmp/exports [VITRAL]

A folder is `CASE-TARGET`. Its reference is the golden's own `expected.safetensors`, so an export to another library must give
that library's model the numbers that the first library computed. Classifiers of the class token (or of the mean of the
patches) that became DINOv2's of both, with zeros, are among them.

With VITRAL, the binary, models of Hugging Face are also converted to another image size (`convert --image-size`), and the
exports are compared with the original run at that size in its own library, which resamples its positions each time.
"""

import json
import logging
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import timm
import torch
import transformers as hf
from safetensors.torch import load_file
from timm.layers import StdConv2d
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import _load_weights
from torchvision.models import VisionTransformer

from common import MODELS
from models_jax import with_numpy_for_jax
from models_naflex import PATCH, as_patches

hf.utils.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()
logging.disable(logging.WARNING)


def huggingface(folder, pixels):
    config = json.loads((folder / "config.json").read_text())
    model_class = getattr(hf, config["architectures"][0])
    model, report = model_class.from_pretrained(folder, output_loading_info=True)
    faults = {key: value for key, value in report.items() if value and key != "error_msgs"}
    # A ViT without pooler has the class of one with it.
    for key in list(faults):
        faults[key] = [name for name in faults[key] if "pooler" not in name]
    assert not any(faults.values()), f"not strict: {faults}"
    names = {type(module).__name__ for module in model.modules()}
    call = {}
    packed = config["model_type"].startswith("siglip2")
    if not packed and any("Embeddings" in name for name in names) and pixels.shape[-2:] != model_size(model.config):
        call = {} if "dinov2" in config["model_type"] else dict(interpolate_pos_encoding=True)
    if config["model_type"].startswith("siglip2"):
        # Patches in a sequence, and the size of their grid.
        patches = torch.stack([as_patches(image) for image in pixels])
        grid = torch.tensor([[side // PATCH for side in pixels.shape[-2:]]] * len(pixels))
        call = dict(pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.int32), spatial_shapes=grid)
        pixels = patches
    output = model.eval()(pixels, **call)
    logits = getattr(output, "logits", None)
    logits = getattr(output, "image_embeds", None) if logits is None else logits
    if logits is not None:
        return "logits", logits
    pooled = getattr(output, "pooler_output", None)
    pooled_is_ours = "pooler.dense.weight" in load_file(folder / "model.safetensors") or not config["model_type"] == "vit"
    return "features", pooled if pooled is not None and pooled_is_ours else output.last_hidden_state[:, 0]


def model_size(config):
    size = getattr(config, "vision_config", config).image_size
    return torch.Size((size, size) if isinstance(size, int) else size)


def of_timm(folder, pixels):
    config = json.loads((folder / "config.json").read_text())
    arguments = config["model_args"]
    # A ResNet takes any size.
    if "img_size" in arguments and pixels.shape[-2:] != torch.Size([arguments["img_size"]] * 2 if isinstance(arguments["img_size"], int) else arguments["img_size"]):
        arguments = arguments | dict(dynamic_img_size=True, dynamic_img_pad=True)
    model = timm.create_model(config["architecture"], **arguments).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return numbers(model, pixels)


def numbers(model, pixels):
    return ("logits" if model.num_classes else "features"), model(pixels)


def bit_of_jax(folder, pixels, arrays):
    """timm's own reader of BiT's files, into a model of the sizes that the arrays have."""
    units = [name.split("/")[1:3] for name in arrays if name.endswith("/a/standardized_conv2d/kernel")]
    blocks = sorted({block for block, _ in units})
    model = ResNetV2(
        layers=[sum(block == other for other, _ in units) for block in blocks],
        width_factor=arrays["resnet/root_block/standardized_conv2d/kernel"].shape[-1] / 64,
        in_chans=arrays["resnet/root_block/standardized_conv2d/kernel"].shape[2],
        num_classes=arrays["resnet/head/conv2d/bias"].shape[0],
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8),
    ).eval()
    with_numpy_for_jax()
    model.load_pretrained(str(folder / "model.npz"))
    return numbers(model, pixels)


def of_jax(folder, pixels, case):
    """timm reads the file, in the form the case's own script gave it; goldens of other origins are plain ViTs."""
    import numpy as np

    arrays = dict(np.load(folder / "model.npz"))
    if "resnet/root_block/standardized_conv2d/kernel" in arrays:
        return bit_of_jax(folder, pixels, arrays)
    assert "embedding/kernel" in arrays
    if any(name in arrays for name in ["pre_logits/kernel"]) or "Transformer/posembed_input/pos_embedding" not in arrays and (
        "pos_embedding" not in arrays
    ):
        return None
    big_vision = "pos_embedding" in arrays
    positions = arrays.get("pos_embedding", arrays.get("Transformer/posembed_input/pos_embedding"))
    if "conv_root/kernel" in arrays:
        return None
    height, width, channels, dim = arrays["embedding/kernel"].shape
    attention = 0 if big_vision else 1
    stacked = "Transformer/encoderblock/LayerNorm_0/scale" in arrays
    first = lambda name: arrays[f"Transformer/encoderblock/{name}"][0] if stacked else arrays[f"Transformer/encoderblock_0/{name}"]
    query = first(f"MultiHeadDotProductAttention_{attention}/query/kernel")
    apart = sum(name.endswith("LayerNorm_0/scale") and "encoderblock" in name for name in arrays)
    side = int((positions.shape[1] - (0 if big_vision else "cls" in arrays)) ** 0.5)
    pool = "map" if "MAPHead_0/probe" in arrays else "token" if "cls" in arrays else "avg"
    model = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=(side * height, side * width),
        patch_size=(height, width),
        in_chans=channels,
        embed_dim=dim,
        num_heads=query.shape[1],
        depth=len(arrays["Transformer/encoderblock/LayerNorm_0/scale"]) if stacked else apart,
        mlp_ratio=first(f"MlpBlock_{0 if big_vision else 3}/Dense_0/kernel").shape[1] / dim,
        num_classes=arrays["head/bias"].shape[0] if "head/bias" in arrays else 0,
        class_token="cls" in arrays,
        no_embed_class=big_vision,
        global_pool=pool,
        fc_norm=False,
        act_layer="gelu_tanh",
    ).eval()
    with_numpy_for_jax()
    _load_weights(model, str(folder / "model.npz"))
    if pixels.shape[-1] != side * width or pixels.shape[-2] != side * height:
        return None
    return numbers(model, pixels)


def torchvision(folder, pixels):
    given = json.loads((folder / "config.json").read_text())["model"]
    model = VisionTransformer(
        image_size=given["image_size"],
        patch_size=given["patch_size"],
        num_layers=given["depth"],
        num_heads=given["heads"],
        hidden_dim=given["width"],
        mlp_dim=given["mlp_width"],
        num_classes=max(given["classes"], 1),
        representation_size=given["pre_logits"],
    ).eval()
    state = load_file(folder / "model.safetensors")
    if not given["classes"]:
        model.heads = torch.nn.Identity()
    model.load_state_dict(state, strict=True)
    if pixels.shape[-1] != given["image_size"]:
        return None
    return ("logits" if given["classes"] else "features"), model(pixels)


# Models whose positions transformers resamples as we say it does.
SIZED = ["hf_dinov2_model", "hf_dinov2_classifier", "hf_vit_classifier", "hf_deit_classifier", "hf_dinov2_registers_model"]


def sized(vitral, compare):
    """Converts models to other sizes and compares them with the originals at those sizes."""
    for case in SIZED:
        for side in (24, 48):
            generator = torch.Generator().manual_seed(side)
            pixels = torch.randn(2, 3, side, side, generator=generator)
            original = huggingface(MODELS / case, pixels)
            for target, reader in [("huggingface", huggingface), ("timm", of_timm)]:
                folder = Path(tempfile.mkdtemp()) / f"{case}-{side}-{target}"
                arguments = ["convert", MODELS / case, folder, "--to", target, "--image-size", str(side)]
                # timm has one epsilon, and two ways to pool.
                run = subprocess.run([vitral, *arguments, "--allow", "norm_epsilon"], capture_output=True, text=True)
                if run.returncode:
                    print(f"{folder.name}: {run.stderr.splitlines()[1].strip()}")
                    continue
                compare(f"sized {target}", folder, lambda: reader(folder, pixels), original)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    counts, worst, faults = {}, [(0.0, "")], []

    def compare(target, folder, read, reference):
        name, reference = reference
        try:
            found = read()
            if found is None:
                return
            assert found[0] == name or name is None, f"{found[0]}, expected {name}"
            reference = reference[found[0]] if name is None else reference
            difference = ((found[1] - reference).abs().max() / reference.std().clamp_min(1e-12)).item()
            counts[target] = counts.get(target, 0) + 1
            worst[0] = max(worst[0], (difference, folder.name))
            if not difference < 2e-4:
                faults.append(f"{folder.name}: `{found[0]}` differs by {difference:.1e}")
        except Exception as error:  # Every fault is listed.
            faults.append(f"{folder.name}: {type(error).__name__}: {str(error)[:300]}")

    for folder in sorted(Path(sys.argv[1]).iterdir()):
        case, _, target = folder.name.rpartition("-")
        inputs = load_file(MODELS / case / "input.safetensors")
        # At another size than the model's, each library resamples positions in its own way.
        elsewhere = any(part in case for part in ["other_size", "dynamic", "_wide", "_row", "_tall", "_ape", "_scaled", "_spatial"])
        home = case.startswith(dict(huggingface="hf_", timm="timm_", jax=("jax", "big_vision", "bit"), big_vision="big_vision").get(target, target))
        if target == "bundle" or "mask" in inputs or (elsewhere and not home):
            continue
        pixels, expected = inputs["pixel_values"], load_file(MODELS / case / "expected.safetensors")
        readers = dict(huggingface=huggingface, timm=of_timm, torchvision=torchvision)
        read = readers.get(target)
        compare(target, folder, lambda: read(folder, pixels) if read else of_jax(folder, pixels, case), (None, expected))
    if len(sys.argv) > 2:
        sized(sys.argv[2], compare)
    print(f"loaded strictly: {counts}; largest difference {worst[0][0]:.1e} deviations in {worst[0][1]}")
    print("\n".join(faults) or "no faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
