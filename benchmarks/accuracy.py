#!/usr/bin/env python3
"""What 16 and 8 bits cost in accuracy, here and elsewhere: one model, the same preprocessed images, several engines.

  python benchmarks/accuracy.py target/release/vitral MODEL IMAGES [--calibrate 32] [--out FILE]

MODEL is a classifier; IMAGES a folder with a folder for each of its classes. Needs numpy, safetensors, onnx, onnxruntime,
openvino and nncf in the Python that runs it. The other engines take the graph that `vitral convert --to onnx` writes, and
the pixels that `vitral preprocess` writes:

  vitral-f32, vitral-bf16, vitral-int8   `vitral forward --precision`; int8 by scales of the weights alone
  vitral-quantized                       a bundle by `vitral quantize` with so many images
  onnxruntime-f32, onnxruntime-int8      dynamic quantization: weights per channel, activations as they come
  openvino-int8                          NNCF's post-training quantization, for transformers, with the same number of images

Of each: accuracy, images answered as in f32, and the cosine of logits with those in f32.
"""
import argparse, json, pathlib, subprocess, tempfile

import numpy as np
from safetensors.numpy import load_file


def labeled(folder, labels):
    """Images and their classes, in order."""
    found = [(path, labels.index(path.parent.name)) for path in sorted(folder.glob("*/*")) if path.parent.name in labels]
    assert found, f"{folder}: expected folders named like the model's classes ({', '.join(labels[:5])}…), found none"
    return [path for path, _ in found], np.array([label for _, label in found])


def onnxruntime(path, pixels, name):
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([name], {"pixel_values": part})[0] for part in np.array_split(pixels, len(pixels) // 64 + 1)])


def openvino(graph, pixels, calibration):
    import nncf
    import openvino as ov

    data = nncf.Dataset(np.array_split(calibration, len(calibration)), lambda x: {"pixel_values": x})
    model = nncf.quantize(ov.Core().read_model(graph), data, model_type=nncf.ModelType.TRANSFORMER,
                          subset_size=len(calibration))
    compiled = ov.Core().compile_model(model, "CPU")
    parts = np.array_split(pixels, len(pixels) // 64 + 1)
    return np.concatenate([compiled({"pixel_values": part})["logits"] for part in parts])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("model")
    parser.add_argument("images", type=pathlib.Path)
    parser.add_argument("--calibrate", type=int, default=32)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp())

    def vitral(*words):
        done = subprocess.run([arguments.binary, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, f"vitral {words[0]}: {done.stderr}"
        return done.stdout

    labels = json.loads(vitral("info", arguments.model, "--json"))["labels"]
    paths, truth = labeled(arguments.images, labels)
    (place / "list.txt").write_text("\n".join(map(str, paths)))
    vitral("preprocess", "--model", arguments.model, "--files-from", place / "list.txt", "--output", place / "in.safetensors")
    pixels = load_file(place / "in.safetensors")["pixel_values"]
    vitral("convert", arguments.model, place / "f32.onnx", "--to", "onnx")
    vitral("quantize", arguments.model, place / "int8", "--images", arguments.images, "--calibrate", arguments.calibrate)

    def forward(model, *words):
        vitral("forward", "--model", model, "--input", place / "in.safetensors", "--output", place / "out.safetensors", *words)
        return load_file(place / "out.safetensors")["logits"]

    logits = {f"vitral-{kind}": forward(arguments.model, "--precision", kind) for kind in ["f32", "bf16", "int8"]}
    logits["vitral-quantized"] = forward(place / "int8")
    graph = str(place / "f32.onnx")
    logits["onnxruntime-f32"] = onnxruntime(graph, pixels, "logits")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    narrow = str(place / "onnxruntime.onnx")
    quantize_dynamic(graph, narrow, weight_type=QuantType.QInt8, per_channel=True)
    logits["onnxruntime-int8"] = onnxruntime(narrow, pixels, "logits")
    chosen = np.random.default_rng(0).choice(len(pixels), arguments.calibrate, replace=False)
    logits["openvino-int8"] = openvino(graph, pixels, pixels[chosen])

    exact, rows = logits["vitral-f32"], []
    for name, found in logits.items():
        cosine = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
        rows.append(dict(engine=name, images=len(truth), accuracy=round(float((found.argmax(1) == truth).mean()), 5),
                         as_f32=round(float((found.argmax(1) == exact.argmax(1)).mean()), 5),
                         cosine_mean=round(float(cosine.mean()), 6), cosine_least=round(float(cosine.min()), 6)))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        pathlib.Path(arguments.out).write_text("\n".join(map(json.dumps, rows)) + "\n")


if __name__ == "__main__":
    main()
