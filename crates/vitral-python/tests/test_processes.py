"""Threads, forks, pickles, interruptions, and memory."""

import copy
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vitral


def embedded(model, image):
    return model.embed(image)


def explained(model, image):
    return [model.explain(image, method).values for method in ("rollout", "chefer", "eigencam")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:.*fork")  # Python's, that there are threads, and JAX's.
def test_forks(images, threads):
    model = vitral.Model.load(threads=threads)
    expected, maps = model.embed(images), explained(model, images[0])
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        for work in [pool.apply_async(_in_child, (index,)) for index in range(4)]:
            assert work.get(30) is None
    # The model of the parent, as the child inherits it.
    receive, send = context.Pipe(False)
    child = context.Process(target=lambda: send.send((model.embed(images), explained(model, images[0]))))
    child.start()
    assert receive.poll(30), "the child does not answer"
    found, others = receive.recv()
    child.join(30)
    assert child.exitcode == 0 and np.array_equal(found, expected)
    assert all(np.array_equal(a, b) for a, b in zip(others, maps))
    assert np.array_equal(model.embed(images), expected), "the parent's threads are still there"


def _in_child(index):
    model = vitral.Model.load(threads=2)
    assert model.embed(np.full((40, 40, 3), index, np.uint8)).shape == (1, 128)


def test_pickles(golden, images, monkeypatch, tmp_path):
    for given, options in [(None, {}), (golden("hf_vit_classifier"), dict(precision="bf16", threads=2, image_size=40))]:
        model = vitral.Model.load(given, **options)
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again.embed(images), model.embed(images))
        assert (again.precision, again.threads) == (model.precision, model.threads)
        assert copy.copy(model) is model and copy.deepcopy([model])[0] is model
    monkeypatch.chdir(golden("").parent)
    data = pickle.dumps(vitral.Model.load("models/hf_vit_classifier"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(data).embed(images).shape[0] == 3
    fault = vitral.ImageError("said")
    assert str(pickle.loads(pickle.dumps(fault))) == "said"


def test_other_processes(images):
    model = vitral.Model.load(threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(embedded, (model, images[0])), model.embed(images[0]))


def test_threads_get_what_one_gets(model, images):
    expected = [model.embed(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model.embed, images * 20))
        maps = list(pool.map(lambda image: model.explain(image, "chefer").values, images * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 20))
    assert all(np.array_equal(a, b) for a, b in zip(maps, maps[:3] * 4))


def test_python_goes_on_meanwhile(model, images):
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    model.explain(images[0], "rise", masks=400)
    done.set()
    thread.join()
    # With the lock held, there would be one long gap. A busy machine has some.
    assert np.quantile(np.diff(ticks), 0.9) < 0.1 and len(ticks) > 10


INTERRUPTED = """
import json, signal, sys, threading, time, os, vitral
kind, image = sys.argv[1:3]
model = vitral.Model.load(threads=1)
def endless():
    while True:
        yield image
calls = {
    "explain": lambda: model.explain(image, "rise", masks=5_000_000),
    "smooth": lambda: model.explain(image, "smoothgrad", samples=1_000_000),
    "classify": lambda: model.classify(endless()),
    "embed": lambda: model.embed(endless()),
    "evaluate": lambda: [model.evaluate(sys.argv[3]) for _ in range(10_000)],
}
sent = []
def send():
    time.sleep(0.5)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
try:
    calls[kind]()
    print(json.dumps("ended"))
except KeyboardInterrupt:
    print(json.dumps(time.monotonic() - sent[0]))
"""


@pytest.mark.parametrize("kind", ["explain", "smooth", "classify", "embed"])
def test_interruptions(python, images, flowers, kind):
    # A second is the aim; a busy machine takes its time.
    assert python(INTERRUPTED, kind, images[0], flowers) < 3.0


LEAKS = """
import json, resource, sys, vitral, gc, numpy as np
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
with open(sys.argv[1], "rb") as file:
    model, data = vitral.Model.load(threads=1), file.read()
pixels = model.preprocess(data)
def calls(count):
    for index in range(count):
        model.embed(data); model.classify(data, 2)
        if index % 10 == 0:
            model.forward(pixels, hidden_states=True); model.explain(data, "rollout").overlay
            try:
                model.embed(b"no image")
            except vitral.ImageError:
                pass
            next(model.embed_batches(iter([data] * 40), batch_size=2))
calls(600); gc.collect()
before = resident(); calls(int(sys.argv[2])); gc.collect()
print(json.dumps(resident() - before))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_nothing_leaks(python, images):
    calls = int(os.environ.get("VITRAL_LEAK_CALLS", 1000))
    assert python(LEAKS, images[0], calls, timeout=3600) < 4_000_000


EVERYTHING = """
import vitral, io, sys, numpy as np
model = vitral.Model.load()
image = sys.argv[1]
with open(image, "rb") as file:
    model.classify(file)
list(model.embed_batches(iter([image] * 9), batch_size=2))
model.explain(image, "gradcam")._repr_png_()
model.forward(model.preprocess(image), attentions=True)
vitral.pipeline("image-classification", model)([image, image])
stream = model.embed_batches(iter([image] * 100), batch_size=1)
next(stream)
del stream
"""


def test_development_mode_has_nothing_to_say(python, images):
    python(EVERYTHING, images[0])


def test_import_is_quick_and_needs_numpy_alone(python):
    program = """
import json, sys, time
import numpy
before, start = set(sys.modules), time.perf_counter()
import vitral
took = time.perf_counter() - start
top = {name.split(".")[0] for name in set(sys.modules) - before}
print(json.dumps([took, sorted(top - set(sys.stdlib_module_names) - {"numpy"})]))
"""
    found = [python(program) for _ in range(5)]
    assert [others for _, others in found] == [["vitral"]] * 5
    # 30 ms is the aim on an idle machine; this one may be at work, and in development mode.
    assert min(took for took, _ in found) < 0.15
