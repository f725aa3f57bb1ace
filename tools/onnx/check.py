#!/usr/bin/env python3
"""Exports every golden model to ONNX and compares other people's runtimes with `vitral forward`.

    python3 -m venv onnx-venv && onnx-venv/bin/pip install numpy onnx onnxruntime openvino safetensors
    onnx-venv/bin/python tools/onnx/check.py target/release/vitral

Each model is exported for opsets 17, 20 and 23, checked by `onnx.checker`, and run by ONNX Runtime with one image and with
three; OpenVINO takes the first models of each family. Deviations are the largest difference of a value, over the standard
deviation of the reference's values. The exit code is 1 if one is above 2e-4, or a model is neither exported nor refused by
name. The first model of each family that says how images are prepared is also quantized by `vitral quantize` and exported in 8
bits, and compared with the bundle's own rounded weights in double precision. DINOv2 S/14 is checked too where its weights are in `~/.cache/vitral-data` (`VITRAL_DATA`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 2e-4
# Where a runtime rounds to 8 bits what the weights are multiplied with.
ROUNDED = 0.2
OPSETS = (17, 20, 23)

# The start of a golden's name, longest first, and the family it belongs to.
FAMILIES = {
    "big_vision": "ViT, SimpleViT (big_vision)",
    "bit": "BiT ResNet",
    "hf_beit": "BEiT",
    "hf_clip": "CLIP",
    "hf_data2vec": "Data2Vec",
    "hf_deit": "DeiT",
    "hf_dinov2": "DINOv2",
    "hf_dinov3": "DINOv3",
    "hf_mae": "MAE",
    "hf_msn": "MSN",
    "hf_siglip": "SigLIP",
    "hf_vit": "ViT (transformers)",
    "jax": "ViT (Google JAX)",
    "jax_hybrid": "Hybrid",
    "lucidrains": "ViT, SimpleViT (vit-pytorch)",
    "openai_clip": "CLIP",
    "original_deit": "DeiT",
    "original_dino": "DINO",
    "original_dinov2": "DINOv2",
    "original_mae": "MAE",
    "original_timm": "ViT (timm)",
    "timm": "ViT (timm)",
    "timm_beit": "BEiT",
    "timm_bit": "BiT ResNet",
    "timm_clip": "CLIP",
    "timm_deit": "DeiT",
    "timm_dinov2": "DINOv2",
    "timm_dinov3": "DINOv3",
    "timm_eva": "EVA",
    "timm_hybrid": "Hybrid",
    "timm_map": "SigLIP",
    "torchvision": "ViT (torchvision)",
}


def family(name):
    return FAMILIES[max((start for start in FAMILIES if name.startswith(start)), key=len)]


class Checker:
    def __init__(self, binary, scratch):
        self.binary = str(Path(binary).resolve())
        self.scratch = Path(scratch)
        self.openvino = None

    def vitral(self, *args):
        env = dict(os.environ, VITRAL_DEVICE="cpu")
        return subprocess.run([self.binary, *map(str, args)], capture_output=True, text=True, env=env)

    def forward(self, model, config, pixels):
        """What Vitral computes of these pixels."""
        given, found = self.scratch / "in.safetensors", self.scratch / "out.safetensors"
        save_file({"pixel_values": pixels}, given)
        run = self.vitral("forward", "--model", model, *config, "--input", given, "--output", found)
        if run.returncode:
            raise SystemExit(f"{model}: {run.stderr}")
        return load_file(found)

    def export(self, model, config, size, *more):
        """The file of an exported model, or the message that refuses it."""
        path = self.scratch / "model.onnx"
        for old in self.scratch.glob("model.onnx*"):
            old.unlink()
        run = self.vitral("convert", model, path, "--to", "onnx", *config, "--image-size", f"{size[0]}x{size[1]}", *more)
        return (path, None) if run.returncode == 0 else (None, run.stderr.strip())

    def onnxruntime(self, path, pixels, entries={}):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"pixel_values": pixels})))

    def with_openvino(self, path, pixels):
        import openvino

        self.openvino = self.openvino or openvino.Core()
        # Its default would be bfloat16 on processors that have it, and 8 bits for what matrices in 8 bits are multiplied with.
        precision = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        model = self.openvino.compile_model(self.openvino.read_model(str(path)), "CPU", precision)
        found = model({"pixel_values": pixels})
        return {output.any_name: found[output] for output in model.outputs}


def deviation(found, expected):
    """The worst difference over all outputs; infinite if one is missing or has another shape."""
    if set(found) != set(expected):
        return float("inf")
    worst = 0.0
    for name, values in expected.items():
        if found[name].shape != values.shape or not numpy.isfinite(found[name]).all():
            return float("inf")
        worst = max(worst, apart(found[name], values, values))
    return worst


def apart(found, expected, reference):
    """The largest difference over the deviation of the reference; a head of zeros must give zeros."""
    worst = float(numpy.abs(found - expected).max())
    if worst == 0.0:
        return 0.0
    spread = float(reference.std())
    return worst / spread if spread > 0.0 and numpy.isfinite(worst) else float("inf")


def compare(run, path, pixels, expected):
    """The worst deviation with three images and with one."""
    one = {name: values[:1] for name, values in expected.items()}
    several = run(path, pixels)
    alone = run(path, pixels[:1])
    # In units of all images' deviation: one image of few classes has hardly any.
    worst = deviation(several, expected)
    for name, values in one.items():
        if name not in alone or alone[name].shape != values.shape:
            return float("inf")
        worst = max(worst, apart(alone[name], values, expected[name]))
    return worst


def three_images(pixels):
    """Three images out of two."""
    third = (pixels[:1] * 0.5 - pixels[-1:] * 0.75).astype(numpy.float32)
    return numpy.concatenate([pixels, third])[:3]


def check_metadata(path, size):
    model = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(entries["image_size"]) == list(size), entries["image_size"]
    assert json.loads(entries["model"])["width"] > 0
    if "labels" in entries:
        labels = json.loads(entries["labels"])
        shapes = {output.name: output.type.tensor_type.shape.dim for output in model.graph.output}
        assert len(labels) == shapes["logits"][-1].dim_value
    if "preprocess" in entries:
        assert len(json.loads(entries["mean"])) == len(json.loads(entries["std"]))
    return entries


def check_one(checker, model, config, pixels, sampled, row, opsets):
    size = pixels.shape[2:]
    expected = checker.forward(model, config, pixels)
    for opset in opsets:
        path, refused = checker.export(model, config, size, "--opset", opset)
        if refused:
            row["refused"].append((model.name, refused))
            return
        onnx.checker.check_model(str(path), full_check=True)
        check_metadata(path, size)
        worst = compare(checker.onnxruntime, path, pixels, expected)
        row["worst"] = max(row["worst"], (worst, f"{model.name}, opset {opset}"))
        if sampled:
            worst = compare(checker.with_openvino, path, pixels, expected)
            row["openvino"] = max(row["openvino"], (worst, f"{model.name}, opset {opset}"))
    row["exported"] += 1


def check_sixteen_bits(checker, model, config, pixels):
    """Deviations from Vitral's own model in that type, weights inside and outside of the graph."""
    found = {}
    for dtype in ("bf16", "f16"):
        bundle = checker.scratch / f"bundle-{model.name}-{dtype}"
        run = checker.vitral("convert", model, bundle, "--to", "bundle", *config, "--dtype", dtype)
        assert run.returncode == 0, run.stderr
        expected = checker.forward(bundle, [], pixels)
        for more in ((), ("--external-data",)):
            path, refused = checker.export(model, config, pixels.shape[2:], "--dtype", dtype, *more)
            assert not refused, refused
            assert bool(more) == path.with_name(path.name + ".data").exists()
            onnx.checker.check_model(str(path), full_check=True)
            worst = compare(checker.onnxruntime, path, pixels, expected)
            found[dtype] = max(found.get(dtype, 0.0), worst)
    return found


