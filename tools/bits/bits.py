#!/usr/bin/env python3
"""Records or checks the exact bits of what Vitral computes.

    python3 tools/bits/bits.py BINARY check     compare with the values recorded for this instruction set
    python3 tools/bits/bits.py BINARY record    write them anew

Hashes, at one and at two threads: logits, features, hidden states and attention weights of every golden model, and the
parameters (and their average) after twenty steps of three recipes that drop nothing. A change that should not move a bit is
held to that with `check`; a change that means to move some records them again and says why. `VITRAL_ISA` caps the
instruction set, whose name is the name of the file. Needs nothing but Python and a built binary; it is not part of the tests,
since the bits depend on the instruction set.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
THREADS = (1, 2)


def tensors(path):
    """Name to (header, bytes) of a safetensors file."""
    data = Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    start = 8 + size
    return {
        name: (f"{entry['dtype']}{entry['shape']}", data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in header.items()
    }


def digest(entries):
    total = hashlib.sha256()
    for name, (form, data) in sorted(entries.items()):
        total.update(f"{name} {form}\n".encode())
        total.update(data)
    return total.hexdigest()[:16]


def run(binary, threads, *arguments, folder=None):
    command = [str(binary), *map(str, arguments), "--threads", str(threads), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def forward_bits(binary, threads, case):
    own = case / "vitral-config.json"
    described = ["--config", own] if own.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.safetensors"
        wanted = ["--input", case / "input.safetensors", "--output", out, "--hidden-states", "--attentions"]
        run(binary, threads, "forward", "--model", case, *described, *wanted)
        found = tensors(out)
    answers = {name: found[name] for name in found if name in ("logits", "features")}
    inside = {name: found[name] for name in found if name not in answers}
    return [digest(answers), digest(inside)]


def noise(count, state):
    """Bytes of a fixed generator (xorshift)."""
    out = bytearray()
    while len(out) < count:
        state ^= (state << 13) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= (state << 17) & 0xFFFFFFFFFFFFFFFF
        out += state.to_bytes(8, "little")
    return bytes(out[:count])


def images(folder):
    """CIFAR's binary files: 80 images to learn from, 16 to validate on, noise of a brightness that depends on the class."""
    folder.mkdir()
    for name, count, seed in (("data_batch_1.bin", 80, 11), ("test_batch.bin", 16, 12)):
        with open(folder / name, "wb") as file:
            for index in range(count):
                label = index % 10
                pixels = noise(3 * 32 * 32, 1_000_003 * (seed * 1000 + index) + 1)
                file.write(bytes([label]) + bytes(p // 2 + 12 * label for p in pixels))


def train_bits(binary, threads, recipe):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images(folder / "images")
        model = folder / "model"
        shutil.copytree(ROOT / "goldens/models/timm_plain", model)
        shutil.copy(recipe, folder / "recipe.toml")
        run(binary, threads, "train", "recipe.toml", "--out", "run", folder=folder)
        newest = sorted((folder / "run/checkpoints").glob("step-*.safetensors"))[-1]
        found = tensors(newest)
    # The moving average was called `average` when the hashes were recorded.
    kept = {"parameters": "parameters", "average": "average", "ema": "average"}
    return digest({kept[name]: found[name] for name in found if name in kept})


def instruction_set(binary):
    out = json.loads(run(binary, 1, "bench", "--arch", "test/4", "--batch", "1", "--runs", "1", "--json"))
    # What comes with an instruction set does not change the bits of 32-bit floats; AMX comes with AVX-512.
    return out["instruction_set"].split("-")[0].replace("amx", "avx512")


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in ("check", "record"):
        sys.exit(__doc__)
    binary = Path(sys.argv[1]).resolve()
    found = {}
    cases = sorted(path for path in (ROOT / "goldens/models").iterdir() if (path / "input.safetensors").is_file())
    for threads in THREADS:
        for case in cases:
            found[f"forward/{case.name}/{threads}"] = forward_bits(binary, threads, case)
        for recipe in sorted(HERE.glob("*.toml")):
            found[f"train/{recipe.stem}/{threads}"] = train_bits(binary, threads, recipe)
    path = HERE / f"{instruction_set(binary)}.json"
    if sys.argv[2] == "record":
        path.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
        print(f"{len(found)} values recorded in {path.relative_to(ROOT)}")
        return
    known = json.loads(path.read_text())
    differ = [name for name in sorted(known.keys() | found.keys()) if known.get(name) != found.get(name)]
    for name in differ:
        print(f"{name}: recorded {known.get(name)}, found {found.get(name)}")
    print(f"{len(known) - len(differ)} of {len(known)} as recorded ({path.stem})")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
