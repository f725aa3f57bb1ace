"""Golden models through a built binary, compared with what their own libraries computed. Used by `gpu-check` and `cpu-check`."""
import array
import json
import math
import pathlib
import struct
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The most that any value may differ by, in units of the reference's standard deviation, and the most in the mean square.
LIMITS = {"f32": (2e-4, 2e-4), "bf16": (math.inf, 2e-2), "int8": (math.inf, math.inf)}


def read(path):
    """The 32-bit tensors of a safetensors file, by name."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        values = array.array("f")
        values.frombytes(data[8 + length + begin : 8 + length + end])
        tensors[name] = (entry["shape"], values)
    return tensors


def differences(found, expected):
    """The largest difference and its root mean square, in units of the reference's standard deviation."""
    count = len(expected)
    mean = math.fsum(expected) / count
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in expected) / count) or 1.0
    apart = [a - b for a, b in zip(found, expected)]
    if not all(map(math.isfinite, found)):
        return math.inf, math.inf
    return max(map(abs, apart)) / deviation, math.sqrt(math.fsum(x * x for x in apart) / count) / deviation


def forward(binary, case, precision, device, output, more=(), environment=None):
    """Runs a golden model, and gives its answer."""
    command = [binary, "forward", str(case), "--input", str(case / "input.safetensors"), "--output", str(output),
               "--hidden-states", "--attentions", "--device", device, "--precision", precision, "--quiet", *more]
    if (case / "vitral-config.json").is_file():
        command += ["--config", str(case / "vitral-config.json")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        raise RuntimeError(run.stderr.strip() or f"exit code {run.returncode}")
    return read(output)


def parity(binary, case, precision, device, more=(), environment=None):
    """The worst differences of one model, or what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        found = forward(binary, case, precision, device, pathlib.Path(folder) / "out.safetensors", more, environment)
    worst = (0.0, 0.0)
    for name, (shape, values) in read(case / "expected.safetensors").items():
        if name not in found:
            raise RuntimeError(f"`{name}` is missing")
        if found[name][0] != shape:
            raise RuntimeError(f"`{name}` is {found[name][0]}, expected {shape}")
        apart = differences(found[name][1], values)
        for value, limit, kind in zip(apart, LIMITS[precision], ["at most", "in the mean square"]):
            if value > limit:
                raise RuntimeError(f"`{name}` differs by {value:.1e} standard deviations, {kind} {limit:.0e}")
        worst = tuple(map(max, worst, apart))
    return worst
