"""What the tests share: the repository's models and images, and the command line to compare with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vitral

ROOT = Path(__file__).resolve().parents[3]


def _binary():
    given = os.environ.get("VITRAL_BINARY")
    built = [Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / kind / "vitral" for kind in ("release", "debug")]
    found = [Path(given)] if given else [path for path in built if path.exists()]
    return found[0] if found else shutil.which("vitral")


@pytest.fixture(scope="session")
def cli():
    """Runs the command line, and returns what it prints."""
    binary = _binary()
    if binary is None:
        pytest.skip("the command line is not built: set VITRAL_BINARY")

    def run(*arguments, code=0):
        done = subprocess.run([binary, *map(str, arguments), "--quiet"], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


@pytest.fixture(scope="session")
def golden():
    """The folder of a golden model."""
    return lambda name: ROOT / "goldens" / "models" / name


@pytest.fixture(scope="session")
def images():
    """Three photographs."""
    return [str(path) for path in sorted((ROOT / "assets" / "images").glob("*.jpg"))]


@pytest.fixture(scope="session")
def photos(images):
    """More photographs, where they are."""
    shared = Path(os.environ.get("VITRAL_SHARED_DATA", ROOT.parent / "shared" / "data")) / "photos"
    found = [str(path) for path in sorted(shared.glob("*.JPEG"))]
    return found or images


@pytest.fixture(scope="session")
def model():
    """The built-in model."""
    return vitral.Model.load(threads=2)


@pytest.fixture(scope="session")
def flowers(tmp_path_factory):
    """Labeled images: three classes of small squares in different colors."""
    from PIL import Image

    folder, random = tmp_path_factory.mktemp("flowers"), np.random.default_rng(7)
    for place, name in enumerate(["blue", "green", "red"]):
        for split, count in [("train", 10), ("test", 4)]:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 120, (36, 32, 3), np.uint8)
                pixels[..., 2 - place] += 130
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture
def python():
    """Runs a program in a process of its own, as `-X dev` would have it: any warning is an error."""

    def run(program, *arguments, timeout=120):
        command = [sys.executable, "-X", "dev", "-X", "faulthandler", "-W", "error", "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run
