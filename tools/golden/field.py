"""Model files as people have them, and what the libraries make of them: `goldens/field/`.

    python tools/golden/field.py [FOLDER]

FOLDER holds the cases that were reported; without it only the others are written. A case is a folder with a model's files and
`expected.json`: either `logits` (`features` without a classifier), which the library computes for `goldens/field/plain.png`,
or `refused`, a part of the message with which the file has to be refused; `resolves` where only the tensors are checked.
"""

import argparse
import collections
import datetime
import decimal
import json
import pathlib
import shutil
import sys
import types
from pathlib import Path

import numpy
import timm
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_data_config
from torchvision.models import VisionTransformer as TorchvisionTransformer

from common import MODELS

FIELD = MODELS.parent / "field"
IMAGE = FIELD / "plain.png"

hf.utils.logging.set_verbosity_error()
hf.utils.logging.disable_progress_bar()


def expected_of_huggingface(folder, model_class=None):
    """What the pipeline's classes make of the image."""
    config = json.loads((folder / "config.json").read_text().replace("NaN", "0.02"))
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(Image.open(IMAGE).convert("RGB"), return_tensors="pt")
    model = (model_class or hf.AutoModelForImageClassification).from_pretrained(folder).eval()
    with torch.no_grad():
        output = model(**pixels)
    if hasattr(output, "logits"):
        return {"logits": output.logits[0].tolist()}
    pooled = output.pooler_output if config["model_type"] == "vit" else output.last_hidden_state[:, 0]
    return {"features": pooled[0].tolist()}


def expected_of_timm(model, config):
    transform = create_transform(**resolve_data_config(config["pretrained_cfg"]))
    with torch.no_grad():
        return {"logits": model.eval()(transform(Image.open(IMAGE).convert("RGB"))[None])[0].tolist()}


def write(folder, expected, **more):
    text = json.dumps(expected | more, indent=1)
    (folder / "expected.json").write_text(text + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder.name}: {size} bytes, {list(expected)[0]}")


