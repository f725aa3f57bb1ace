"""Writes timm's own defaults for every Vision Transformer, BEiT, EVA, NaFlexVit and BiT ResNet it registers, as data for the crate.

Each registered function is called with the model builder replaced by one that only notes its arguments. The result is
`crates/vitral/src/weights/description/timm_architectures.json`: one line an architecture, arguments as timm has them,
callables by name.

    python tools/golden/timm_architectures.py
"""

import functools
import json
from functools import partial
from pathlib import Path

import timm.models.beit as beit
import timm.models.deit as deit
import timm.models.eva as eva
import timm.models.naflexvit as naflexvit
import timm.models.resnetv2 as resnetv2
import timm.models.vision_transformer as vision_transformer
import timm.models.vision_transformer_hybrid as hybrid
from timm.models import list_models

OUT = Path(__file__).resolve().parents[2] / "crates/vitral/src/weights/description/timm_architectures.json"
noted = {}


def plain(value):
    if isinstance(value, functools.partial):
        return {"name": plain(value.func)} | {key: plain(each) for key, each in value.keywords.items()}
    if callable(value):
        return value.__name__
    return list(value) if isinstance(value, tuple) else value


def note(model_class, variant, pretrained, **kwargs):
    dropped = ("pretrained_filter_fn", "feature_cfg", "pretrained_strict", "kwargs_filter", "embed_layer", "device", "dtype")
    arguments = {key: plain(value) for key, value in kwargs.items() if key not in dropped}
    embed = kwargs.get("embed_layer")
    if embed is not None:
        arguments["stem"] = embed.keywords["backbone"]
    # NaFlexVit has most of its arguments in a configuration of their own.
    config = arguments.pop("cfg", None)
    if config is not None:
        usual = naflexvit.NaFlexVitCfg()
        given = {key: plain(value) for key, value in vars(config).items() if value != getattr(usual, key)}
        arguments = given | arguments
    if model_class.__name__ != "VisionTransformer":
        arguments["class"] = model_class.__name__
    noted[variant] = arguments


def stem(layers=(3, 4, 9), **kwargs):
    return {"kind": "resnetv2", "layers": list(layers), "padding_same": kwargs.get("padding_same", True)}


def resnet_d(layers, out_indices, **_):
    # The last feature map that is asked for; later stages are left out.
    return {"kind": "resnetd", "layers": list(layers[: out_indices[0]])}


def main():
    for module in [vision_transformer, deit, hybrid, resnetv2, beit, eva, naflexvit]:
        module.build_model_with_cfg = note
    hybrid._resnetv2 = stem
    hybrid.resnet26d = partial(resnet_d, (2, 2, 2, 2))
    hybrid.resnet50d = partial(resnet_d, (3, 4, 6, 3))
    hybrid.ConvStem = lambda **_: {"kind": "conv"}
    for module in [vision_transformer, deit, hybrid, beit, eva, naflexvit]:
        for name in list_models(module=module.__name__.rpartition(".")[2]):
            getattr(module, name)()
    # Its other ResNets have other norms, convolutions and stems.
    for name in list_models("resnetv2_*_bit", module="resnetv2"):
        getattr(resnetv2, name)()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(arguments)}" for name, arguments in sorted(noted.items())]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{OUT}: {len(noted)} architectures")


if __name__ == "__main__":
    main()
