"""What DINOv3's, BEiT's and SigLIP 2's image processors make of two of the images in `goldens/image`. DINOv3's rescales before it
resizes; SigLIP 2's fits an image of any proportions into a number of patches.

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


SIGLIP2 = [
    {"image_processor_type": "Siglip2ImageProcessor"},
    {"image_processor_type": "Siglip2ImageProcessorFast", "max_num_patches": 64, "patch_size": 14},
    {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 7, "resample": 3, "image_std": [0.25] * 3},
    {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 1024, "patch_size": 8},
]


def image_of_patches(values):
    """The image that the patches of one image are cut from, without the padding."""
    height, width = values["spatial_shapes"][0].tolist()
    patches = values["pixel_values"][0][: height * width]
    side = int((patches.shape[-1] // 3) ** 0.5)
    patches = patches.reshape(height, width, side, side, 3)
    return patches.permute(4, 0, 2, 1, 3).reshape(3, height * side, width * side)


def write(name, configs, processor_class):
    described, tensors = [], {}
    for source in ["rgb.png", "tall.png"]:
        image = decode(OUT / source)
        for config in configs:
            given = {key: value for key, value in config.items() if not key.endswith("_type")}
            values = processor_class(**given)(image, return_tensors="pt")
            whole = "spatial_shapes" not in values
            tensor = (values["pixel_values"][0] if whole else image_of_patches(values)).numpy()
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
    write("siglip2", SIGLIP2, transformers.Siglip2ImageProcessorPil)


if __name__ == "__main__":
    main()
