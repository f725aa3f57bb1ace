"""Models that take other bands than color, and images of bands: `goldens/bands`.

`model_N/` is a tiny model of timm with `in_chans=N` and a mean and a standard deviation for each band, with an input and what timm
computes from it. `images/` holds one image of five bands in many kinds of files (written by tifffile, NumPy, safetensors and
Pillow), `expected.safetensors` its samples, what PyTorch makes of it (antialiased `interpolate` in float32, a center crop, scale,
mean and standard deviation), the logits of `model_5` for it, and the samples of the PNGs.

    python tools/golden/bands.py
"""

import json
from pathlib import Path

import numpy as np
import tifffile
import timm
import timm.data
import timm.models
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from common import pixels, randomize, seeded

OUT = Path(__file__).resolve().parents[2] / "goldens" / "bands"
SIZE, BANDS, CROP_PCT = (40, 52), 5, 0.875


def statistics(bands):
    """A mean and a standard deviation for each band, as for reflectances divided by 65535."""
    return [round(0.02 + 0.011 * band, 4) for band in range(bands)], [round(0.01 + 0.003 * band, 4) for band in range(bands)]


def model(bands, interpolation="bicubic"):
    name = f"model_{bands}"
    arguments = dict(
        embed_dim=16, depth=1, num_heads=2, img_size=32, patch_size=8, num_classes=3, mlp_ratio=2, in_chans=bands
    )
    net = timm.create_model("vit_tiny_patch16_224", **arguments).eval()
    randomize(net, seeded("bands " + name))
    folder = OUT / name
    timm.models.save_for_hf(net, folder, model_args=arguments, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    mean, std = statistics(bands)
    config["pretrained_cfg"] |= dict(
        input_size=[bands, 32, 32], mean=mean, std=std, crop_pct=CROP_PCT, interpolation=interpolation
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    resolved = timm.data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    assert list(resolved["mean"]) == mean and tuple(resolved["input_size"]) == (bands, 32, 32), resolved
    inputs = pixels(seeded(name + " input"), 1, bands, 32, 32)
    with torch.no_grad():
        tokens = net.forward_features(inputs)
        expected = dict(logits=net.forward_head(tokens), features=net.forward_head(tokens, pre_logits=True))
    save_file(dict(pixel_values=inputs), folder / "input.safetensors")
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    return net


def scene():
    """`[bands, height, width]`, uint16: gradients, edges and noise, like reflectances from 0 to 10,000."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    noise = np.random.default_rng(5).integers(0, 400, (BANDS, *SIZE))
    planes = [
        (rows * (band + 3) * 17 + columns * (7 - band) * 23) % 6000 + 2500 * ((rows // 9 + columns // 7 + band) % 2)
        for band in range(BANDS)
    ]
    return (np.stack(planes) + noise).astype(np.uint16)


def images(image):
    folder = OUT / "images"
    folder.mkdir(parents=True, exist_ok=True)
    last = np.ascontiguousarray(image.transpose(1, 2, 0))
    plain = dict(photometric="minisblack", metadata=None)
    extra = ["unspecified"] * (BANDS - 1)

    def tiff(name, array, **options):
        tifffile.imwrite(folder / name, array, **(plain | options))

    tiff("interleaved.tif", last, planarconfig="contig", extrasamples=extra)
    tiff("planar.tif", image, planarconfig="separate", extrasamples=extra)
    tiff("pages.tif", image)  # tifffile's default for such an array: a page for each band
    tiff(
        "deflate_predictor_tiles.tif", last, planarconfig="contig", extrasamples=extra, compression="zlib", predictor=True,
        tile=(16, 32),
    )
    tiff("planar_big_endian.tif", image, planarconfig="separate", extrasamples=extra, byteorder=">", rowsperstrip=7)
    tiff("big.tif", last, planarconfig="contig", extrasamples=extra, bigtiff=True)
    # Colors with more bands behind them, as GDAL writes them.
    tiff("rgb_and_more.tif", last, planarconfig="contig", photometric="rgb", extrasamples=["unspecified"] * 2)
    real = image.astype(np.float32) / np.float32(65535)
    tiff("float32.tif", np.ascontiguousarray(real.transpose(1, 2, 0)), planarconfig="contig", extrasamples=extra)
    np.save(folder / "last.npy", last)
    np.save(folder / "first.npy", image)
    np.save(folder / "fortran.npy", np.asfortranarray(last))
    np.save(folder / "float32.npy", real)
    np.savez_compressed(folder / "compressed.npz", image=last)
    save_arrays(dict(image=image), folder / "first.safetensors")
    eight = (last >> 5).astype(np.uint8)
    Image.fromarray(eight[:, :, :4], "RGBA").save(folder / "rgba.png")
    Image.fromarray(eight[:, :, :2], "LA").save(folder / "la.png")
    Image.fromarray(last[:, :, 0]).save(folder / "gray16.png")
    return eight


def prepared(image, mode, mean, std):
    """What a model of these statistics sees of the image."""
    x = torch.from_numpy(image.astype(np.float32))[None]
    short = int(32 / CROP_PCT)
    size = (short, int(short * SIZE[1] / SIZE[0])) if SIZE[0] <= SIZE[1] else (int(short * SIZE[0] / SIZE[1]), short)
    x = F.interpolate(x, size=size, mode=mode, antialias=True, align_corners=False)
    top, left = (int(round((side - 32) / 2.0)) for side in size)
    x = x[:, :, top : top + 32, left : left + 32] / 65535
    shaped = lambda values: torch.tensor(values).reshape(1, -1, 1, 1)
    return (x - shaped(mean)) / shaped(std)


def main():
    torch.set_num_threads(1)
    nets = {bands: model(bands) for bands in [1, 2, 5, 12]}
    image = scene()
    eight = images(image)
    seen = {mode: prepared(image, mode, *statistics(BANDS)) for mode in ["bicubic", "bilinear"]}
    with torch.no_grad():
        logits = nets[BANDS](seen["bicubic"])
    scaled = image.astype(np.float64) / 65535
    expected = {
        "samples": torch.from_numpy(image.astype(np.int32)),
        "rgba": torch.from_numpy(np.ascontiguousarray(eight[:, :, :4].transpose(2, 0, 1))),
        "la": torch.from_numpy(np.ascontiguousarray(eight[:, :, :2].transpose(2, 0, 1))),
        "logits": logits,
        "mean": torch.from_numpy(scaled.mean(axis=(1, 2))).float(),
        "std": torch.from_numpy(scaled.std(axis=(1, 2))).float(),
    } | {f"pixel_values.{mode}": values.contiguous() for mode, values in seen.items()}
    save_file({key: value.contiguous() for key, value in expected.items()}, OUT / "expected.safetensors")
    total = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
