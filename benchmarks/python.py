"""Classifies photographs with `vitral.pipeline`, with transformers' own pipeline, and with the command line, in turn.

    python benchmarks/python.py MODEL PHOTOS [--binary target/release/vitral] [--threads 2] [--rounds 3]

MODEL is a folder of transformers'; PHOTOS a folder. Times include reading, decoding and preprocessing, but not loading the model; the
command line's loading is measured with one photograph, and subtracted. Needs the package, and torch with transformers to compare with.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("photos")
parser.add_argument("--binary")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--without-transformers", action="store_true")
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

import vitral  # noqa: E402

paths = vitral.images_in(arguments.photos)
ours = vitral.pipeline("image-classification", arguments.model, threads=arguments.threads, device="cpu")
kinds = {"vitral.pipeline": lambda: ours(paths, batch_size=arguments.batch)}
if not arguments.without_transformers:
    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    processor = transformers.AutoImageProcessor.from_pretrained(arguments.model)
    theirs = transformers.pipeline("image-classification", arguments.model, image_processor=processor, device="cpu")
    kinds["transformers, image by image"] = lambda: theirs(paths)
    kinds[f"transformers, batches of {arguments.batch}"] = lambda: theirs(paths, batch_size=arguments.batch)


def command(*images):
    start = time.perf_counter()
    options = ["--batch", str(arguments.batch), "--threads", str(arguments.threads), "--device", "cpu", "--json"]
    subprocess.run(
        [arguments.binary, "classify", "--model", arguments.model, *images, *options], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


seconds = {name: [] for name in kinds}
for work in kinds.values():
    work() if len(paths) <= 16 else None
ours(paths[:16])
for _ in range(arguments.rounds):
    for name, work in kinds.items():
        start = time.perf_counter()
        work()
        seconds[name].append(time.perf_counter() - start)
    if arguments.binary:
        seconds.setdefault("vitral classify", []).append(command(*paths) - command(paths[0]))
medians = {name: statistics.median(all) for name, all in seconds.items()}
print(
    json.dumps(
        {name: {"images_per_second": round(len(paths) / median, 2), "seconds": [round(each, 2) for each in seconds[name]]}
         for name, median in medians.items()},
        indent=1,
    )
)  # fmt: skip
