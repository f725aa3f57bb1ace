"""Writes goldens/image/kinds.safetensors.gz (image files as bytes) and kinds.json (what Pillow or tifffile makes of
them), and goldens/image/field.json (what Pillow makes of the files in goldens/image/field).

    python tools/golden/tiff.py [--files FOLDER]

Needs Pillow 13, tifffile, imagecodecs, numpy and safetensors. With --files, the files are written there too.

The matrix of TIFF: strips and tiles, chunky and planar, every compression, depth, byte order and kind of color, 17 × 19
pixels. Then odd files: tags that are missing, of unusual types or in conflict. Then PNM files, and orientations in XMP.
What Pillow reads must come out equal to Pillow; what only tifffile reads, equal to tifffile; `null` means that the file
must be rejected with an error.
"""

import argparse
import gzip
import hashlib
import io
import itertools
import json
import pathlib
import struct
import warnings
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.numpy import save

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens" / "image"
HEIGHT, WIDTH = 17, 19
CODECS = {"raw": None, "lzw": "lzw", "deflate": "adobe_deflate", "packbits": "packbits", "zstd": "zstd"}


def waves(channels, height=HEIGHT, width=WIDTH):
    """Smooth waves with an edge and noise, as floats from 0 to 255."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(np.float64)
    image = 128 + 90 * np.sin(x / (3 + c) + y / (5 - c / 2) + c)
    image[height // 3 : height // 2, width // 4 : width // 2, 1:] = 20
    return np.clip(image + np.random.default_rng(3).integers(-15, 15, image.shape), 0, 255)


def written(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, software=False, metadata=None, **options)
    return file.getvalue()


def by_pillow(image, **options):
    file = io.BytesIO()
    image.save(file, format="TIFF", **options)
    return file.getvalue()


class Entry:
    """A tag of a file written by hand."""

    def __init__(self, kind, *values):
        self.kind, self.values = kind, values

    def packed(self, order):
        if self.kind == 7:
            return bytes(self.values[0])
        if self.kind in (5, 10):
            flat = [part for value in self.values for part in (value if isinstance(value, tuple) else (value, 1))]
            return struct.pack(f"{order}{len(flat)}{'I' if self.kind == 5 else 'i'}", *flat)
        letter = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q"}[self.kind]
        return struct.pack(f"{order}{len(self.values)}{letter}", *self.values)

    def count(self):
        return len(self.values[0]) if self.kind == 7 else len(self.values)


def short(*values):
    return Entry(3, *values)


def long(*values):
    return Entry(4, *values)


def by_hand(tags, chunks, order="<", big=False, offsets_tag=273, counts_tag=279, offset_kind=None):
    """A TIFF file of these tags and chunks; a tag that is None is left out."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + ("HHQ" if big else "I"), *((8, 0, 16) if big else (8,)))
    room, kind = (8, 16) if big else (4, 4)
    defaults = {offsets_tag: Entry(offset_kind or kind, *([0] * len(chunks)))}
    defaults[counts_tag] = Entry(kind, *map(len, chunks))
    entries = {tag: entry for tag, entry in sorted({**defaults, **tags}.items()) if entry is not None}
    size = (8 if big else 2) + len(entries) * (20 if big else 12) + room
    place = len(head) + size
    out_of_line = {}
    for tag, entry in entries.items():
        if len(entry.packed(order)) > room:
            out_of_line[tag] = place
            place += len(entry.packed(order)) + len(entry.packed(order)) % 2
    places = []
    for chunk in chunks:
        places.append(place)
        place += len(chunk)
    if offsets_tag in entries and offsets_tag not in tags:
        entries[offsets_tag] = Entry(entries[offsets_tag].kind, *places)
    body, tail = struct.pack(order + ("Q" if big else "H"), len(entries)), b""
    for tag, entry in entries.items():
        packed = entry.packed(order)
        value = struct.pack(order + ("Q" if big else "I"), out_of_line[tag]) if tag in out_of_line else packed.ljust(room, b"\0")
        body += struct.pack(order + ("HHQ" if big else "HHI"), tag, entry.kind, entry.count()) + value
        if tag in out_of_line:
            tail += packed + b"\0" * (len(packed) % 2)
    return head + body + b"\0" * room + tail + b"".join(chunks)