def fresh(name):
    folder = FIELD / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def seeded(module, seed):
    """Random weights with the precision of bfloat16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            values = torch.randn(tensor.shape, generator=generator) * (0.3 if tensor.dim() > 1 else 0.2)
            tensor.copy_((values + (1.0 if tensor.dim() == 1 else 0.0)).bfloat16().float())
    return module


# timm

ARGUMENTS = dict(embed_dim=12, depth=1, num_heads=3, img_size=8, patch_size=4, num_classes=5, mlp_ratio=1, class_token=True)
TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 5,
    "model_args": ARGUMENTS,
    "pretrained_cfg": {
        "tag": "untrained", "input_size": [3, 8, 8], "fixed_input_size": True, "interpolation": "bicubic", "crop_pct": 0.9,
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 5,
    },
}


def timm_model():
    return seeded(timm.create_model("vit_tiny_patch16_224", **ARGUMENTS), 7)


def wrapped(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def of_timm(name, checkpoint, refused=None, legacy=False, safetensors=False):
    folder = fresh(name)
    (folder / "config.json").write_text(json.dumps(TIMM, indent=1))
    if safetensors:
        save_file({key: tensor.clone() for key, tensor in checkpoint.items()}, folder / "model.safetensors")
    else:
        torch.save(checkpoint, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    write(folder, {"refused": refused} if refused else expected_of_timm(timm_model(), TIMM))


def wrappers():
    state = dict(timm_model().state_dict())
    of_timm("wrapper-net", wrapped(state, "net."))
    of_timm("wrapper-model-model", {"state_dict": wrapped(state, "model.model."), "epoch": 3})
    of_timm("wrapper-own-name", wrapped(state, "my_classifier.vit."))
    of_timm("wrapper-module-module", wrapped(state, "module.module."))
    of_timm("wrapper-orig-mod-in-blocks", {name.replace("blocks.0.", "blocks.0._orig_mod."): t for name, t in state.items()})
    of_timm("wrapper-fsdp", {"_fsdp_wrapped_module." + n.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): t for n, t in state.items()})
    average = torch.optim.swa_utils.AveragedModel(timm_model())
    of_timm("wrapper-averaged", dict(average.state_dict()))
    beside = {"criterion.weight": torch.ones(5), "accuracy.confusion": torch.zeros(5, 5, dtype=torch.long)}
    of_timm("wrapper-beside", {"state_dict": wrapped(state, "model.") | beside})
    head = {name: t for name, t in state.items() if name.startswith("head.")}
    body = {name: t for name, t in state.items() if not name.startswith("head.")}
    of_timm("wrapper-backbone-and-head", wrapped(body, "backbone.") | head)
    of_timm("wrapper-safetensors", wrapped(state, "net.module."), safetensors=True)
    of_timm("wrapper-two-models", wrapped(state, "student.") | wrapped(state, "teacher."), refused="does not match")
    of_timm("wrapper-other-model", wrapped({"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.weight": torch.zeros(5, 4)}, "net."), refused="begin with `net.`")
    of_timm("wrapper-extra-matrix", {"state_dict": wrapped(state, "model.") | {"projector.weight": torch.zeros(4, 4)}}, refused="`projector.weight`")
    replaced = {name.replace("head.", "head.1."): t for name, t in state.items()}
    of_timm("head-sequence", replaced)
    two = {name.replace("head.", "head.0."): t for name, t in state.items()} | {"head.2.weight": torch.zeros(5, 5), "head.2.bias": torch.zeros(5)}
    of_timm("head-two-maps", two, refused="`head.2.weight`")


def containers():
    state = dict(timm_model().state_dict())
    for section in ["model_state_dict", "ema", "params_ema", "my_weights"]:
        of_timm(f"section-{section.replace('_', '-')}", {"epoch": 1, section: state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}})
    of_timm("section-beside-tensor", {"model": state, "class_weights": torch.ones(5)})
    of_timm("section-two-unknown", {"one": state, "two": state}, refused="`one`, `two`")
    of_timm("whole-model", timm_model())
    of_timm("whole-model-legacy", timm_model(), legacy=True)
    of_timm("whole-model-in-section", {"model": timm_model(), "epoch": 2})


def of_library(module, name, base=object):
    """A class under a name of a library that is not installed."""
    package = module.split(".")[0]
    if package != "__main__":
        sys.modules.setdefault(package, types.ModuleType(package)).__path__ = []
    parent = types.ModuleType(module)
    kind = type(name, (base,), {"__module__": module, "__qualname__": name})
    setattr(parent, name, kind)
    sys.modules[module] = parent
    return kind


def pickles():
    state = dict(timm_model().state_dict())
    for name, value in {
        "set": {1, 2}, "frozenset": frozenset({"a"}), "counter": collections.Counter("aab"),
        "defaultdict": collections.defaultdict(list, {"a": [1]}), "ordered": collections.OrderedDict(a=1), "deque": collections.deque([1]),
        "posix-path": pathlib.PurePosixPath("/data"), "windows-path": pathlib.PureWindowsPath("C:/data"),
        "numpy-scalar": numpy.float64(0.5), "numpy-dtype": numpy.dtype("float32"), "numpy-array": numpy.arange(4.0),
        "namespace": argparse.Namespace(lr=0.1, model="vit"), "simple-namespace": types.SimpleNamespace(lr=0.1),
        "datetime": datetime.datetime(2024, 1, 2, 3, 4), "timedelta": datetime.timedelta(1), "decimal": decimal.Decimal("0.1"),
        "complex": 1 + 2j, "bytearray": bytearray(b"abc"), "slice": slice(1, 2), "function": timm.create_model, "class": dict,
        "dtype": torch.float16, "device": torch.device("cpu"), "generator-state": torch.get_rng_state(),
    }.items():
        of_timm(f"pickle-{name}", {"model": state, "extra": value, "args": [value, {"k": value}]})
    for module, name, base in [
        ("omegaconf.dictconfig", "DictConfig", object), ("yacs.config", "CfgNode", dict), ("mmengine.config", "ConfigDict", dict),
        ("project.training", "Settings", object), ("enum_like", "Phase", list),
    ]:
        kind = of_library(module, name, base)
        value = kind()
        if base is dict:
            value["lr"] = 0.1
        if base is list:
            value.append(0.1)
        value.attribute = {"nested": value}
        of_timm(f"pickle-{name.lower()}", {"model": state, "config": value})
    of_timm("pickle-legacy", {"model": state, "extra": {1}, "counter": collections.Counter("a"), "run": argparse.Namespace(weights=torch.ones(3))}, legacy=True)
    kind = of_library("framework.state", "StateDict", dict)
    of_timm("pickle-state-of-own-class", kind(state))
    of_timm("pickle-defaultdict-state", {"state_dict": collections.defaultdict(None, state)})
    parameter = torch.nn.Parameter(state["head.weight"])
    parameter.learning_rate = 0.1
    of_timm("pickle-parameter-with-attributes", state | {"head.weight": parameter})
    of_timm("pickle-sparse-tensor", state | {"head.weight": state["head.weight"].to_sparse()}, refused="`head.weight`")
    of_timm("pickle-numpy-in-state", state | {"head.weight": state["head.weight"].numpy()}, refused="`head.weight`")


# Hugging Face

SIZES = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=16, image_size=8, patch_size=4)
PLAIN = dict(do_resize=True, size=dict(height=8, width=8), resample=2, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def of_huggingface(name, model, processor, edit=None, model_class=None, processor_file="preprocessor_config.json", more=()):
    folder = fresh(name)
    seeded(model, 11).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    if edit:
        edit(config)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / processor_file).write_text(json.dumps(processor, indent=1))
    for file, value in more:
        (folder / file).write_text(json.dumps(value, indent=1))
    write(folder, expected_of_huggingface(folder, model_class))


def vit(**more):
    return hf.ViTForImageClassification(hf.ViTConfig(**SIZES, num_labels=5, **more))


def processors():
    with_class = dict(PLAIN, image_processor_type="ViTImageProcessor")
    of_huggingface("processor-feature-extractor", vit(), dict(feature_extractor_type="ViTFeatureExtractor", do_resize=True, size=8, resample=2, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3))
    of_huggingface("processor-fast", vit(), dict(PLAIN, image_processor_type="ViTImageProcessorFast"))
    other = dict(with_class, image_mean=[0.1, 0.2, 0.3])
    of_huggingface("processor-both-files", vit(), other, more=[("processor_config.json", dict(image_processor=with_class, processor_class="CLIPProcessor"))])
    of_huggingface("processor-config-without-image", vit(), other, more=[("processor_config.json", dict(processor_class="CLIPProcessor"))])
    of_huggingface("processor-nested-without-class", vit(), dict(image_processor=PLAIN), processor_file="processor_config.json")

    def names_class(config):
        config["image_processor_type"] = "BitImageProcessor"
    cropped = dict(size=dict(shortest_edge=10), crop_size=dict(height=8, width=8))
    of_huggingface("processor-class-in-config", vit(), cropped, edit=names_class)
    of_huggingface("processor-nan", vit(), dict(with_class, unused=float("nan"), other=[float("inf"), -float("inf")]))
    deit = hf.DeiTForImageClassification(hf.DeiTConfig(**SIZES, num_labels=5))
    of_huggingface("processor-deit-without-class", deit, dict(size=dict(height=9, width=9), crop_size=dict(height=8, width=8)))
    sizes = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
    dinov2 = hf.Dinov2ForImageClassification(hf.Dinov2Config(**sizes, mlp_ratio=1, num_labels=5))
    of_huggingface("processor-dinov2-without-class", dinov2, cropped)
    beit = hf.BeitForImageClassification(hf.BeitConfig(**SIZES, num_labels=5, use_mean_pooling=True, use_relative_position_bias=True))
    of_huggingface("processor-beit-without-class", beit, dict(size=dict(height=8, width=8), do_center_crop=False))


def architectures():
    def null(config):
        config["architectures"] = None

    def gone(config):
        config.pop("architectures")

    def empty(config):
        config["architectures"] = []
    processor = dict(PLAIN, image_processor_type="ViTImageProcessor")
    of_huggingface("architectures-gone", vit(), processor, edit=gone)
    of_huggingface("architectures-empty", vit(), processor, edit=empty)
    of_huggingface("architectures-null-base", hf.ViTModel(hf.ViTConfig(**SIZES)), processor, edit=null, model_class=hf.AutoModel)
    deit = hf.DeiTForImageClassification(hf.DeiTConfig(**SIZES, num_labels=5))
    # AutoModel fails on it: of two classes, it wants a name.
    of_huggingface("architectures-null-deit", deit, processor, edit=null, model_class=hf.DeiTForImageClassification)
    teacher = hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**SIZES, num_labels=5))
    of_huggingface("architectures-null-teacher", teacher, processor, edit=null, model_class=hf.DeiTForImageClassificationWithTeacher)
    sizes = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
    dinov2 = hf.Dinov2ForImageClassification(hf.Dinov2Config(**sizes, mlp_ratio=1, num_labels=5))
    of_huggingface("architectures-null-dinov2", dinov2, processor, edit=null)


def problems():
    """`problem_type`, and a single label without one. `scores` are those of the pipeline."""
    processor = dict(PLAIN, image_processor_type="ViTImageProcessor")
    for name, labels, problem in [
        ("multi-label", 5, "multi_label_classification"), ("regression", 1, "regression"), ("regression-of-two", 2, "regression"),
        ("single-label", 5, "single_label_classification"), ("one-label", 1, None),
    ]:
        model = hf.ViTForImageClassification(hf.ViTConfig(**SIZES, num_labels=labels, problem_type=problem))
        of_huggingface(f"problem-{name}", model, processor)
        scores(FIELD / f"problem-{name}")


def scores(folder):
    """Adds the pipeline's scores."""
    classify = hf.pipeline("image-classification", model=str(folder), image_processor=hf.AutoImageProcessor.from_pretrained(folder, backend="pil"))
    expected = json.loads((folder / "expected.json").read_text())
    found = {entry["label"]: entry["score"] for entry in classify(Image.open(IMAGE).convert("RGB"))}
    write(folder, expected, scores=found)


