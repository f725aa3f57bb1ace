#!/usr/bin/env python3
"""Times ONNX files against each other in ONNX Runtime, in turn: medians in milliseconds, and ratios to the first.

    onnx-venv/bin/python tools/onnx/speed.py theirs.onnx ours.onnx --batch 1 --rounds 30

All files take one input, `[batch, 3, side, side]`. `--openvino` times them in OpenVINO instead.
"""

import argparse
import statistics
import time

import numpy


def onnxruntime_runner(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    wanted = [output.name for output in session.get_outputs() if output.name != "features"]
    return lambda pixels: session.run(wanted, {name: pixels})[0]


def openvino_runner(path, threads):
    import openvino

    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", properties)
    request, port = model.create_infer_request(), model.outputs[0]
    return lambda pixels: request.infer({0: pixels})[port]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="+")
    arguments.add_argument("--batch", type=int, default=1)
    arguments.add_argument("--side", type=int, default=224)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--openvino", action="store_true")
    arguments = arguments.parse_args()
    runner = openvino_runner if arguments.openvino else onnxruntime_runner
    runs = [runner(path, arguments.threads) for path in arguments.files]
    shape = (arguments.batch, 3, arguments.side, arguments.side)
    pixels = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    answers = [run(pixels) for run in runs]
    times = [[] for _ in runs]
    for _ in range(arguments.rounds):
        for run, taken in zip(runs, times):
            start = time.perf_counter()
            run(pixels)
            taken.append(1e3 * (time.perf_counter() - start))
    first = statistics.median(times[0])
    for path, taken, answer in zip(arguments.files, times, answers):
        median = statistics.median(taken)
        apart = numpy.abs(answer - answers[0]).max() / answers[0].std()
        print(f"{median:9.2f} ms  {median / first:5.3f}  deviation {apart:.1e}  {path}")


if __name__ == "__main__":
    main()
