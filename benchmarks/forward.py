#!/usr/bin/env python3
"""The forward pass against PyTorch, ONNX Runtime and OpenVINO: every engine in turn, several rounds, medians.

  python benchmarks/forward.py target/release/vitral [--rounds 5] [--threads 2] [--cells B/16:1,B/16:8@384] [--out FILE]

Needs torch, timm, onnx, onnxruntime and openvino in the Python that runs it. Every engine runs the same architecture
(timm's, random weights, f32) from a tensor, in a process of its own that stays alive between rounds, so that no engine
pays another's start-up, and only one works at any moment: A B C D A B C D …. A cell's figure is the median over all runs
of all rounds; the ratio is the best peer's median over ours.
"""
import argparse, json, os, pathlib, platform, statistics, subprocess, sys, tempfile, time

SIZES = {"Ti": (192, 3), "S": (384, 6), "B": (768, 12)}
PEERS = ["pytorch", "onnxruntime", "openvino"]


def timm_model(size, patch, image):
    import timm

    width, heads = SIZES[size]
    return timm.models.vision_transformer.VisionTransformer(
        img_size=image, patch_size=patch, embed_dim=width, depth=12, num_heads=heads).eval()


def peer_process(engine, cell, threads):
    """Runs in a child: prints `ready`, then for every line `N` on stdin the times of N runs as JSON."""
    import numpy as np
    import torch

    size, patch, batch, image = cell
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = timm_model(size, patch, image)
    x = torch.randn(batch, 3, image, image)
    if engine == "pytorch":
        def run():
            with torch.inference_mode():
                return model(x)
    else:
        path = os.path.join(tempfile.mkdtemp(), "model.onnx")
        torch.onnx.export(model, (x,), path, input_names=["x"], output_names=["y"], opset_version=18, dynamo=False)
        array = x.numpy()
        if engine == "onnxruntime":
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            run = lambda: session.run(None, {"x": array})[0]
        else:
            import openvino as ov

            core = ov.Core()
            compiled = core.compile_model(path, "CPU", {
                "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
            run = lambda: compiled([array])
    for _ in range(3):
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), flush=True)


class Peer:
    def __init__(self, engine, cell, threads, script=__file__):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, script, "--peer", engine, json.dumps(cell), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=environment)
        while (line := self.process.stdout.readline()) != "ready\n":
            if not line:
                raise RuntimeError(f"{engine} did not start")

    def times(self, runs):
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(binary, cell, threads, runs, more=()):
    """Vitral prints a median of its own runs: one process a round."""
    size, patch, batch, image = cell
    command = [binary, "bench", "--arch", f"{size}/{patch}", "--image-size", str(image), "--batch", str(batch),
               "--threads", str(threads), "--runs", str(runs), "--json", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    return {"processor": model, "cores": os.cpu_count(), "system": platform.platform()}


def versions(names=("torch", "timm", "onnxruntime", "openvino")):
    import importlib.metadata as metadata

    return {name: metadata.version(name) for name in names}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", default="Ti/16:1,Ti/16:8,S/16:1,S/16:8,B/16:1,B/16:8,B/16:1@384,S/14:1@518")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows = []
    for text in arguments.cells.split(","):
        name, _, image = text.partition("@")
        arch, batch = name.split(":")
        size, patch = arch.split("/")
        cell = (size, int(patch), int(batch), int(image or 224))
        runs = 3 if size == "B" and (cell[2] > 1 or cell[3] > 224) else 10
        peers = {engine: Peer(engine, cell, arguments.threads) for engine in arguments.peers.split(",")}
        times = {engine: [] for engine in ["vitral", *peers]}
        peak = []
        for _ in range(arguments.rounds):
            report = ours(arguments.binary, cell, arguments.threads, runs)
            times["vitral"].append(report["median_ms"])
            peak.append(report["fraction_of_peak"])
            for engine, peer in peers.items():
                times[engine] += peer.times(runs)
        for peer in peers.values():
            peer.close()
        medians = {engine: round(statistics.median(values), 2) for engine, values in times.items()}
        best = min(value for engine, value in medians.items() if engine != "vitral")
        row = {"cell": text, "median_ms": medians, "ratio": round(best / medians["vitral"], 3),
               "fraction_of_peak": round(statistics.median(peak), 3)}
        rows.append(row)
        print(f"{text:12}", "  ".join(f"{engine} {value:8.2f}" for engine, value in medians.items()),
              f"  ratio {row['ratio']:.2f}  of peak {row['fraction_of_peak']:.2f}", flush=True)
    mean = statistics.geometric_mean([row["ratio"] for row in rows])
    print(f"geometric mean of the ratios: {mean:.2f}")
    if arguments.out:
        report = {"machine": machine(), "versions": versions(), "threads": arguments.threads,
                  "rounds": arguments.rounds, "date": time.strftime("%Y-%m-%d"), "rows": rows}
        pathlib.Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--peer":
        peer_process(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
