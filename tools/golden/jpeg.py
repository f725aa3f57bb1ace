"""JPEG files of many kinds, whole and damaged, with the SHA-256 of the RGB pixels that Pillow (libjpeg-turbo) makes of them.

    python tools/golden/jpeg.py [--data FOLDER]

With `--data`, the digests of real photographs and of a corpus of awkward files are written too, but not the files.
"""

import argparse
import hashlib
import io
import json
import pathlib
import random
import tarfile
import warnings

from PIL import Image, ImageOps

from preprocess import pattern

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens" / "image"
SIZES = [(53, 37), (17, 15), (16, 16), (5, 40), (40, 5), (3, 3), (2, 2), (1, 1)]


def digest(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    image = ImageOps.exif_transpose(image).convert("RGB")
    return f"{image.width}x{image.height} " + hashlib.sha256(image.tobytes()).hexdigest()


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def whole_files():
    """Names and bytes of files that say what they mean."""
    base = pattern(53, 37)
    for width, height in SIZES:
        image = base.resize((width, height))
        for progressive in (False, True):
            # The small ones in full variety, the large ones where there is something to tell apart.
            for subsampling, quality in ((0, 92), (1, 60), (2, 80)):
                name = f"{width}x{height}_{('444', '422', '420')[subsampling]}{'_progressive' * progressive}"
                yield name, encoded(image, quality=quality, subsampling=subsampling, progressive=progressive)
    for name, options in {
        "restarts": {"restart_marker_blocks": 2, "quality": 70},
        "restarts_progressive": {"restart_marker_rows": 1, "quality": 70, "progressive": True},
        "coarse": {"quality": 3},
        "finest": {"quality": 100, "subsampling": 0},
        "wide_tables": {"qtables": [[300 + 7 * i for i in range(64)]] * 2},
    }.items():
        yield name, encoded(base, **options)
    yield "rgb", encoded(base, keep_rgb=True)
    for mode in ("L", "CMYK"):
        yield mode.lower(), encoded(base.convert(mode), quality=85)
        yield f"{mode.lower()}_progressive", encoded(base.convert(mode), quality=85, progressive=True)
    cmyk = encoded(base.convert("CMYK"), quality=85)
    # The color transform in Adobe's segment: 2 makes the inks YCCK.
    at = cmyk.index(b"Adobe") + 11
    yield "ycck", cmyk[:at] + b"\x02" + cmyk[at + 1 :]
    # Sampling factors for which there is no option: other names for the same blocks, in other places.
    plain = bytearray(encoded(base.crop((0, 0, 48, 32)), quality=80, subsampling=1))
    frame = plain.index(b"\xff\xc0") + 11
    assert plain[frame] == 0x21
    plain[frame] = 0x12
    yield "440", bytes(plain)
    # What does not belong to any segment, fill bytes, and a second image behind the first.
    file = encoded(base, quality=75)
    scan = file.index(b"\xff\xda")
    yield "fill_bytes", file[:scan] + b"\xff\xff\xff" + file[scan:]
    yield "followed", file + file


def damaged(whole):
    """Files that Pillow still reads, though their bits are not what they were."""
    rng = random.Random(20)
    found = 0
    names = [name for name in whole if name.startswith("53x37") or "restarts" in name]
    while found < 40:
        data = bytearray(whole[rng.choice(names)])
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(data.index(b"\xff\xc4") if rng.random() < 0.3 else len(data) // 2, len(data) - 2)
            kind = rng.random()
            if kind < 0.7:
                data[at] ^= 1 << rng.randrange(8)
            elif kind < 0.8:
                data[at] = 0xFF
            elif kind < 0.9:
                del data[at : at + rng.randrange(1, 20)]
            else:
                data[at:at] = bytes([rng.randrange(256)])
        try:
            digest(bytes(data))
        except Exception:  # Pillow's own kinds are many.
            continue
        yield f"damaged_{found:02}", bytes(data)
        found += 1


def shared(data):
    digests = {}
    folders = ("photos", "exif-orientation", "image-corpus")
    for path in sorted(path for folder in folders for path in data.glob(f"{folder}/**/*")):
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            continue
        try:
            digests[str(path.relative_to(data))] = digest(path.read_bytes())
        except Exception:
            continue
    # All images of a set together, in the order of their names.
    together = hashlib.sha256()
    for path in sorted(data.glob("flowers12/**/*.jpg")):
        together.update(Image.open(path).convert("RGB").tobytes())
    digests["flowers12"] = together.hexdigest()
    together = hashlib.sha256()
    with tarfile.open(data / "cifar10-jpeg/test.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                together.update(Image.open(archive.extractfile(member)).convert("RGB").tobytes())
    digests["cifar10-jpeg/test.tar.gz"] = together.hexdigest()
    return digests


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path)
    data = parser.parse_args().data
    warnings.simplefilter("ignore")
    folder = OUT / "jpeg"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jpg"):
        old.unlink()
    whole = dict(whole_files())
    files = whole | dict(damaged(whole))
    for name, content in files.items():
        (folder / f"{name}.jpg").write_bytes(content)
    digests = {f"{name}.jpg": digest(content) for name, content in sorted(files.items())}
    (OUT / "jpeg.json").write_text(json.dumps(digests, indent=0) + "\n")
    if data:
        (OUT / "jpeg_shared.json").write_text(json.dumps(shared(data.resolve()), indent=0) + "\n")


if __name__ == "__main__":
    main()
