#!/usr/bin/env python3
"""The forward pass in bf16 and int8 against other libraries: every engine in turn, several rounds, medians.

  python benchmarks/precision.py target/release/vitral [--rounds 3] [--threads 2] [--cells Ti/16:1,B/16:8] [--out FILE]

Needs torch, timm, onnx, onnxruntime, openvino, nncf and torchao in the Python that runs it. The procedure is that of
`forward.py`: the same architecture everywhere (timm's, random weights) from a tensor, each engine in a process of its own, one
at a time. Products are in bf16 or int8; each library does with the rest what it does by itself:

  openvino-f32, openvino-bf16   INFERENCE_PRECISION_HINT; bf16 is OpenVINO's default on processors that have it
  openvino-int8                 NNCF's post-training quantization, for transformers, calibrated with 8 inputs; the rest in bf16
  onnxruntime-int8              dynamic quantization: weights per channel, activations as they come
  pytorch-bf16                  the model in bfloat16
  torchao-int8                  weights per channel, activations per token, as they come; compiled where a compiler is found
"""
import argparse, json, os, pathlib, statistics, sys, tempfile, time

import forward

PEERS = ["openvino-f32", "openvino-bf16", "pytorch-bf16", "openvino-int8", "onnxruntime-int8", "torchao-int8"]
OURS = ["f32", "bf16", "int8"]


def made(engine, cell, threads):
    """What runs one pass of an engine."""
    import torch

    size, patch, batch, image = cell
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = forward.timm_model(size, patch, image)
    x = torch.randn(batch, 3, image, image)
    library, precision = engine.split("-")
    if library == "pytorch":
        model, x = model.bfloat16(), x.bfloat16()
        return lambda: inferred(model, x)
    if library == "torchao":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig())
        compiled = torch.compile(model)
        inferred(compiled, x)
        return lambda: inferred(compiled, x)
    path = os.path.join(tempfile.mkdtemp(), "model.onnx")
    torch.onnx.export(model, (x,), path, input_names=["x"], output_names=["y"], opset_version=18, dynamo=False)
    array = x.numpy()
    if library == "onnxruntime":
        import onnxruntime as ort
        from onnxruntime.quantization import QuantType, quantize_dynamic

        narrow = path.replace("model", "int8")
        quantize_dynamic(path, narrow, weight_type=QuantType.QInt8, per_channel=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        session = ort.InferenceSession(narrow, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": array})[0]
    import openvino as ov

    read, hint = path, precision
    if precision == "int8":
        import nncf

        calibration = nncf.Dataset([torch.randn(batch, 3, image, image).numpy() for _ in range(8)], lambda x: {"x": x})
        read = nncf.quantize(ov.Core().read_model(path), calibration, model_type=nncf.ModelType.TRANSFORMER)
        hint = "bf16"
    compiled = ov.Core().compile_model(read, "CPU", {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint})
    return lambda: compiled([array])


def inferred(model, x):
    import torch

    with torch.inference_mode():
        return model(x)


def peer_process(engine, cell, threads):
    """Runs in a child: prints `ready`, then for every line `N` on stdin the times of N runs as JSON."""
    out, sys.stdout = sys.stdout, sys.stderr
    run = made(engine, cell, threads)
    for _ in range(3):
        run()
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), file=out, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", default="Ti/16:1,Ti/16:8,S/16:1,S/16:8,B/16:1,B/16:8")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--ours", default=",".join(OURS))
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows = []
    for text in arguments.cells.split(","):
        arch, batch = text.split(":")
        size, patch = arch.split("/")
        cell = (size, int(patch), int(batch), 224)
        runs = 3 if size == "B" and cell[2] > 1 else 10
        peers = {}
        for engine in filter(None, arguments.peers.split(",")):
            try:
                peers[engine] = forward.Peer(engine, cell, arguments.threads, __file__)
            except RuntimeError as fault:
                print(fault, file=sys.stderr)
        ours = [precision for precision in arguments.ours.split(",") if precision]
        times = {name: [] for name in [*(f"vitral-{precision}" for precision in ours), *peers]}
        reached = {precision: [] for precision in ours}
        for _ in range(arguments.rounds):
            for precision in ours:
                report = forward.ours(arguments.binary, cell, arguments.threads, runs, ["--precision", precision])
                times[f"vitral-{precision}"].append(report["median_ms"])
                reached[precision].append(report["fraction_of_peak"])
            for engine, peer in peers.items():
                times[engine] += peer.times(runs)
        for peer in peers.values():
            peer.close()
        medians = {engine: round(statistics.median(values), 2) for engine, values in times.items()}
        row = {"cell": text, "median_ms": medians,
               "fraction_of_peak": {precision: round(statistics.median(shares), 3) for precision, shares in reached.items()}}
        for precision in [p for p in ours if p != "f32"]:
            best = min((ms for engine, ms in medians.items()
                        if engine.endswith(precision) and not engine.startswith("vitral")), default=None)
            if best is not None:
                row[f"{precision}_over_best_peer"] = round(best / medians[f"vitral-{precision}"], 3)
            if "vitral-f32" in medians:
                row[f"{precision}_over_f32"] = round(medians["vitral-f32"] / medians[f"vitral-{precision}"], 3)
        rows.append(row)
        print(json.dumps(row), flush=True)
    for key in ("bf16_over_best_peer", "int8_over_best_peer"):
        if rows and all(key in row for row in rows):
            print(f"geometric mean of {key}: {statistics.geometric_mean([row[key] for row in rows]):.3f}")
    if arguments.out:
        report = {"machine": forward.machine(),
                  "versions": forward.versions(("torch", "timm", "onnxruntime", "openvino", "nncf", "torchao")),
                  "threads": arguments.threads, "rounds": arguments.rounds, "date": time.strftime("%Y-%m-%d"), "rows": rows}
        pathlib.Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--peer":
        peer_process(sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
