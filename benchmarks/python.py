"""Classifies photographs with `vitral.pipeline`, with transformers' own pipeline, and with the command line, in turn.

    python benchmarks/python.py MODEL PHOTOS [--binary target/release/vitral] [--threads 2] [--rounds 3]

MODEL is a folder of transformers'; PHOTOS a folder. Times include reading, decoding and preprocessing, but not loading the model; the
command line's loading is measured with one photograph, and subtracted. Needs the package, and torch with transformers to compare with.
"""

import argparse
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
    options = ["--batch", str(arguments.batch), "--threads", str(arguments.threads), "--device", "cpu", "--json"]
    run = [arguments.binary, "classify", "--model", arguments.model, *images, *options]
    return timed(lambda: subprocess.run(run, check=True, stdout=subprocess.DEVNULL))


def timed(work):
    """Seconds, and CPU seconds, which show whether the machine had other things to do."""
    before, start = os.times(), time.perf_counter()
    work()
    after = os.times()
    return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


for name in kinds:
    # Once without a clock: threads are started, memory is taken.
    ours(paths[:16]) if name.startswith("vitral") else theirs(paths[:16], batch_size=arguments.batch)
rounds = {}
for _ in range(arguments.rounds):
    for name, work in kinds.items():
        rounds.setdefault(name, []).append(timed(work))
    if arguments.binary:
        whole, loading = command(*paths), command(paths[0])
        rounds.setdefault("vitral classify", []).append((whole[0] - loading[0], whole[1] - loading[1]))
for name, found in rounds.items():
    seconds, cpu = (statistics.median(each) for each in zip(*found))
    print(f"{name:30} {len(paths) / seconds:6.2f} images/s, {len(paths) / cpu:6.2f} in a CPU second; rounds", end=" ")
    print(*(f"{seconds:.1f} s ({cpu:.1f} CPU s)" for seconds, cpu in found), sep=", ")
