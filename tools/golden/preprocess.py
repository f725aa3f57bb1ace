"""Writes goldens/image/: small made-up images, and what Pillow, transformers, timm and torchvision make of them.

    python tools/golden/preprocess.py [--data ../shared/data]

Needs Pillow 13, numpy, safetensors, torch, torchvision, timm and transformers. With --data, compact expectations for
the images found there (15 × 15 samples of a tensor, 16 × 16 thumbnails) are written too; the images are not copied.
"""

import argparse
import json
import pathlib
import warnings

import numpy as np
import timm.data
import torchvision.models
import transformers
from PIL import Image, ImageOps
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens" / "image"
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def pattern(width, height):
    """Smooth waves with a hard edge and some noise, so that every filter has something to do."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / 5 + y / 11), np.cos(x / 7 - y / 6), np.sin((x * y) / 90)]
    image = np.stack(waves, -1) * 90 + 128
    image[height // 3 : height // 2, width // 4 : width // 2] = [250, 20, 60]
    noise = np.random.default_rng(7).integers(-20, 20, image.shape)
    return Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8))


def write_pictures():
    base = pattern(61, 47)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    mirrored = Image.Exif()
    mirrored[0x0112] = 7
    wide = Image.fromarray((np.array(base.convert("L")).astype(np.uint16) * 257 + 3).astype(np.uint16))
    save = lambda name, image, **options: image.save(OUT / name, **options)
    save("rgb.png", base)
    save("tall.png", pattern(31, 83))
    save("palette.png", base.convert("P", palette=Image.Palette.ADAPTIVE, colors=60))
    save("bilevel.png", base.convert("1"))
    save("gray.png", base.convert("L"))
    save("gray16.png", wide)
    alpha = base.copy()
    alpha.putalpha(base.convert("L"))
    save("alpha.png", alpha)
    save("gray_alpha.png", alpha.convert("LA"))
    save("orientation6.png", base, exif=rotated)
    save("baseline.jpg", base, quality=90, subsampling=0)
    save("progressive_420.jpg", base, quality=85, subsampling=2, progressive=True)
    save("orientation6.jpg", base, quality=90, exif=rotated)
    save("orientation7.jpg", base, quality=90, exif=mirrored)
    save("gray.jpg", base.convert("L"), quality=90)
    save("cmyk.jpg", base.convert("CMYK"), quality=95, subsampling=0)
    save("rgb_components.jpg", base, quality=90, keep_rgb=True)
    save("lossless.webp", alpha, lossless=True, exact=True)
    save("lossy.webp", base, quality=85)
    save("orientation6.webp", base, lossless=True, exif=rotated)
    save("frame.gif", base)
    save("rgb.bmp", base)
    save("palette.bmp", base.convert("P"))
    save("lzw.tiff", base, compression="tiff_lzw")
    save("orientation6.tiff", base, compression="tiff_adobe_deflate", exif=rotated)
    save("cmyk.tiff", base.convert("CMYK"))


def decode(path):
    image = Image.open(path)
    image.load()
    if image.mode.startswith("I;16"):  # Vitral keeps the high byte, where Pillow would clip to white.
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    return ImageOps.exif_transpose(image).convert("RGB")


HUGGINGFACE = [
    ({"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 28}}, None),
    ({"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 32}, "vit"),
    ({"feature_extractor_type": "ViTFeatureExtractor", "size": 24, "resample": 3}, None),
    ({"feature_extractor_type": "DeiTFeatureExtractor", "size": 36, "crop_size": 30}, None),
    ({"image_processor_type": "DeiTImageProcessorFast", "size": {"height": 36, "width": 36}, "crop_size": [31, 27]}, None),
    ({"image_processor_type": "DeiTImageProcessor", "size": 20, "crop_size": 33}, None),
    ({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32},
      "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 0.00392156862745098}, None),
    ({"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "do_convert_rgb": True}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 21}, "crop_size": {"height": 36, "width": 24}}, None),
    ({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 30, "longest_edge": 34}, "crop_size": 30}, None),
    ({"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}}, None),
    ({"image_processor_type": "SiglipImageProcessor", "size": {"height": 29, "width": 33}, "do_normalize": False, "resample": 1}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": 30, "do_rescale": False, "do_normalize": False, "resample": 0}, None),
    ({"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_center_crop": True, "crop_size": 40}, None),
    ({"image_processor_type": "ViTImageProcessor", "size": 28, "image_mean": [0.1307], "image_std": [0.3081], "resample": 2}, None),
]
FULL_SIZE = [
    ({"image_processor_type": "ViTImageProcessor"}, None),
    ({"image_processor_type": "DeiTImageProcessor"}, None),
    ({"image_processor_type": "BitImageProcessor"}, None),
    ({"image_processor_type": "CLIPImageProcessor"}, None),
    ({"image_processor_type": "SiglipImageProcessor"}, None),
]
TIMM = [
    {"input_size": [3, 32, 32], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3},
    {"input_size": [3, 33, 33], "interpolation": "bilinear", "crop_pct": 0.875},
    {"input_size": [3, 32, 32], "crop_pct": 1.0, "crop_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3},
    {"input_size": [3, 30, 30], "crop_pct": 0.95, "crop_mode": "squash"},
    {"input_size": [3, 32, 32], "crop_pct": 0.9, "crop_mode": "border"},
    {"input_size": [3, 31, 31], "crop_pct": 1.0, "crop_mode": "border", "mean": [0.5] * 3, "std": [0.5] * 3},
    {"input_size": [3, 24, 40], "crop_pct": 0.9, "interpolation": "bicubic"},
    {"input_size": [3, 40, 24], "crop_pct": 0.8, "interpolation": "lanczos"},
    {"input_size": [1, 28, 28], "crop_pct": 0.9, "mean": [0.1307], "std": [0.3081], "interpolation": "nearest"},
    {"input_size": [3, 36, 36], "crop_pct": 1.0, "interpolation": "hamming", "mean": [0.0] * 3, "std": [1.0] * 3},
    {"num_classes": 10},
]


def huggingface(config, model_type, image):
    config = dict(config)
    name = config.pop("image_processor_type", None) or config.pop("feature_extractor_type", None)
    name = (name or {"vit": "ViTImageProcessor"}[model_type]).replace("FeatureExtractor", "ImageProcessor")
    processor = getattr(transformers, name.removesuffix("Fast") + "Pil")(**config)
    if len(config.get("image_mean", [0] * 3)) == 1:
        image = image.convert("L")
    return processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)


def timm_transform(config, image):
    resolved = timm.data.resolve_data_config(pretrained_cfg=config)
    if resolved["input_size"][0] == 1:
        image = image.convert("L")
    return timm.data.create_transform(**resolved)(image).numpy()


def cases(image_name):
    image = decode(OUT / image_name)
    for config, model_type in HUGGINGFACE + FULL_SIZE:
        tensor = huggingface(config, model_type, image)
        yield {"origin": "huggingface", "config": config, "model_type": model_type}, tensor
    for config in TIMM:
        yield {"origin": "timm", "config": config}, timm_transform(config, image)
    for model in ["vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"]:
        for weights in torchvision.models.get_model_weights(model):
            tensor = weights.transforms()(image).numpy()
            yield {"origin": "torchvision", "model": model, "weights": weights.name}, tensor


def sampled(tensor):
    """A tensor is kept at every second row and column, a large one at every fifteenth."""
    stride = 15 if max(tensor.shape) > 64 else 2
    return stride, np.ascontiguousarray(tensor[:, ::stride, ::stride])


def write_synthetic():
    suffixes = (".json", ".safetensors", ".gz")
    images = {p.name: np.array(decode(p)) for p in sorted(OUT.iterdir()) if p.is_file() and p.suffix not in suffixes}
    save_file(images, OUT / "decoded.safetensors")
    resized = {}
    for source in ["rgb.png", "tall.png"]:
        image = decode(OUT / source)
        for height, width in [(1, 1), (7, 5), (24, 24), (47, 20), (20, 61), (50, 70)]:
            for name, number in FILTERS.items():
                resized[f"{source} {height} {width} {name}"] = np.array(image.resize((width, height), number))
    save_file(resized, OUT / "resized.safetensors")
    described, tensors = [], {}
    for source in ["rgb.png", "tall.png"]:
        for case, tensor in cases(source):
            case["image"], case["shape"] = source, list(tensor.shape)
            case["stride"], tensors[str(len(described))] = sampled(tensor)
            described.append(case)
    (OUT / "preprocessed.json").write_text("[\n" + ",\n".join(map(json.dumps, described)) + "\n]\n")
    save_file(tensors, OUT / "preprocessed.safetensors")


def write_shared(data):
    described, tensors = [], {}
    kinds = [("huggingface", *pair) for pair in FULL_SIZE]
    kinds += [("timm", TIMM[-1], None), ("timm", {"crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}, None)]
    files = sorted(data.glob("photos/*")) + sorted(data.glob("exif-orientation/*.jpg"))
    for index, path in enumerate(files):
        origin, config, model_type = kinds[index % len(kinds)]
        image = decode(path)
        tensor = huggingface(config, model_type, image) if origin == "huggingface" else timm_transform(config, image)
        case = {"origin": origin, "config": config, "model_type": model_type, "image": str(path.relative_to(data))}
        case["shape"] = list(tensor.shape)
        case["stride"], tensors[str(index)] = sampled(tensor)
        described.append(case)
    (OUT / "shared.json").write_text("[\n" + ",\n".join(map(json.dumps, described)) + "\n]\n")
    save_file(tensors, OUT / "shared.safetensors")

    corpus, thumbnails = {}, {}
    suffixes = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
    for path in sorted(p for p in data.glob("image-corpus/**/*") if p.suffix in suffixes):
        name = str(path.relative_to(data))
        try:
            image = decode(path)
        except Exception as error:  # Pillow's own kinds are many.
            corpus[name] = {"refused": type(error).__name__}
            continue
        corpus[name] = {"width": image.width, "height": image.height}
        thumbnails[name] = np.array(image.resize((16, 16), FILTERS["bicubic"]))
    (OUT / "corpus.json").write_text(json.dumps(corpus, indent=0) + "\n")
    save_file(thumbnails, OUT / "corpus.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path)
    data = parser.parse_args().data
    warnings.simplefilter("ignore")
    OUT.mkdir(parents=True, exist_ok=True)
    write_pictures()
    write_synthetic()
    if data:
        write_shared(data.resolve())


if __name__ == "__main__":
    main()
