#!/usr/bin/env python3
"""Small Parquet files as the Hugging Face hub has them, for the tests of the training crate's data.

  python tools/golden/parquet.py      -> goldens/parquet/{hub/data,plain,odd}/*.parquet

Images are 4 x 4 PNGs of one color: red is 40 times the row's number in its split, green the label. `hub` has a struct of
bytes and path, class names in `huggingface`, two shards to train on, snappy; `plain` has bytes and labels by name, zstd and
gzip; `odd` has labels out of range, rows without bytes and columns of other names. Needs pyarrow.
"""
import json, pathlib, struct, zlib

import pyarrow as pa, pyarrow.parquet as pq

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens/parquet"
NAMES = ["tulip", "daisy", "rose"]


def png(red, green):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes([red, green, 7]) * 4) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(path, columns, schema, compression="snappy", **options):
    path = OUT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, compression=compression, **options)
    print(path.relative_to(OUT), path.stat().st_size)


def hub():
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}}}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], {"huggingface": json.dumps(info)})

    def rows(numbers):
        images = [{"bytes": png(40 * i, i % 3), "path": f"{i}.png"} for i in numbers]
        return {"image": images, "label": [i % 3 for i in numbers]}

    write("hub/data/train-00000-of-00002.parquet", rows([0, 1, 2]), schema, row_group_size=2)
    write("hub/data/train-00001-of-00002.parquet", rows([3, 4, 5]), schema, row_group_size=1)
    write("hub/data/test-00000-of-00001.parquet", rows([1, 2]), schema)


def plain():
    schema = pa.schema([pa.field("label", pa.string(), nullable=False), pa.field("img", pa.binary(), nullable=False)])
    rows = {"label": [NAMES[i % 3] for i in range(6)], "img": [png(40 * i, i % 3) for i in range(6)]}
    write("plain/zstd.parquet", rows, schema, "zstd", data_page_version="2.0")
    write("plain/gzip.parquet", rows, schema, "gzip")


def odd():
    schema = pa.schema([("image", pa.binary()), ("label", pa.int32())])
    write("odd/unlabeled.parquet", {"image": [png(0, 0)] * 2, "label": [0, -1]}, schema)
    write("odd/without_label.parquet", {"image": [png(0, 0)] * 2, "label": [0, None]}, schema)
    write("odd/without_bytes.parquet", {"image": [png(0, 0), None, png(80, 0)], "label": [0, 0, 1]}, schema)
    other = pa.schema([("photo", pa.binary()), ("label", pa.int32())])
    write("odd/other_columns.parquet", {"photo": [png(0, 0)], "label": [0]}, other)


if __name__ == "__main__":
    hub()
    plain()
    odd()
