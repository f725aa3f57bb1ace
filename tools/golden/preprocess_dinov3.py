"""What DINOv3's image processor makes of two of the pictures in `goldens/image`: it rescales before it resizes.

    python tools/golden/preprocess_dinov3.py
"""

import json

import torch
import transformers
from safetensors.numpy import save_file

from preprocess import OUT, decode, sampled

CONFIGS = [
    {"image_processor_type": "DINOv3ViTImageProcessorFast"},
    {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 32, "width": 28}},
    {"image_processor_type": "DINOv3ViTImageProcessor", "size": {"height": 20, "width": 61}, "resample": 3},
    {"image_processor_type": "DINOv3ViTImageProcessorFast", "do_resize": False, "image_mean": [0.5] * 3},
]


def main():
    torch.set_num_threads(1)
    described, tensors = [], {}
    for source in ["rgb.png", "tall.png"]:
        image = decode(OUT / source)
        for config in CONFIGS:
            given = {key: value for key, value in config.items() if key != "image_processor_type"}
            processor = transformers.DINOv3ViTImageProcessor(**given)
            tensor = processor(image, return_tensors="pt")["pixel_values"][0].numpy()
            case = {"origin": "huggingface", "config": config, "model_type": None}
            case |= {"image": source, "shape": list(tensor.shape)}
            case["stride"], tensors[str(len(described))] = sampled(tensor)
            described.append(case)
    (OUT / "dinov3.json").write_text("[\n" + ",\n".join(map(json.dumps, described)) + "\n]\n")
    save_file(tensors, OUT / "dinov3.safetensors")


if __name__ == "__main__":
    main()
