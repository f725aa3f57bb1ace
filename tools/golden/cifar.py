#!/usr/bin/env python3
"""Pixels of eight CIFAR-10 pictures as Pillow decodes them, one under the other in one PNG.

  python3 tools/golden/cifar.py SHARED_DATA

The logits in `reference_logits.json` of the checkpoint `cifar10_prenorm_p4` were computed from these. JPEG decoders
differ by a level or two, which moves a logit by some hundredths. Needs Pillow.
"""
import io, json, pathlib, sys, tarfile

from PIL import Image

data = pathlib.Path(sys.argv[1])
names = json.loads((data / "tiny-vits/cifar10_prenorm_p4/reference_logits.json").read_text())["inputs"]
strip = Image.new("RGB", (32, 32 * len(names)))
with tarfile.open(data / "cifar10-jpeg/test.tar.gz") as archive:
    for i, name in enumerate(names):
        strip.paste(Image.open(io.BytesIO(archive.extractfile(name).read())).convert("RGB"), (0, 32 * i))
strip.save(pathlib.Path(__file__).parents[2] / "goldens/tiny-vits/cifar10_prenorm_p4.png", optimize=True)
