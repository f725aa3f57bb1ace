"""Talks to `vitral serve` with other people's clients, unchanged, and compares what they get with `vitral classify`,
`vitral embed` and `vitral forward`.

    python -m venv VENV && VENV/bin/pip install 'tritonclient[http,grpc]' kserve huggingface_hub openai \
        prometheus_client numpy
    VENV/bin/python tools/clients/clients.py target/release/vitral [FOLDER]

FOLDER is where `npm install @huggingface/inference` was run. What it printed last is in `printed.txt` beside it.
"""

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CAT, SHIP = (ROOT / "assets/images" / name for name in ("cat.jpg", "ship.jpg"))
if not SHIP.exists():
    SHIP = ROOT / "assets/images/automobile.jpg"
FAILED = []


def check(name, good, found=""):
    print(f"{'ok  ' if good else 'FAIL'}  {name}{'  ' + str(found) if found != '' else ''}", flush=True)
    if not good:
        FAILED.append(name)


def command(binary, *arguments):
    return subprocess.run([binary, "--quiet", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


class Expected:
    """What the command line says about the two images."""

    def __init__(self, binary):
        lines = command(binary, "classify", "--json", "--top", 10, CAT, SHIP).splitlines()
        self.labels = [json.loads(line)["labels"] for line in lines]
        by_class = [sorted(labels, key=lambda label: label["class"]) for labels in self.labels]
        self.logits = np.array([[label["logit"] for label in labels] for labels in by_class], np.float32)
        self.probabilities = np.array([[label["probability"] for label in labels] for labels in by_class], np.float32)
        with tempfile.TemporaryDirectory() as folder:
            features = Path(folder) / "features.npy"
            command(binary, "embed", CAT, SHIP, "--output", features)
            self.features = np.load(features)
            pixels = Path(folder) / "pixels.safetensors"
            command(binary, "preprocess", CAT, SHIP, "--output", pixels)
            self.pixels = tensor(pixels, "pixel_values")


def tensor(path, name):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])[name]
    first, last = header["data_offsets"]
    return np.frombuffer(data[8 + length + first : 8 + length + last], np.float32).reshape(header["shape"])


def same(found, expected):
    return found is not None and found.shape == expected.shape and found.tobytes() == expected.tobytes()


def triton(client, module, where, expected):
    """tritonclient, whose two clients have the same methods."""
    check(f"{where}: live and ready", client.is_server_live() and client.is_server_ready())
    check(f"{where}: model ready", client.is_model_ready("cifar10") and client.is_model_ready("cifar10", "1"))
    client.get_server_metadata(), client.get_model_metadata("cifar10"), client.get_model_config("cifar10")
    check(f"{where}: metadata, config", True)
    images = np.array([CAT.read_bytes(), SHIP.read_bytes()], dtype=np.object_)
    binary = [True, False] if where.endswith("http") else [True]
    for sent in binary:
        pixels = module.InferInput("pixel_values", expected.pixels.shape, "FP32")
        if where.endswith("http"):
            pixels.set_data_from_numpy(expected.pixels, binary_data=sent)
        else:
            pixels.set_data_from_numpy(expected.pixels)
        inputs = [("FP32", pixels)]
        encoded = module.InferInput("images", [2], "BYTES")
        if where.endswith("http") and not sent:
            # In JSON, bytes have to be text.
            text = np.array([base64.b64encode(image).decode() for image in images], dtype=np.object_)
            encoded.set_data_from_numpy(text, binary_data=False)
        else:
            encoded.set_data_from_numpy(images)
        inputs.append(("BYTES", encoded))
        for kind, given in inputs:
            for got in binary:
                names = ["logits", "probabilities", "features"]
                options = {"binary_data": got} if where.endswith("http") else {}
                outputs = [module.InferRequestedOutput(name, **options) for name in names]
                answer = client.infer("cifar10", [given], outputs=outputs, request_id="seven")
                good = all(same(answer.as_numpy(name), getattr(expected, name)) for name in names)
                check(f"{where}: {kind}, binary {'in' if sent else 'not in'}, {'out' if got else 'not out'}: same bits", good)
        answer = client.infer("cifar10", [encoded])
        check(f"{where}: without naming outputs", same(answer.as_numpy("logits"), expected.logits))
        top = client.infer("cifar10", [encoded], outputs=[module.InferRequestedOutput("probabilities", class_count=2)])
        found = top.as_numpy("probabilities")
        check(f"{where}: classification extension", found.shape == (2, 2) and b":cat" in found[0][0], found.tolist()[0])
    if where.endswith("http"):
        for algorithm in ("gzip", "deflate"):
            answer = client.infer("cifar10", [pixels], request_compression_algorithm=algorithm, response_compression_algorithm="gzip")
            check(f"{where}: {algorithm}", same(answer.as_numpy("logits"), expected.logits))
    index = client.get_model_repository_index()
    check(f"{where}: index", "READY" in str(index))
    client.unload_model("cifar10")
    check(f"{where}: unloaded", not client.is_model_ready("cifar10"))
    client.load_model("cifar10")
    check(f"{where}: loaded again", client.is_model_ready("cifar10"))
    client.infer("cifar10", [encoded])
    statistics = str(client.get_inference_statistics("cifar10"))
    check(f"{where}: statistics", "inference_count" in statistics)
    for name, wrong in (("unknown model", lambda: client.infer("nothing", [encoded])),
                        ("unknown output", lambda: client.infer("cifar10", [encoded], outputs=[module.InferRequestedOutput("x")]))):
        try:
            wrong()
            check(f"{where}: {name}", False)
        except Exception as error:
            check(f"{where}: {name}", "expected" in str(error), str(error)[:110])


