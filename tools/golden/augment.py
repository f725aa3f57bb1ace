"""Writes goldens/augment/: what Pillow, timm and torchvision make of small images, of batches and of fixed draws.

    python tools/golden/augment.py

Needs Pillow 13, numpy, safetensors, torch, torchvision and timm.
"""

import json
import math
import pathlib
from unittest import mock

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from safetensors.numpy import save_file
from timm.data import auto_augment as timm_ops
from timm.data.mixup import cutmix_bbox_and_lam, mixup_target
from torchvision.transforms import functional as F

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens" / "augment"
FILL = (124, 116, 104)
FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def image(width=29, height=23):
    """Waves, a hard edge and some noise, within levels that leave something to stretch."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = np.stack([np.sin(x / 4 + y / 9), np.cos(x / 5 - y / 3), np.sin(x * y / 40)], -1) * 80 + 120
    waves[5:12, 8:17] = [215, 20, 60]
    noise = np.random.default_rng(3).integers(-15, 15, waves.shape)
    return Image.fromarray(np.clip(waves + noise, 0, 255).astype(np.uint8))


def operations():
    plain = [
        ("auto-contrast", lambda im: ImageOps.autocontrast(im)),
        ("equalize", lambda im: ImageOps.equalize(im)),
        ("invert", lambda im: ImageOps.invert(im)),
    ]
    for name, run in plain:
        yield name, "bilinear", run
    for bits in [1, 3, 4, 7, 8]:
        yield {"posterize": bits}, "bilinear", lambda im: timm_ops.posterize(im, bits)
    for level in [0, 26, 128, 256]:
        yield {"solarize": level}, "bilinear", lambda im: timm_ops.solarize(im, level)
    for more in [0, 55, 99, 128]:
        yield {"solarize-add": more}, "bilinear", lambda im: timm_ops.solarize_add(im, more)
    for name in ["color", "contrast", "brightness", "sharpness"]:
        for factor in [0.0, 0.1, 0.73, 1.0, 1.31, 1.9]:
            yield {name: factor}, "bilinear", lambda im: getattr(timm_ops, name)(im, factor)
    for share in [-0.5, -0.1, 0.04, 0.31]:
        yield {"hue": share}, "bilinear", lambda im: F.adjust_hue(im, share)
    for deviation in [0.1, 0.5, 1.0, 1.7, 2.0, 9.5]:
        blur = ImageFilter.GaussianBlur(radius=deviation)
        yield {"gaussian-blur": deviation}, "bilinear", lambda im: im.filter(blur)
    for filter, number in FILTERS.items():
        kwargs = lambda: dict(resample=number, fillcolor=FILL)
        for degrees in [-29.3, -9.0, 3.5, 27.0, 90.0, 180.0]:
            yield {"rotate": degrees}, filter, lambda im: timm_ops.rotate(im, degrees, **kwargs())
        for factor in [-0.27, 0.05, 0.3]:
            yield {"shear-x": factor}, filter, lambda im: timm_ops.shear_x(im, factor, **kwargs())
            yield {"shear-y": factor}, filter, lambda im: timm_ops.shear_y(im, factor, **kwargs())
        for share in [-0.405, 0.11]:
            yield {"translate-x-rel": share}, filter, lambda im: timm_ops.translate_x_rel(im, share, **kwargs())
            yield {"translate-y-rel": share}, filter, lambda im: timm_ops.translate_y_rel(im, share, **kwargs())


def levels():
    """Arguments of timm's levels, for both directions of those that have two."""
    names = {"Posterize": "posterize", "Solarize": "solarize", "SolarizeAdd": "solarize-add", "Rotate": "rotate",
             "Color": "color", "Contrast": "contrast", "Brightness": "brightness", "Sharpness": "sharpness",
             "ShearX": "shear-x", "ShearY": "shear-y", "TranslateXRel": "translate-x-rel",
             "TranslateYRel": "translate-y-rel"}
    for increasing in [False, True]:
        for name, ours in names.items():
            grown = name + "Increasing" if increasing and name + "Increasing" in timm_ops.LEVEL_TO_ARG else name
            for magnitude in [0.0, 1.5, 5.0, 8.73, 9.0, 10.0]:
                for negative in [False, True]:
                    with mock.patch.object(timm_ops.random, "random", lambda: 0.9 if negative else 0.1):
                        (value,) = timm_ops.LEVEL_TO_ARG[grown](magnitude, {})
                    yield {"choice": name, "magnitude": magnitude, "increasing": increasing, "negative": negative,
                           "operation": {ours: value}}


