#!/usr/bin/env python3
"""A whole training step (forward, backward, AdamW) against PyTorch, eager and compiled: in turn, several rounds, medians.

  python benchmarks/train.py target/release/vitral [--rounds 3] [--threads 2] [--cells Ti/4:128@32,S/16:8] [--out FILE]

Needs torch and timm in the Python that runs it. Both sides train timm's architecture from random weights in f32 on one
batch of made-up images. Every peer has a process of its own that stays alive between rounds; only one works at any moment.
The ratio is the better peer's median over ours; memory is the most that a process ever held.
"""
import argparse, json, pathlib, statistics, subprocess, sys, time

import forward


def peer_process(engine, cell, threads):
    """Runs in a child: prints `ready`, then for every line `N` on stdin the times of N steps, or the memory for 0."""
    import resource

    import torch

    size, patch, batch, image = cell
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = forward.timm_model(size, patch, image).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    pixels, labels = torch.randn(batch, 3, image, image), torch.randint(0, 1000, (batch,))
    run = torch.compile(model) if engine == "compiled" else model

    def step():
        loss = torch.nn.functional.cross_entropy(run(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(2):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        if int(line) == 0:
            print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), flush=True)
            continue
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), flush=True)


def ours(binary, cell, threads, runs):
    size, patch, batch, image = cell
    command = [binary, "bench", "--train", "--arch", f"{size}/{patch}", "--image-size", str(image), "--batch", str(batch),
               "--threads", str(threads), "--runs", str(runs), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cells", default="Ti/4:128@32,S/16:8,B/16:4")
    parser.add_argument("--peers", default="eager,compiled")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows = []
    for text in arguments.cells.split(","):
        name, _, image = text.partition("@")
        arch, batch = name.split(":")
        size, patch = arch.split("/")
        cell = (size, int(patch), int(batch), int(image or 224))
        peers = {engine: forward.Peer(engine, cell, arguments.threads, __file__) for engine in arguments.peers.split(",")}
        times = {engine: [] for engine in ["vitral", *peers]}
        memory = {}
        for _ in range(arguments.rounds):
            report = ours(arguments.binary, cell, arguments.threads, arguments.runs)
            times["vitral"].append(report["median_ms"])
            memory["vitral"] = max(report["peak_rss_mb"], memory.get("vitral", 0))
            for engine, peer in peers.items():
                times[engine] += peer.times(arguments.runs)
        for engine, peer in peers.items():
            memory[engine] = peer.times(0)
            peer.close()
        medians = {engine: round(statistics.median(values), 1) for engine, values in times.items()}
        memory = {engine: round(value) for engine, value in memory.items()}
        best = min(value for engine, value in medians.items() if engine != "vitral")
        row = {"cell": text, "median_ms": medians, "ratio": round(best / medians["vitral"], 3), "peak_rss_mb": memory}
        rows.append(row)
        print(f"{text:12}", "  ".join(f"{engine} {value:8.1f} ms {memory[engine]:5} MB" for engine, value in medians.items()),
              f"  ratio {row['ratio']:.2f}", flush=True)
    if arguments.out:
        report = {"machine": forward.machine(), "versions": forward.versions(["torch", "timm"]),
                  "threads": arguments.threads, "rounds": arguments.rounds, "date": time.strftime("%Y-%m-%d"), "rows": rows}
        pathlib.Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--peer":
        peer_process(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
