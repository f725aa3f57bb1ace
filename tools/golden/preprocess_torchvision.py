"""Writes goldens/image/torchvision.*: what transformers' processors on torchvision make of the small images.

    ATEN_CPU_CAPABILITY=avx2 python tools/golden/preprocess_torchvision.py

Needs what `preprocess.py` needs, its images, and a processor with AVX2: on others, torchvision resizes floats. The
numbers are the same with AVX-512.
"""

import json

import numpy as np
import torch
import transformers
from preprocess import FULL_SIZE, HUGGINGFACE, OUT, decode, sampled
from preprocess_later import BEIT, DINOV3
from safetensors.numpy import save_file
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF

SIZES = [(2, 3), (7, 5), (24, 24), (47, 20), (20, 61), (50, 70), (140, 9), (47, 61)]
FILTERS = ["nearest-exact", "lanczos", "bilinear", "bicubic"]
# Each class again in numbers that have no round binary form, and steps left out.
MORE = [
    {"image_processor_type": "ViTImageProcessor", "size": 26, "rescale_factor": 0.00784313725490196},
    {"image_processor_type": "ViTImageProcessor", "size": 26, "do_normalize": False},
    {"image_processor_type": "ViTImageProcessor", "size": 26, "do_rescale": False},
    {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 23}, "crop_size": {"height": 30, "width": 27}},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 41}, "crop_size": 36, "resample": 1},
    {"image_processor_type": "SiglipImageProcessor", "size": {"height": 27, "width": 33}},
    {"image_processor_type": "BeitImageProcessor", "size": {"height": 27, "width": 33}},
]


def processed(config, model_type, image):
    config = dict(config)
    name = config.pop("image_processor_type", None) or config.pop("feature_extractor_type", None)
    name = (name or {"vit": "ViTImageProcessor"}[model_type]).replace("FeatureExtractor", "ImageProcessor")
    processor = getattr(transformers, name.removesuffix("Fast"))(**config)
    assert processor.backend == "torchvision", name
    if len(config.get("image_mean", [0] * 3)) == 1:
        image = image.convert("L")
    return processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)


def main():
    torch.set_num_threads(1)
    assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"), "torchvision would resize floats"
    resized, described, tensors = {}, [], {}
    pairs = HUGGINGFACE + FULL_SIZE + [(config, None) for config in MORE + BEIT + DINOV3]
    for source in ["rgb.png", "tall.png"]:
        image = decode(OUT / source)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        for size in SIZES:
            for name in FILTERS:
                found = tvF.resize(pixels, list(size), interpolation=InterpolationMode(name), antialias=True)
                resized[f"{source} {size[0]} {size[1]} {name}"] = np.ascontiguousarray(found.permute(1, 2, 0).numpy())
        for config, model_type in pairs:
            tensor = processed(config, model_type, image)
            case = {"origin": "huggingface", "config": config, "model_type": model_type}
            case |= {"image": source, "shape": list(tensor.shape)}
            case["stride"], tensors[str(len(described))] = sampled(tensor)
            described.append(case)
    save_file(resized, OUT / "torchvision_resized.safetensors")
    (OUT / "torchvision.json").write_text("[\n" + ",\n".join(map(json.dumps, described)) + "\n]\n")
    save_file(tensors, OUT / "torchvision.safetensors")


if __name__ == "__main__":
    main()
