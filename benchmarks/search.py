#!/usr/bin/env python3
"""What `vitral search` finds, on images with planted copies and wrong labels, and whether its neighbors are exact.

  python benchmarks/search.py copies target/release/vitral MODEL FOLDER WORK     FOLDER: CIFAR-10's test images, a folder a class
  python benchmarks/search.py labels target/release/vitral MODEL FOLDER WORK     FOLDER: a folder a class, such as flowers12
  python benchmarks/search.py exact target/release/vitral INDEX                  against NumPy in double precision
  python benchmarks/search.py speed INDEX_ROWS WIDTH                             NumPy and FAISS (flat), for benches/search.rs

Needs numpy, safetensors and Pillow, `speed` faiss-cpu as well. MODEL may be `built-in`. WORK is a folder for what is written;
indices there are used again.
"""
import argparse, json, pathlib, random, shutil, statistics, subprocess, time

import numpy as np


def run(binary, *args):
    return subprocess.run([binary, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True).stdout


def indexed(binary, model, folder, out):
    chosen = [] if model == "built-in" else ["--model", model]
    print(run(binary, "search", "index", folder, *chosen, "--out", out, "--json"))
    return out


# Planted copies: how each is made, for an image of some size.
def encoded(image, rng):
    return image, {"quality": 60}


def mirrored(image, rng):
    from PIL import ImageOps

    return ImageOps.mirror(image), {"quality": 90}


def cropped(image, rng):
    (width, height), keep = image.size, 7 / 8
    w, h = round(keep * width), round(keep * height)
    x, y = rng.randint(0, width - w), rng.randint(0, height - h)
    return image.crop((x, y, x + w, y + h)), {"quality": 90}


KINDS = {"encoded": encoded, "mirrored": mirrored, "cropped": cropped}


def copies(args):
    from PIL import Image

    folder, rng = args.work / "pool", random.Random(7)
    truth_file = args.work / "truth.json"
    if not truth_file.exists():
        shutil.copytree(args.folder, folder)
        files = sorted(file for file in folder.rglob("*.jpg"))
        truth = {}
        for at, file in enumerate(rng.sample(files, len(KINDS) * args.each)):
            kind = list(KINDS)[at % len(KINDS)]
            image, how = KINDS[kind](Image.open(file).convert("RGB"), rng)
            name = f"planted/{kind}-{at:05}.jpg"
            (folder / "planted").mkdir(exist_ok=True)
            image.save(folder / name, **how)
            truth[name] = [kind, str(file.relative_to(folder))]
        truth_file.write_text(json.dumps(truth, indent=0))
    truth = json.loads(truth_file.read_text())
    index = indexed(args.binary, args.model, folder, args.work / "pool.safetensors")
    for threshold in args.thresholds:
        start = time.time()
        found = json.loads(run(args.binary, "search", "duplicates", index, "--threshold", threshold, "--json"))
        seconds, group_of, others = time.time() - start, {}, []
        for at, group in enumerate(found["groups"]):
            group_of.update({name: at for name in [group["image"], *(copy["image"] for copy in group["copies"])]})
            for copy in group["copies"]:
                pair = {copy["image"], copy["of"]}
                if not any(planted in pair and truth[planted][1] in pair for planted in pair & truth.keys()):
                    others.append((round(copy["likeness"], 4), copy["relation"], copy["image"], copy["of"]))
        line = []
        for kind in KINDS:
            planted = [(name, of) for name, (its, of) in truth.items() if its == kind]
            hits = sum(group_of.get(name, -1) == group_of.get(of, -2) for name, of in planted)
            line.append(f"{kind} {hits}/{len(planted)}")
        hits = sum(group_of.get(name, -1) == group_of.get(of, -2) for name, (_, of) in truth.items())
        print(f"threshold {threshold}: recall {hits / len(truth):.4f} ({', '.join(line)}), precision "
              f"{hits / max(found['copies'], 1):.4f}: {found['copies'] - hits} of {found['copies']} copies were not planted; "
              f"{seconds:.0f} s")
        if threshold == args.show:
            print(*sorted(others, reverse=True), sep="\n")


def labels(args):
    """Wrong labels are planted in the index itself, so that features are computed once for all seeds."""
    from safetensors.numpy import load_file, save_file

    index = indexed(args.binary, args.model, args.folder, args.work / "labels.safetensors")
    tensors, rows = load_file(index), []
    names = bytes(tensors["names"]).decode().split("\0")[:-1]
    right, classes = tensors["labels"], int(tensors["labels"].max()) + 1
    wrong_file = args.work / "wrong.safetensors"
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        wrong = rng.choice(len(names), round(args.share * len(names)), replace=False)
        given = right.copy()
        given[wrong] = (given[wrong] + rng.integers(1, classes, len(wrong))) % classes
        save_file({**tensors, "labels": given.astype(np.int32)}, wrong_file)
        report = json.loads(run(args.binary, "search", "labels", wrong_file, "--json"))
        planted = {names[at] for at in wrong}
        listed = [suspect["image"] for suspect in report["suspects"]]
        sure = [suspect["image"] for suspect in report["suspects"] if suspect["confident"]]
        hits = np.array([name in planted for name in listed])
        average = float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].sum() / len(planted))
        both = lambda some: (sum(name in planted for name in some) / max(len(some), 1),
                             sum(name in planted for name in some) / len(planted))
        rows.append([*both(listed), *both(sure), average, len(listed), len(sure)])
        print(f"seed {seed}: {len(planted)} planted among {len(names)}; list of {len(listed)}: precision {rows[-1][0]:.3f}, "
              f"recall {rows[-1][1]:.3f}; confident {len(sure)}: {rows[-1][2]:.3f}, {rows[-1][3]:.3f}; "
              f"average precision {average:.3f}")
    print("mean: list precision %.3f recall %.3f, confident precision %.3f recall %.3f, average precision %.3f"
          % tuple(statistics.mean(column) for column in list(zip(*rows))[:5]))


