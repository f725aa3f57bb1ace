"""What DINOv3's and BEiT's image processors make of two of the images in `goldens/image`. DINOv3's rescales before it resizes.

    python tools/golden/preprocess_later.py
"""

import json

import torch
import transformers
from safetensors.numpy import save_file

from preprocess import OUT, decode, sampled

DINOV3 = [
    {"image_processor_type": "DINOv3ViTImageProcessorFast"},
    {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 28}},
    {"image_processor_type": "DINOv3ViTImageProcessor", "size": {"height": 20, "width": 61}, "resample": 3},
    {"image_processor_type": "DINOv3ViTImageProcessorFast", "do_resize": False, "image_mean": [0.5] * 3},
]

BEIT = [
    {"image_processor_type": "BeitImageProcessor"},
    {"image_processor_type": "BeitImageProcessorFast", "size": {"height": 32, "width": 28}, "do_reduce_labels": False},
    {"feature_extractor_type": "BeitFeatureExtractor", "size": 36, "resample": 2, "do_center_crop": True, "crop_size": 30},
]


def write(name, configs, processor_class):
    described, tensors = [], {}
    for source in ["rgb.png", "tall.png"]:
        image = decode(OUT / source)
        for config in configs:
            given = {key: value for key, value in config.items() if not key.endswith("_type")}
            tensor = processor_class(**given)(image, return_tensors="pt")["pixel_values"][0].numpy()
            case = {"origin": "huggingface", "config": config, "model_type": None}
            case |= {"image": source, "shape": list(tensor.shape)}
            case["stride"], tensors[str(len(described))] = sampled(tensor)
            described.append(case)
    (OUT / f"{name}.json").write_text("[\n" + ",\n".join(map(json.dumps, described)) + "\n]\n")
    save_file(tensors, OUT / f"{name}.safetensors")


def main():
    torch.set_num_threads(1)
    write("dinov3", DINOV3, transformers.DINOv3ViTImageProcessor)
    write("beit", BEIT, transformers.BeitImageProcessorPil)


if __name__ == "__main__":
    main()