def matrix():
    """Name, file."""
    rgb, rgba = waves(3), waves(4)
    tiles = {"strips": {"rowsperstrip": 5}, "tiles": {"tile": (16, 16)}}
    for (codec, compression), planar, (cut, options) in itertools.product(CODECS.items(), [False, True], tiles.items()):
        config = "separate" if planar else "contig"
        for depth, order in [(8, "<"), (8, ">"), (16, "<"), (16, ">")]:
            if (order == ">") != (codec in ("lzw", "raw")) and depth == 8:
                continue
            data = rgb.astype(np.uint8) if depth == 8 else (rgb * 257).astype(np.uint16)
            data = data.transpose(2, 0, 1) if planar else data
            name = f"rgb{depth}_{codec}_{config}_{cut}_{'le' if order == '<' else 'be'}"
            yield name, written(
                data, photometric="rgb", planarconfig=config, compression=compression, byteorder=order, **options
            )
    for codec, predictor in itertools.product(["lzw", "deflate", "zstd"], [2, 3]):
        for planar in [False, True]:
            config = "separate" if planar else "contig"
            for kind in [np.uint8, np.uint16] if predictor == 2 else [np.float32]:
                data = (rgb * (257 if kind == np.uint16 else 1)).astype(kind)
                data = data[..., 0] if predictor == 3 else data.transpose(2, 0, 1) if planar else data
                if predictor == 3 and planar:
                    continue
                yield f"predictor{predictor}_{np.dtype(kind).name}_{codec}_{config}", written(
                    data, photometric="minisblack" if predictor == 3 else "rgb", planarconfig=None if predictor == 3 else config,
                    compression=CODECS[codec], predictor=predictor, tile=(16, 16),
                )
    for alpha, planar, cut, codec, depth in itertools.product(
        ["assocalpha", "unassalpha", "unspecified"], [False, True], ["strips", "tiles"], ["raw", "deflate"], [8, 16]
    ):
        if depth == 16 and (planar or cut == "tiles"):
            continue
        data = rgba.astype(np.uint8) if depth == 8 else (rgba * 257).astype(np.uint16)
        yield f"{alpha}_{codec}_{'separate' if planar else 'contig'}_{cut}_{depth}", written(
            data.transpose(2, 0, 1) if planar else data, photometric="rgb", extrasamples=[alpha],
            planarconfig="separate" if planar else "contig", compression=CODECS[codec], **tiles[cut],
        )
    gray = waves(1)[..., 0]
    ranges = [(np.int16, -100, 400), (np.int32, -9, 300), (np.uint32, 0, 290), (np.float32, -20.5, 270.5),
              (np.float64, -20.5, 270.5), (np.float16, -20, 270), (np.int8, -128, 127), (np.uint64, 0, 290)]
    for (kind, low, high), order, codec in itertools.product(ranges, "<>", ["raw", "lzw"]):
        data = (low + gray / 255 * (high - low)).astype(kind)
        yield f"gray_{np.dtype(kind).name}_{codec}_{'le' if order == '<' else 'be'}", written(
            data, photometric="minisblack", compression=CODECS[codec], byteorder=order
        )
    for white, depth in itertools.product(["miniswhite", "minisblack"], [1, 8, 16]):
        data = gray > 128 if depth == 1 else gray.astype(np.uint8) if depth == 8 else (gray * 257).astype(np.uint16)
        yield f"{white}_{depth}", written(data, photometric=white, compression="deflate", rowsperstrip=4)
    for depth in [10, 12, 14]:
        yield f"gray_{depth}_bits", written((gray * (1 << depth) / 256).astype(np.uint16), photometric="minisblack", bitspersample=depth)
    yield "cmyk_lzw_tiles", written(rgba.astype(np.uint8), photometric="separated", compression="lzw", tile=(16, 16))
    yield "cmyk_16", written((rgba * 257).astype(np.uint16), photometric="separated")
    yield "cmyk_separate", written(rgba.astype(np.uint8).transpose(2, 0, 1), photometric="separated", planarconfig="separate", compression="deflate")
    yield "bands_5", written(waves(5).astype(np.uint8), photometric="rgb", extrasamples=["unspecified"] * 2, compression="deflate", tile=(16, 16))
    yield "bands_9", written(waves(9).astype(np.uint8), photometric="rgb", extrasamples=["unspecified"] * 6, compression="deflate")
    yield "big_tiff", written(rgb.astype(np.uint8), photometric="rgb", bigtiff=True, compression="deflate")
    yield "big_tiff_be", written(rgb.astype(np.uint8), photometric="rgb", bigtiff=True, byteorder=">", tile=(16, 16))