# torchvision

def torchvision_heads():
    def model():
        return seeded(TorchvisionTransformer(8, 4, 1, 3, 12, 16, num_classes=5), 13)

    config = dict(
        dialect="torchvision",
        model=dict(image_size=8, patch_size=4, classes=5, width=12, depth=1, heads=3, head_width=4, mlp_width=16),
        preprocess=dict(channels="rgb", steps=[dict(resize=dict(to=dict(exact=8), filter="bilinear"))], rescale="divide255", normalize=dict(mean=[0.5] * 3, std=[0.5] * 3)),
    )
    pixels = torch.from_numpy(numpy.array(Image.open(IMAGE).convert("RGB").resize((8, 8), Image.BILINEAR))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = model().eval()((pixels - 0.5) / 0.5)[0].tolist()
    for name, to in [("linear", "heads."), ("sequence-0", "heads.0."), ("sequence-1", "heads.1."), ("head-sequence", "heads.head.1."), ("as-published", "heads.head.")]:
        folder = fresh(f"torchvision-{name}")
        state = {key.replace("heads.head.", to): value for key, value in model().state_dict().items()}
        torch.save(state, folder / "model.pth")
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        write(folder, {"logits": logits})


def reported(source):
    """The cases that were reported, with what the libraries make of them."""
    FIELD.mkdir(exist_ok=True)
    for case, inside in [
        ("F14-multi-label-softmax", "multi_label"), ("F14-multi-label-softmax", "one_label_reg"), ("F15-no-processor-class", "pp_notype"),
        ("F16-processor-config", "pp_v5"), ("F17-wrapper-prefixes-pth_lightning", "pth_lightning"),
        ("F17-wrapper-prefixes-pth_orig_module", "pth_orig_module"), ("F17-wrapper-prefixes-st_orig_mod_hf", "st_orig_mod_hf"),
        ("F18-pickle-plain-data", "pth_counter"), ("F19-torchvision-heads-linear", "tv_heads_linear"), ("F35-architectures-null", "arch_null"),
        ("F35-architectures-null", "cfg_nan"),
    ]:
        folder = FIELD / f"{case.split('-')[0]}-{inside}"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source / case / inside, folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
        config = json.loads((folder / "config.json").read_text())
        if inside == "st_orig_mod_hf":
            plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
            scratch = fresh("scratch")
            shutil.copytree(folder, scratch, dirs_exist_ok=True, copy_function=shutil.copyfile)
            save_file(plain, scratch / "model.safetensors", metadata=dict(format="pt"))
            expected = expected_of_huggingface(scratch)
            shutil.rmtree(scratch)
        elif "model_type" in config:
            expected = expected_of_huggingface(folder)
        elif "architecture" in config:
            # The file of Lightning lacks a storage that no weight needs, so PyTorch does not load it; it holds the same model.
            readable = source / case if "lightning" not in case else source / "F18-pickle-plain-data"
            inside = inside if "lightning" not in case else "pth_counter"
            state = torch.load(readable / inside / "pytorch_model.bin", weights_only=False)
            state = state.get("state_dict", state.get("model", state))
            prefixes = ["_orig_mod.", "module.", "model."]
            for prefix in prefixes:
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            model = timm.create_model(config["architecture"], **config["model_args"])
            model.load_state_dict({name: tensor for name, tensor in state.items() if torch.is_tensor(tensor)})
            expected = expected_of_timm(model, config)
        else:
            expected = {"resolves": True}
        write(folder, expected)
        if case.startswith("F14"):
            scores(folder)
    scalar = FIELD / "F18-npscalar"
    shutil.rmtree(scalar, ignore_errors=True)
    shutil.copytree(FIELD / "F18-pth_counter", scalar)
    shutil.copyfile(source / "F18-pickle-plain-data" / "npscalar.bin", scalar / "pytorch_model.bin")


if __name__ == "__main__":
    torch.set_num_threads(1)
    FIELD.mkdir(exist_ok=True)
    if len(sys.argv) > 1:
        shutil.copyfile(Path(sys.argv[1]) / "F15-no-processor-class" / "plain.png", IMAGE)
        reported(Path(sys.argv[1]))
    for group in (wrappers, containers, pickles, processors, architectures, problems, torchvision_heads):
        group()