def triton_stream(module, address, expected):
    import queue
    found = queue.Queue()
    with module.InferenceServerClient(address) as client:
        client.start_stream(callback=lambda result, error: found.put((result, error)))
        for _ in range(3):
            pixels = module.InferInput("pixel_values", expected.pixels.shape, "FP32")
            pixels.set_data_from_numpy(expected.pixels)
            client.async_stream_infer("cifar10", [pixels])
        answers = [found.get(timeout=20) for _ in range(3)]
        client.stop_stream()
    good = all(error is None and same(result.as_numpy("logits"), expected.logits) for result, error in answers)
    check("tritonclient grpc: stream", good)


async def kserve(url, grpc, expected):
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    check("kserve http: ready", await client.is_server_ready(url) and await client.is_model_ready(url, "cifar10"))
    pixels = InferInput("pixel_values", list(expected.pixels.shape), "FP32")
    pixels.set_data_from_numpy(expected.pixels, binary_data=False)
    request = InferRequest("cifar10", [pixels])
    answer = await client.infer(url, request, model_name="cifar10")
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    check("kserve http: FP32 in JSON", same(outputs["logits"].astype(np.float32), expected.logits))
    pixels = InferInput("pixel_values", list(expected.pixels.shape), "FP32")
    pixels.set_data_from_numpy(expected.pixels, binary_data=True)
    answer = await client.infer(url, InferRequest("cifar10", [pixels]), model_name="cifar10")
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    check("kserve http: FP32 in binary", same(outputs["logits"].astype(np.float32), expected.logits))
    images = InferInput("images", [2], "BYTES")
    images.set_data_from_numpy(np.array([CAT.read_bytes(), SHIP.read_bytes()], dtype=np.object_), binary_data=True)
    answer = await client.infer(url, InferRequest("cifar10", [images]), model_name="cifar10")
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    check("kserve http: BYTES in binary", same(outputs["logits"].astype(np.float32), expected.logits))

    client = InferenceGRPCClient(grpc)
    check("kserve grpc: ready", await client.is_server_ready() and await client.is_model_ready("cifar10"))
    for binary in (True, False):
        pixels = InferInput("pixel_values", list(expected.pixels.shape), "FP32")
        pixels.set_data_from_numpy(expected.pixels, binary_data=binary)
        answer = await client.infer(InferRequest("cifar10", [pixels]))
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        check(f"kserve grpc: FP32, raw {binary}", same(outputs["logits"].astype(np.float32), expected.logits))


def huggingface(url, expected):
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=url)
    labels = client.image_classification(str(CAT))
    good = [label.label for label in labels] == [label["label"] for label in expected.labels[0][:5]]
    exact = all(np.float32(a.score) == np.float32(b["probability"]) for a, b in zip(labels, expected.labels[0]))
    check("huggingface_hub: image_classification", good and exact, labels[0])
    labels = client.image_classification(str(CAT), top_k=2)
    check("huggingface_hub: top_k", len(labels) == 2 and labels[0].label == "cat")
    labels = client.image_classification(CAT.read_bytes(), top_k=2, function_to_apply="sigmoid")
    check("huggingface_hub: function_to_apply", labels[0].score > 0.9, labels[0].score)
    try:
        client.image_classification(b"not an image")
        check("huggingface_hub: not an image", False)
    except Exception as error:
        check("huggingface_hub: not an image", "415" in str(error), str(error).splitlines()[0])