def in_floats(checker, path, pixels):
    """In ONNX Runtime, which would otherwise round what matrices in 8 bits are multiplied with to 8 bits, too."""
    return checker.onnxruntime(path, pixels, {"session.qdq_matmulnbits_accuracy_level": "1"})


def check_eight_bits(checker, model, config, pixels, opsets):
    """Deviations of a graph in 8 bits: in floats, in OpenVINO, in ONNX Runtime as it comes; and its size over that in f32.

    None if the model does not say how images are prepared, or has no matrices.
    """
    bundle = checker.scratch / f"bundle-{model.name}-int8"
    run = checker.vitral("quantize", model, bundle, *config, "--images", ROOT / "assets/images")
    if "how images are preprocessed" in run.stderr:
        return None
    assert run.returncode == 0, run.stderr
    expected = checker.forward(bundle, ["--device", "reference", "--precision", "f32"], pixels)
    found = {"floats": 0.0, "openvino": 0.0, "as it comes": 0.0}
    for opset in opsets:
        for more in ((), ("--external-data",)):
            path, refused = checker.export(bundle, [], pixels.shape[2:], "--opset", opset, *more)
            assert not refused, refused
            onnx.checker.check_model(str(path), full_check=True)
            kinds = {tensor.data_type for tensor in onnx.load(path, load_external_data=False).graph.initializer}
            if onnx.TensorProto.INT8 not in kinds:
                return None  # A ResNet has filters alone.
            floats = compare(lambda *given: in_floats(checker, *given), path, pixels, expected)
            found["floats"] = max(found["floats"], floats)
        found["openvino"] = max(found["openvino"], compare(checker.with_openvino, path, pixels, expected))
        found["as it comes"] = max(found["as it comes"], compare(checker.onnxruntime, path, pixels, expected))
    size = sum(file.stat().st_size for file in checker.scratch.glob("model.onnx*"))
    checker.export(bundle, [], pixels.shape[2:], "--opset", opsets[-1], "--dtype", "f32")
    found["size"] = size / sum(file.stat().st_size for file in checker.scratch.glob("model.onnx*"))
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("binary")
    arguments.add_argument("--only", default="", help="models whose name has this in it")
    arguments.add_argument("--opsets", default=",".join(map(str, OPSETS)))
    arguments.add_argument("--openvino", type=int, default=3, help="how many models of each family OpenVINO takes")
    arguments = arguments.parse_args()
    opsets = [int(opset) for opset in arguments.opsets.split(",")]
    rows, sixteen, eight = {}, {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        checker = Checker(arguments.binary, scratch)
        models = sorted(path for path in (ROOT / "goldens/models").iterdir() if arguments.only in path.name)
        for model in models:
            described = model / "vitral-config.json"
            config = ["--config", described] if described.exists() else []
            row = rows.setdefault(
                family(model.name),
                {"models": 0, "exported": 0, "refused": [], "worst": (0.0, ""), "openvino": (0.0, "")},
            )
            row["models"] += 1
            pixels = three_images(load_file(model / "input.safetensors")["pixel_values"].astype(numpy.float32))
            sampled = row["models"] <= arguments.openvino
            check_one(checker, model, config, pixels, sampled, row, opsets)
            if row["models"] == 1:
                for dtype, worst in check_sixteen_bits(checker, model, config, pixels).items():
                    sixteen[dtype] = max(sixteen.get(dtype, (0.0, "")), (worst, model.name))
            if family(model.name) not in eight:
                found = check_eight_bits(checker, model, config, pixels, opsets)
                if found:
                    eight[family(model.name)] = (model.name, found)
            print(f"\r{model.name:40}", end="", file=sys.stderr, flush=True)
        real = Path(os.environ.get("VITRAL_DATA", Path.home() / ".cache/vitral-data")) / "dinov2-s14"
        if real.is_dir() and not arguments.only:
            row = {"models": 1, "exported": 0, "refused": [], "worst": (0.0, ""), "openvino": (0.0, "")}
            rows["DINOv2 S/14, real weights, 224 pixels"] = row
            pixels = numpy.random.default_rng(7).standard_normal((3, 3, 224, 224), dtype=numpy.float32)
            check_one(checker, real, [], pixels, True, row, opsets)
            eight["DINOv2 S/14"] = (real.name, check_eight_bits(checker, real, [], pixels, opsets))
        print("\r" + " " * 40, file=sys.stderr)

    faults = []
    print(f"| family | models | exported | worst, ONNX Runtime {onnxruntime.__version__} | worst, OpenVINO |")
    print("|---|---|---|---|---|")
    for name, row in sorted(rows.items()):
        worst, where = row["worst"]
        other, other_where = row["openvino"]
        print(f"| {name} | {row['models']} | {row['exported']} | {worst:.1e} | {other:.1e} |")
        faults += [f"{name}: {where}: {worst:.1e}"] * (worst > TOLERANCE)
        faults += [f"{name}: OpenVINO, {other_where}: {other:.1e}"] * (other > TOLERANCE)
        for model, reason in row["refused"]:
            faults.append(f"{model}: {reason}")
    total = [sum(row[key] for row in rows.values()) for key in ("models", "exported")]
    worst = [max(row[key][0] for row in rows.values()) for key in ("worst", "openvino")]
    print(f"| **all** | {total[0]} | {total[1]} | {worst[0]:.1e} | {worst[1]:.1e} |")
    print()
    for dtype, (worst, where) in sixteen.items():
        print(f"{dtype}: the first model of each family deviates from Vitral's own in {dtype} by at most {worst:.1e}.")
        faults += [f"{dtype}: {where}: {worst:.1e}"] * (worst > TOLERANCE)
    for kind, what in [("floats", "ONNX Runtime, in floats"), ("openvino", "OpenVINO, in floats"), ("as it comes", "ONNX Runtime")]:
        if not eight:
            break
        worst, where = max((found[kind], name) for name, found in eight.values())
        print(f"int8: {len(eight)} models deviate from their rounded weights by at most {worst:.1e} ({what}).")
        faults += [f"int8, {what}: {where}: {worst:.1e}"] * (worst > (TOLERANCE if kind != "as it comes" else ROUNDED))
    if "DINOv2 S/14" in eight:
        print(f"int8: the graph of DINOv2 S/14 takes {eight['DINOv2 S/14'][1]['size']:.3f} of its size in f32.")
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
