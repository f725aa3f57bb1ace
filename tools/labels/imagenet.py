"""Writes the names of ImageNet's classes, `crates/vitral/assets/imagenet/names.deflate`.

    python tools/labels/imagenet.py

From the lists in timm's package (`timm/data/_info`, Apache-2.0): which synsets each set of classes has, and WordNet's lemmas of
each. All sets but Microsoft's order of 22k list their synsets in increasing order, so one list of all synsets with a mark for
each set that has it holds them all. A line is two hexadecimal digits of marks and the lemmas.
"""

import zlib
from pathlib import Path

import timm

INFO = Path(timm.__file__).parent / "data" / "_info"
OUT = Path(__file__).parents[2] / "crates" / "vitral" / "assets" / "imagenet" / "names.deflate"

SETS = [
    "imagenet_synsets.txt",
    "imagenet12k_synsets.txt",
    "imagenet21k_goog_synsets.txt",
    "imagenet22k_synsets.txt",
    "imagenet21k_miil_synsets.txt",
]

lemmas = dict(line.split("\t", 1) for line in (INFO / "imagenet_synset_to_lemma.txt").read_text().splitlines())
sets = [(INFO / name).read_text().split() for name in SETS]
for name, synsets in zip(SETS, sets):
    assert synsets == sorted(synsets), name
marks = {}
for place, synsets in enumerate(sets):
    for synset in synsets:
        marks[synset] = marks.get(synset, 0) | 1 << place
lines = [f"{marks[synset]:02x}{lemmas[synset]}" for synset in sorted(marks)]
packer = zlib.compressobj(9, zlib.DEFLATED, -15)
OUT.write_bytes(packer.compress("\n".join(lines).encode()) + packer.flush())
print(f"{OUT.name}: {len(lines)} names, {OUT.stat().st_size} bytes, timm {timm.__version__}")