class Draws:
    """Uniform numbers from a list, where torchvision draws."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def empty(self, _):
        outer = self

        class Holder:
            def uniform_(self, low, high):
                return torch.tensor([low + (high - low) * next(outer.numbers)], dtype=torch.float64)

        return Holder()

    def randint(self, low, high, size):
        return torch.tensor([low + math.floor(next(self.numbers) * (high - low))])

    def log(self, x):
        return torch.log(x.double())

    def exp(self, x):
        return torch.exp(x)

    def tensor(self, x):
        return torch.tensor(x, dtype=torch.float64)


def windows():
    rng = np.random.default_rng(11)
    cases = [((64, 48), (0.08, 1.0), (3 / 4, 4 / 3)), ((20, 2000), (0.08, 1.0), (3 / 4, 4 / 3)),
             ((1, 1), (0.08, 1.0), (3 / 4, 4 / 3)), ((2000, 20), (0.5, 1.0), (3 / 4, 4 / 3)), ((32, 32), (0.9, 1.0), (1.0, 1.0)),
             ((7, 5), (0.3, 0.6), (0.5, 2.0))]
    for (height, width), scale, ratio in cases:
        for _ in range(6):
            numbers = rng.random(22).tolist()
            draws = Draws(numbers)
            image = Image.new("RGB", (width, height))
            with mock.patch("torchvision.transforms.transforms.torch", draws):
                top, left, rows, columns = T.RandomResizedCrop.get_params(image, list(scale), list(ratio))
            yield {"height": height, "width": width, "scale": scale, "ratio": ratio, "draws": numbers,
                   "window": [int(top), int(left), int(rows), int(columns)]}


def mixes(tensors):
    rng = np.random.default_rng(5)
    for index, (batch, size, keep, center, smoothing) in enumerate(
        [(4, (6, 8), 0.3, None, 0.0), (5, (6, 8), 0.81, None, 0.1), (4, (7, 9), 0.36, (3, 4), 0.1),
         (5, (8, 8), 0.6, (0, 7), 0.0), (2, (8, 6), 0.02, (5, 1), 0.2), (2, (8, 6), 0.999, (5, 1), 0.2)]):
        x = torch.from_numpy(rng.standard_normal((batch, 3, *size)).astype(np.float32))
        labels = torch.from_numpy(rng.integers(0, 7, batch))
        tensors[f"mix.{index}.pixels"] = x.numpy().copy()
        lam = keep
        if center is None:
            flipped = x.flip(0).mul_(1 - lam)
            x.mul_(lam).add_(flipped)
        else:
            with mock.patch("timm.data.mixup.np.random.randint", side_effect=list(center)):
                (yl, yh, xl, xh), lam = cutmix_bbox_and_lam(x.shape, lam)
            x[:, :, yl:yh, xl:xh] = x.flip(0)[:, :, yl:yh, xl:xh]
        targets = mixup_target(labels, 7, lam, smoothing)
        tensors[f"mix.{index}.mixed"] = x.numpy()
        tensors[f"mix.{index}.targets"] = targets.numpy()
        yield {"keep": keep, "center": center, "smoothing": smoothing, "labels": labels.tolist()}


def augmix(tensors):
    """timm's AugMix with weights, chains and share that are given in place of drawn."""
    rng = np.random.default_rng(17)
    known = [(operation, filter, run) for operation, filter, run in operations() if filter != "nearest"]
    number = lambda operation: operation if isinstance(operation, str) else next(iter(operation))
    usable = [i for i, (operation, *_) in enumerate(known) if number(operation) not in ("hue", "gaussian-blur")]
    for index, (width, depths) in enumerate([(3, [1, 3, 2]), (1, [1]), (4, [2, 2, 1, 3]), (2, [3, 1]), (3, [1, 1, 1])]):
        chains = [[int(i) for i in rng.choice(usable, depth)] for depth in depths]
        weights, share = rng.dirichlet([1.0] * width), [rng.beta(1.0, 1.0), 0.0, 1.0][index % 4 if index % 4 < 3 else 0]
        # The operations close over the loop that makes them, so each is run while it is current.
        made = {}

        def run(link):
            def applied(image):
                for i, (_, _, run) in enumerate(o for o in operations() if o[1] != "nearest"):
                    if i == link:
                        return run(image)
            return made.setdefault(link, applied)

        given = dict(dirichlet=[weights], beta=[share], randint=depths, choice=[[run(link) for link in c] for c in chains])
        given = {name: mock.Mock(side_effect=values) for name, values in given.items()}
        with mock.patch.multiple(np.random, **given):
            mixed = timm_ops.AugMixAugment([], width=width)(image())
        tensors[f"mixed.{index}"] = np.array(mixed)
        yield {"weights": [float(np.float32(w)) for w in weights], "share": float(np.float32(share)),
               "chains": [[{"operation": known[i][0], "filter": known[i][1]} for i in chain] for chain in chains]}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    image = image()
    tensors = {"image": np.array(image)}
    cases = []
    for index, (operation, filter, run) in enumerate(operations()):
        tensors[f"operation.{index}"] = np.array(run(image))
        cases.append({"operation": operation, "filter": filter})
    record = {"fill": FILL, "operations": cases, "levels": list(levels()), "windows": list(windows()),
              "mixes": list(mixes(tensors))}
    (OUT / "cases.json").write_text(json.dumps(record) + "\n")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, OUT / "expected.safetensors")
    mixed = {}
    (OUT / "augmix.json").write_text(json.dumps({"cases": list(augmix(mixed))}) + "\n")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in mixed.items()}, OUT / "augmix.safetensors")
    print(f"{len(cases)} operations, {len(record['levels'])} levels, {len(record['windows'])} windows")


if __name__ == "__main__":
    main()