def exact(args):
    from safetensors.numpy import load_file

    tensors = load_file(args.index)
    about = json.loads(bytes(tensors["about"]))
    names = bytes(tensors["names"]).decode().split("\0")[:-1]
    features = tensors["features"].astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    asked = names[:: max(1, len(names) // args.queries)][: args.queries]
    files = [str(pathlib.Path(about["folder"]) / name) for name in asked]
    found = [json.loads(line) for line in
             run(args.binary, "search", "query", args.index, *files, "--top-k", "10", "--json").splitlines()]
    largest = other = 0.0
    for name, line in zip(asked, found):
        cosines = unit @ unit[names.index(name)]
        order = np.lexsort((np.arange(len(names)), -cosines))[:10]
        for near, row in zip(line["neighbors"], order):
            largest = max(largest, abs(near["cosine"] - cosines[names.index(near["image"])]))
            # Another image counts as a difference only if its cosine is smaller than the rank's by more than rounding.
            other += abs(cosines[names.index(near["image"])] - cosines[row]) > 1e-6
    print(f"{len(asked)} queries, {10 * len(asked)} neighbors: {int(other)} are not those of NumPy; "
          f"cosines differ by at most {largest:.1e}")


def speed(args):
    import faiss

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((args.rows, args.width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(args.width)
    index.add(vectors)

    def ours(queries):
        for query in queries:
            cosines = vectors @ query
            near = np.argpartition(-cosines, 10)[:10]
            near[np.argsort(-cosines[near])]

    for count in (1, 64):
        for name, search in (("numpy", ours), ("faiss", lambda queries: index.search(queries, 10))):
            times = []
            for _ in range(11):
                start = time.perf_counter()
                search(vectors[:count])
                times.append(time.perf_counter() - start)
            print(f"{name}, {count} at a time: {count / statistics.median(times):.0f} queries a second")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (copies, labels):
        sub = commands.add_parser(command.__name__)
        sub.add_argument("binary")
        sub.add_argument("model")
        sub.add_argument("folder", type=pathlib.Path)
        sub.add_argument("work", type=pathlib.Path)
        sub.set_defaults(run=command)
        if command is copies:
            sub.add_argument("--each", type=int, default=500)
            sub.add_argument("--thresholds", type=float, nargs="*", default=[0.94, 0.95, 0.96, 0.97, 0.98, 0.99])
            sub.add_argument("--show", type=float, default=0.97)
        else:
            sub.add_argument("--share", type=float, default=0.05)
            sub.add_argument("--seeds", type=int, default=5)
    sub = commands.add_parser("exact")
    sub.add_argument("binary")
    sub.add_argument("index", type=pathlib.Path)
    sub.add_argument("--queries", type=int, default=100)
    sub.set_defaults(run=exact)
    sub = commands.add_parser("speed")
    sub.add_argument("rows", type=int)
    sub.add_argument("width", type=int)
    sub.set_defaults(run=speed)
    args = parser.parse_args()
    if hasattr(args, "work"):
        args.work.mkdir(parents=True, exist_ok=True)
    args.run(args)


main()