def from_pillow():
    rgb = Image.fromarray(waves(3).astype(np.uint8))
    gray, bits = rgb.convert("L"), rgb.convert("1")
    for name, compression in [("g3", "group3"), ("g4", "group4"), ("rle", "tiff_ccitt"), ("deflate", "tiff_deflate")]:
        yield f"fax_{name}", by_pillow(bits, compression=compression)
        wide = Image.fromarray(np.tile(np.array(bits), (1, 160))[:, :3000])
        wide.paste(255, (100, 0, 2900, 9))
        yield f"fax_wide_{name}", by_pillow(wide, compression=compression)
        yield f"fax_reversed_{name}", by_pillow(bits, compression=compression, tiffinfo={266: 2})
    yield "fax_g3_2d", by_pillow(bits, compression="group3", tiffinfo={292: 1})
    yield "fax_g3_fill", by_pillow(bits, compression="group3", tiffinfo={292: 4})
    yield "fax_g3_2d_fill", by_pillow(bits, compression="group3", tiffinfo={292: 5})
    for compression in ["raw", "tiff_lzw", "tiff_adobe_deflate"]:
        yield f"lab_{compression}", by_pillow(Image.merge("LAB", rgb.split()), compression=compression)
        yield f"palette_{compression}", by_pillow(rgb.quantize(40), compression=compression)
        yield f"gray_alpha_{compression}", by_pillow(Image.merge("LA", (gray, rgb.getchannel("B"))), compression=compression)
        yield f"ycbcr_{compression}", by_pillow(rgb.convert("YCbCr"), compression=compression)
    for name, image in [("rgb", rgb), ("gray", gray), ("cmyk", rgb.convert("CMYK")), ("ycbcr", rgb.convert("YCbCr"))]:
        yield f"jpeg_{name}", by_pillow(image, compression="jpeg", quality=90)
        yield f"jpeg_{name}_strips", by_pillow(image, compression="jpeg", quality=90, tiffinfo={278: 8})
    for value in range(1, 9):
        yield f"orientation_{value}", by_pillow(rgb, compression="tiff_lzw", tiffinfo={274: value})
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    yield "orientation_xmp", by_pillow(rgb, compression="tiff_lzw", tiffinfo={700: xmp})
    yield "orientation_both", by_pillow(rgb, compression="tiff_lzw", tiffinfo={274: 3, 700: xmp})
    for subsampling in [(1, 1), (2, 1), (2, 2)]:
        for planar in [False] if subsampling != (1, 1) else [False, True]:
            data = waves(3, 17, 35).astype(np.uint8)
            yield f"jpeg_ycbcr_{subsampling[0]}{subsampling[1]}_tiles_{planar}", written(
                data.transpose(2, 0, 1) if planar else data, photometric="ycbcr" if not planar else "rgb", compression="jpeg", subsampling=None if planar else subsampling, tile=(16, 16),
                planarconfig="separate" if planar else "contig",
            )