def openai(url, expected):
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    check("openai: models", [model.id for model in client.models.list()] == ["cifar10"])
    check("openai: model", client.models.retrieve("cifar10").id == "cifar10")
    inputs = ["data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode() for path in (CAT, SHIP)]
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model="cifar10", input=inputs, **options)
        found = np.array([entry.embedding for entry in answer.data], np.float32)
        check(f"openai: embeddings {options or 'as it asks by itself (base64)'}", same(found, expected.features))
    try:
        client.embeddings.create(model="cifar10", input="a photo of a cat")
        check("openai: text", False)
    except Exception as error:
        check("openai: text", "400" in str(error), str(error)[:120])


def prometheus(url):
    from prometheus_client.parser import text_string_to_metric_families

    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    wanted = ["vitral_requests", "vitral_forward_seconds", "nv_inference_count", "nv_inference_request_success",
              "nv_inference_pending_request_count", "nv_inference_queue_duration_us", "request_predict_seconds",
              "request_preprocess_seconds", "process_resident_memory_bytes"]
    check("prometheus_client: parses", all(name in families for name in wanted), f"{len(families)} families")


WORDS = ["a cat", "a dog", "a ship"]
CLIP = ROOT / "goldens/texts/clip"


def words(binary):
    """A model of images and texts: labels and texts in the request."""
    from huggingface_hub import InferenceClient
    from openai import OpenAI

    lines = command(binary, "classify", "--json", "--top", 3, "--model", CLIP, "--labels", ",".join(WORDS), "--template", "{}, seen", CAT)
    expected = json.loads(lines.splitlines()[0])["labels"]
    with serving(binary, "--model", f"clip={CLIP}") as (url, _):
        labels = InferenceClient(model=url).zero_shot_image_classification(str(CAT), WORDS, hypothesis_template="{}, seen")
        same_order = [label.label for label in labels] == [label["label"] for label in expected]
        near = all(abs(a.score - b["probability"]) < 1e-5 for a, b in zip(labels, expected))
        check("huggingface_hub: zero_shot_image_classification", same_order and near and len(labels) == 3, labels[0])
        labels = InferenceClient(model=url).zero_shot_image_classification(CAT.read_bytes(), WORDS)
        check("huggingface_hub: zero-shot without a template", abs(sum(label.score for label in labels) - 1) < 1e-5)
        with tempfile.TemporaryDirectory() as folder:
            texts = Path(folder) / "texts.npy"
            command(binary, "embed", "--model", CLIP, *[part for text in WORDS for part in ("--text", text)], "--output", texts)
            vectors = np.load(texts)
        answer = OpenAI(base_url=f"{url}/v1", api_key="none").embeddings.create(model="clip", input=WORDS)
        found = np.array([entry.embedding for entry in answer.data], np.float32)
        check("openai: embeddings of texts", same(found, vectors), f"{answer.usage.total_tokens} tokens")


@contextlib.contextmanager
def serving(binary, *arguments):
    """A server of its own: its addresses over HTTP and gRPC."""
    options = ["--port", "0", "--grpc-port", "0", "--json", "--log-level", "warn"]
    process = subprocess.Popen([binary, "serve", *arguments, *options], stdout=subprocess.PIPE, text=True)
    try:
        addresses = json.loads(process.stdout.readline())
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{addresses['http']}/health")
                break
            except Exception:
                time.sleep(0.1)
        yield addresses["http"], addresses["grpc"]
    finally:
        process.terminate()
        check("ends with 0 on SIGTERM", process.wait(40) == 0)


def main():
    binary = str(Path(sys.argv[1]).resolve())
    expected = Expected(binary)
    if sys.argv[2:3] == ["--kserve"]:
        asyncio.run(kserve(*sys.argv[3:], expected))
        sys.exit(bool(FAILED))
    with serving(binary) as (url, grpc):
        import tritonclient.grpc
        import tritonclient.http
        with tritonclient.http.InferenceServerClient(url.removeprefix("http://")) as client:
            triton(client, tritonclient.http, "tritonclient http", expected)
        with tritonclient.grpc.InferenceServerClient(grpc) as client:
            triton(client, tritonclient.grpc, "tritonclient grpc", expected)
        triton_stream(tritonclient.grpc, grpc, expected)
        # Both packages define the protocol's messages, and cannot be in one process.
        here = [sys.executable, __file__, binary, "--kserve", url, grpc]
        check("kserve", subprocess.run(here).returncode == 0)
        huggingface(url, expected)
        openai(url, expected)
        prometheus(url)
        script = ROOT / "tools/clients/clients.mjs"
        if len(sys.argv) > 2:
            found = subprocess.run(["node", script, url, CAT], capture_output=True, text=True, cwd=sys.argv[2])
            print(found.stdout, found.stderr, sep="", end="")
            check("@huggingface/inference", found.returncode == 0)
    words(binary)
    print(f"{len(FAILED)} failed" if FAILED else "all passed")
    sys.exit(bool(FAILED))


main()