def odd():
    rgb = waves(3).astype(np.uint8)
    gray = rgb[..., 0]
    base = {256: short(WIDTH), 257: short(HEIGHT), 258: short(8, 8, 8), 259: short(1), 262: short(2), 277: short(3), 278: short(HEIGHT)}
    one = {**base, 258: short(8), 262: short(1), 277: short(1)}
    data, plain = [rgb.tobytes()], [gray.tobytes()]
    yield "rational_sizes", by_hand({**base, 256: Entry(5, WIDTH), 257: Entry(5, (HEIGHT * 3, 3))}, data)
    yield "double_sizes", by_hand({**base, 256: Entry(12, WIDTH)}, data)
    yield "fractional_size", by_hand({**base, 256: Entry(5, (39, 2))}, data)
    yield "negative_size", by_hand({**base, 256: Entry(9, -WIDTH)}, data)
    yield "zero_width", by_hand({**base, 256: short(0)}, data)
    yield "zero_height", by_hand({**base, 257: short(0)}, data)
    yield "enormous", by_hand({**base, 256: long(2**32 - 1), 257: long(2**32 - 1)}, data)
    yield "no_rows_per_strip", by_hand({**base, 278: None}, data)
    yield "huge_rows_per_strip", by_hand({**base, 278: long(2**32 - 1)}, data)
    yield "zero_rows_per_strip", by_hand({**base, 278: long(0)}, data)
    yield "no_byte_counts", by_hand({**base, 279: None}, data)
    yield "no_byte_counts_deflate", by_hand({**base, 259: short(8), 279: None}, [zlib.compress(data[0])])
    yield "wrong_byte_counts", by_hand({**base, 279: long(5)}, data)
    yield "no_offsets", by_hand({**base, 273: None}, data)
    yield "no_photometric_gray", by_hand({**one, 262: None}, plain)
    yield "no_photometric_rgb", by_hand({**base, 262: None}, data)
    yield "no_bits", by_hand({**one, 258: None}, [np.packbits(gray > 99, axis=1).tobytes()])
    yield "one_bits_of_three", by_hand({**base, 258: short(8)}, data)
    yield "no_samples_per_pixel", by_hand({**base, 277: None}, data)
    yield "three_bits_of_one_sample", by_hand({**one, 258: short(8, 8, 8)}, plain)
    yield "four_samples_of_three_bits", by_hand({**base, 277: short(4)}, [waves(4).astype(np.uint8).tobytes()])
    yield "samples_of_gray", by_hand({**base, 262: short(1)}, data)
    yield "mixed_bits", by_hand({**base, 258: short(5, 6, 5)}, data)
    yield "two_samples_rgb", by_hand({**base, 258: short(8, 8), 277: short(2)}, data)
    yield "extra_without_sample", by_hand({**one, 338: short(2)}, plain)
    yield "version_swapped", (lambda file: file[:2] + b"\0*" + file[4:])(by_hand(base, data))
    yield "signed_counts", by_hand({**base, 256: Entry(9, WIDTH), 257: Entry(8, HEIGHT)}, data)
    yield "byte_sizes", by_hand({**base, 256: Entry(1, WIDTH), 257: Entry(1, HEIGHT)}, data)
    yield "long8_offsets", by_hand(base, data, big=True)
    yield "ifd_offsets", by_hand(base, data, offset_kind=13)
    yield "predictor_without_compression", by_hand({**base, 317: short(2)}, data)
    yield "predictor_unknown", by_hand({**base, 259: short(8), 317: short(9)}, [zlib.compress(data[0])])
    yield "compression_unknown", by_hand({**base, 259: short(12345)}, data)
    yield "compression_lerc", by_hand({**base, 259: short(34887)}, data)
    yield "photometric_unknown", by_hand({**base, 262: short(77)}, data)
    yield "raw_photograph", by_hand({**one, 262: short(32803)}, plain)
    yield "complex", by_hand({**one, 339: short(5)}, plain)
    for white, bits in itertools.product([0, 1, 3], [1, 2, 4]):
        levels = gray >> (8 - bits)
        steps = np.unpackbits(levels[..., None], axis=2)[..., 8 - bits :].reshape(HEIGHT, -1)
        tags = {**one, 258: short(bits), 262: short(white)}
        if white == 3:
            tags[320] = short(*(np.random.default_rng(1).integers(0, 65536, 3 << bits).tolist()))
        packed = np.packbits(steps, axis=1).tobytes()
        yield f"bits_{bits}_photometric_{white}", by_hand(tags, [packed])
        reverse = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed)
        yield f"bits_{bits}_photometric_{white}_reversed", by_hand({**tags, 266: short(2)}, [reverse])
        yield f"bits_{bits}_photometric_{white}_reversed_deflate", by_hand(
            {**tags, 266: short(2), 259: short(8)}, [bytes(int(f"{byte:08b}"[::-1], 2) for byte in zlib.compress(packed))]
        )
    for bits in [3, 5, 6, 7, 9]:
        levels = (gray.astype(np.uint16) << 8) >> (16 - bits)
        steps = ((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(HEIGHT, -1)
        yield f"bits_{bits}", by_hand({**one, 258: short(bits)}, [np.packbits(steps, axis=1).tobytes()])
    four = rgb >> 4
    steps = np.unpackbits(four[..., None], axis=3)[..., 4:].reshape(HEIGHT, -1)
    yield "rgb_4_bits", by_hand({**base, 258: short(4, 4, 4)}, [np.packbits(steps, axis=1).tobytes()])
    yield "no_palette", by_hand({**one, 262: short(3)}, plain)
    yield "short_palette", by_hand({**one, 262: short(3), 320: short(*range(0, 60000, 1000))}, plain)
    tile = {**base, 278: None, 322: short(10), 323: short(6)}
    padded = np.zeros((18, 20, 3), np.uint8)
    padded[:HEIGHT, :WIDTH] = rgb
    cut = [padded[y : y + 6, x : x + 10].tobytes() for y in range(0, 18, 6) for x in range(0, 20, 10)]
    tagged = {"offsets_tag": 324, "counts_tag": 325}
    yield "tiles_of_10_by_6", by_hand(tile, cut, **tagged)
    yield "tiles_of_10_by_6_deflate", by_hand({**tile, 259: short(8)}, [zlib.compress(part) for part in cut], **tagged)
    yield "tiles_in_tags_of_strips", by_hand(tile, cut)
    yield "tiles_missing", by_hand(tile, cut[:-1], **tagged)
    yield "tiles_of_no_width", by_hand({**tile, 322: short(0)}, cut, **tagged)
    yield "tiles_enormous", by_hand({**tile, 259: short(8), 322: long(2**31), 323: long(2**31)}, [zlib.compress(data[0])], **tagged)
    whole = np.zeros((64, 48, 3), np.uint8)
    whole[:HEIGHT, :WIDTH] = rgb
    larger = {**tile, 322: short(48), 323: short(64)}
    yield "tile_larger_than_image", by_hand(larger, [whole.tobytes()], **tagged)
    yield "tile_larger_than_image_deflate", by_hand({**larger, 259: short(8)}, [zlib.compress(whole.tobytes())], **tagged)
    yield "tile_never_written", by_hand({**tile, 324: long(0, *[200] * 5), 325: long(0, *[180] * 5)}, [b"\x77" * 400], **tagged)
    # YCbCr whose color differences are shared, in units.
    for across, down in [(2, 1), (2, 2), (4, 2), (1, 2), (4, 4)]:
        high, wide = -(-HEIGHT // down), -(-WIDTH // across)
        whole = np.pad(rgb, ((0, high * down - HEIGHT), (0, wide * across - WIDTH), (0, 0)), mode="edge")
        y = whole[..., 0].reshape(high, down, wide, across).transpose(0, 2, 1, 3).reshape(high, wide, -1)
        units = np.concatenate([y, whole[::down, ::across, 1:]], axis=2).tobytes()
        tags = {**base, 262: short(6), 530: short(across, down)}
        yield f"ycbcr_{across}{down}", by_hand(tags, [units])
        yield f"ycbcr_{across}{down}_deflate", by_hand({**tags, 259: short(8)}, [zlib.compress(units)])
        if (across, down) == (4, 4):
            whole[..., 1:] = whole[::4, ::4, 1:].repeat(4, 0).repeat(4, 1)
            tags = {**base, 262: short(6), 530: short(1, 1), 259: short(8)}
            yield "ycbcr_44_whole", by_hand(tags, [zlib.compress(whole[:HEIGHT, :WIDTH].tobytes())])
    ycbcr = {**base, 262: short(6), 530: short(1, 1), 259: short(8)}
    yield "ycbcr_range", by_hand({**ycbcr, 532: Entry(5, 16, 235, 128, 240, 128, 240)}, [zlib.compress(data[0])])
    yield "ycbcr_coefficients", by_hand(
        {**ycbcr, 529: Entry(5, (2126, 10000), (7152, 10000), (722, 10000))}, [zlib.compress(data[0])]
    )
    yield "ycbcr_no_green", by_hand({**ycbcr, 529: Entry(5, (1, 2), (0, 1), (1, 2))}, [zlib.compress(data[0])])
    yield "ycbcr_default_tag_whole", by_hand({**base, 262: short(6)}, data)
    planes = [zlib.compress(rgb[..., band].tobytes()) for band in range(3)]
    yield "ycbcr_separate", by_hand({**ycbcr, 284: short(2)}, planes)
    yield "ycbcr_separate_subsampled", by_hand({**ycbcr, 530: short(2, 2), 284: short(2)}, planes)
    yield "ycbcr_separate_raw", by_hand({**ycbcr, 259: short(1), 284: short(2)}, [rgb[..., band].tobytes() for band in range(3)])
    extremes = np.random.default_rng(5).choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (HEIGHT, WIDTH, 3))
    yield "lab_extremes", by_hand({**base, 262: short(8)}, [extremes.tobytes()])
    yield "lab_16", by_hand({**base, 262: short(8), 258: short(16, 16, 16)}, [rgb.astype("<u2").tobytes()])
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, format="JPEG", quality=90, subsampling=0)
    yield "jpeg_ycbcr_called_rgb", by_hand({**base, 259: short(7)}, [file.getvalue()])
    yield "jpeg_without_end", by_hand({**base, 259: short(7), 262: short(6), 530: short(1, 1)}, [file.getvalue()[:-2]])
    yield "jpeg_of_other_size", by_hand({**base, 256: short(WIDTH - 2), 259: short(7), 262: short(6)}, [file.getvalue()])
    yield "jpeg_old_style", by_hand({**base, 259: short(6), 262: short(6)}, [file.getvalue()])
    broken = zlib.compress(data[0])
    yield "deflate_wrong_checksum", by_hand({**base, 259: short(8)}, [broken[:-1] + bytes([broken[-1] ^ 1])])
    yield "deflate_short", by_hand({**base, 259: short(8)}, [zlib.compress(data[0][:500])])
    yield "raw_short", by_hand(base, [data[0][:500]])
    # LZW as before TIFF 5.0: codes of 9 bits from the lowest bit on, with a clear code before the table grows.
    codes, bits = [], 0
    for index, byte in enumerate(data[0]):
        codes += ([256] if index % 200 == 0 else []) + [byte]
    value = sum(code << (9 * index) for index, code in enumerate(codes + [257]))
    yield "lzw_old", by_hand({**base, 259: short(5)}, [value.to_bytes((9 * len(codes) + 9 + 7) // 8, "little")])


def others():
    """Files of other formats, with their extension."""
    rgb = waves(3).astype(np.uint8)
    gray = rgb[..., 0]
    words = (waves(3) * 257).astype(">u2")
    size = f"{WIDTH} {HEIGHT}".encode()
    text = lambda values: b"\n".join(b" ".join(b"%d" % value for value in row) for row in values.reshape(HEIGHT, -1))
    yield "p1.pbm", b"P1\n# a comment\n" + size + b"\n" + text(gray < 99)
    yield "p1_dense.pbm", b"P1 " + size + b" " + text(gray < 99).replace(b" ", b"").replace(b"\n", b"#x\n", 2)
    yield "p2.pgm", b"P2\n" + size + b"\n255\n" + text(gray)
    yield "p2_100.pgm", b"P2\n" + size + b" 100 " + text(gray.astype(int) * 100 // 255)
    yield "p2_4095.pgm", b"P2\n" + size + b" 4095 " + text(gray.astype(int) * 16)
    yield "p3.ppm", b"P3\n" + size + b"\n255\n" + text(rgb)
    yield "p3_7.ppm", b"P3\n" + size + b"\n7\n" + text(rgb // 36)
    yield "p4.pbm", b"P4\n" + size + b"\n" + np.packbits(gray < 99, axis=1).tobytes()
    yield "p5.pgm", b"P5\n" + size + b"\n255\n" + gray.tobytes()
    yield "p5_100.pgm", b"P5\n#\n" + size + b"\n#c\n100\n" + (gray.astype(int) * 100 // 255).astype(np.uint8).tobytes()
    yield "p5_4095.pgm", b"P5\n" + size + b"\n4095\n" + (gray.astype(">u2") * 16).tobytes()
    yield "p5_65535.pgm", b"P5\n" + size + b"\n65535\n" + words[..., 0].tobytes()
    yield "p6.ppm", b"P6\n" + size + b"\n255\n" + rgb.tobytes()
    yield "p6_comment_in_number.ppm", b"P6\n1#one\n9 17 255\n" + rgb.tobytes()
    yield "p6_100.ppm", b"P6\n" + size + b"\n100\n" + (rgb // 3).tobytes()
    yield "p6_1000.ppm", b"P6\n" + size + b"\n1000\n" + (rgb.astype(">u2") * 4).tobytes()
    yield "p6_65535.ppm", b"P6\n" + size + b"\n65535\n" + words.tobytes()
    yield "p6_above_largest.ppm", b"P6\n" + size + b"\n200\n" + rgb.tobytes()
    for name, file in [
        ("short.ppm", b"P6\n" + size + b"\n255\n" + rgb.tobytes()[:-1]),
        ("short_text.ppm", b"P3\n" + size + b"\n255\n1 2 3"),
        ("no_largest.ppm", b"P6\n" + size + b"\n"),
        ("largest_0.ppm", b"P6\n" + size + b"\n0\n" + rgb.tobytes()),
        ("largest_65536.ppm", b"P6\n" + size + b"\n65536\n" + words.tobytes()),
        ("no_size.ppm", b"P6\n0 3\n255\n"),
        ("word_size.ppm", b"P6\nwide 3\n255\n"),
        ("negative.pgm", b"P2\n1 1\n255\n-3"),
        ("above_largest.pgm", b"P2\n1 1\n255\n256"),
        ("letter.pbm", b"P1\n2 1\n1 x"),
    ]:
        yield f"refused_{name}", file
    image, empty = Image.fromarray(rgb), Image.Exif()
    empty[0x0110] = "camera"
    upside = Image.Exif()
    upside[0x0112] = 3
    for form, exif in itertools.product(["attribute", "element"], [None, empty, upside]):
        inner = b' tiff:Orientation="6"/>' if form == "attribute" else b"><tiff:Orientation>6</tiff:Orientation>"
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description' + inner + b"</x:xmpmeta>"
        name = f"xmp_{form}_{'alone' if exif is None else 'beside' if exif is empty else 'after'}"
        options = {} if exif is None else {"exif": exif}
        for kind, more in [("jpg", {"quality": 90, "xmp": xmp}), ("webp", {"lossless": True, "xmp": xmp})]:
            file = io.BytesIO()
            image.save(file, format="JPEG" if kind == "jpg" else "WEBP", **more, **options)
            yield f"{name}.{kind}", file.getvalue()
        for compressed in [False, True]:
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=compressed)
            file = io.BytesIO()
            image.save(file, format="PNG", pnginfo=info, **options)
            yield f"{name}{'_compressed' if compressed else ''}.png", file.getvalue()
    info = PngImagePlugin.PngInfo()
    exif = upside.tobytes()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=info)
    yield "exif_as_text.png", file.getvalue()


def all_files():
    for name, file in itertools.chain(matrix(), from_pillow(), odd()):
        yield f"{name}.tif", file
    yield from others()


# What Pillow does not read, or mixes up, and tifffile does not help: the file that must come out the same.
EQUAL = {
    "byte_sizes.tif": "no_rows_per_strip.tif",
    "double_sizes.tif": "no_rows_per_strip.tif",
    "rational_sizes.tif": "no_rows_per_strip.tif",
    "no_photometric_rgb.tif": "no_rows_per_strip.tif",
    "no_samples_per_pixel.tif": "no_rows_per_strip.tif",
    "ycbcr_separate_raw.tif": "ycbcr_separate.tif",
    **{f"bits_{bits}_photometric_3_reversed.tif": f"bits_{bits}_photometric_3.tif" for bits in [1, 2, 4]},
    **{f"ycbcr_{units}.tif": f"ycbcr_{units}_deflate.tif" for units in ["21", "22", "42", "12"]},
    # libtiff leaves pixels of the last units as they were.
    "ycbcr_44_deflate.tif": "ycbcr_44_whole.tif",
    "ycbcr_44.tif": "ycbcr_44_whole.tif",
}
# What a library makes something of that is not the image.
REFUSED = ["jpeg_old_style.tif", "samples_of_gray.tif", "two_samples_rgb.tif", "tiles_missing.tif"]


def pillow(file):
    """As RGB, or None if Pillow does not read it, or is known to mix it up."""
    image = Image.open(io.BytesIO(file))
    if image.format != "TIFF":
        image.load()
        if image.mode.startswith("I"):
            image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    tags = image.tag_v2
    bits, order = tags.get(258, (1,))[0], tags.prefix
    signed_or_real = tags.get(339, (1,))[0] in (2, 3)
    if signed_or_real and bits > 8 and order == b"MM" and tags.get(259, 1) != 1:
        return None
    if tags.get(284, 1) == 2 and (bits == 16 or tags.get(262) == 6) and tags.get(259, 1) == 1:
        return None
    if 0 in tags.get(324, ()):
        return None
    if tags.get(262) == 6 and tags.get(259, 1) == 1 and tags.get(530, (1, 1)) != (1, 1):
        return None
    image.load()
    if image.mode.startswith("I;16"):
        array = np.array(image).astype(np.uint16)
        array = (array >> (bits - 8)).astype(np.uint8)
        image = Image.fromarray(255 - array if tags.get(262) == 0 else array)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def by_tifffile(file):
    """As RGB, for kinds that Pillow does not read."""
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        page = opened.pages[0]
        array = page.asarray()
        photometric, planar, bits = int(page.photometric), page.planarconfig == 2, page.bitspersample
        extra = list(page.extrasamples)
    if planar and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and photometric in (0, 1):
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype.kind in "fi" or array.dtype.itemsize > 2:
        array = np.trunc(np.clip(np.nan_to_num(array.astype(np.float64)), 0, 255)).astype(np.uint8)
    elif bits < 8:
        array = np.floor(array.astype(np.float64) * 255 / ((1 << bits) - 1) + 0.5).astype(np.uint8)
    elif bits > 8:
        array = (array >> (bits - 8)).astype(np.uint8)
    if photometric == 0:
        array = 255 - array
    if photometric in (0, 1):
        return np.repeat(array[..., None], 3, axis=2)
    if photometric == 5:
        return np.array(Image.fromarray(np.ascontiguousarray(array[..., :4]), "CMYK").convert("RGB"))
    if photometric != 2:
        return None
    if extra and int(extra[0]) == 1:
        color, alpha = array[..., :3].astype(np.uint32), array[..., 3:4].astype(np.uint32)
        array = np.where(alpha == 0, 0, np.minimum(255, color * 255 // np.maximum(alpha, 1))).astype(np.uint8)
    return array[..., :3]


def expected(name, file):
    if name in REFUSED:
        return None
    for read in (pillow, by_tifffile):
        try:
            image = read(file)
        except Exception:  # Their own kinds are many.
            continue
        if image is not None and image.size:
            return image
    return None


def digest(image):
    return f"{image.shape[1]}x{image.shape[0]} {hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=pathlib.Path)
    folder = parser.parse_args().files
    warnings.simplefilter("ignore")
    files, images = {}, {}
    for name, file in all_files():
        assert name not in files, name
        files[name] = np.frombuffer(file, np.uint8)
        images[name] = expected(name, file)
    for name, other in EQUAL.items():
        images[name] = images[other]
    for name, image in images.items():
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name].tobytes())
            if image is not None:
                np.save(folder / f"{name}.npy", image)
    digests = {name: None if image is None else digest(image) for name, image in images.items()}
    (OUT / "kinds.safetensors.gz").write_bytes(gzip.compress(save(files), 9, mtime=0))
    (OUT / "kinds.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")
    field = {path.name: expected(path.name, path.read_bytes()) for path in sorted((OUT / "field").iterdir())}
    digests = {name: digest(image) for name, image in field.items()}
    (OUT / "field.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
