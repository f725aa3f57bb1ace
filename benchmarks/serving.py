"""Measures `vitral serve`: the cost of an image beside the command line, the time of a request, LitServe around ONNX
Runtime in turn, overload, and ending under load.

    python benchmarks/serving.py target/release/vitral MODEL MODEL.onnx IMAGE.jpg [PART…]

MODEL is a folder, MODEL.onnx the same model for the peer. Parts: cost, single, litserve, overload, end, idle, bits; all if none
is named. Needs `oha` in the path, and for the peer litserve, onnxruntime, pillow and numpy in this Python. Run it on an
otherwise idle machine.
"""

import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BINARY, MODEL, ONNX, IMAGE = (Path(text).resolve() for text in sys.argv[1:5])
PARTS = sys.argv[5:] or ["cost", "single", "litserve", "overload", "end", "idle", "bits"]
THREADS = "2"


class Server:
    """`vitral serve` of the model."""

    def __init__(self, *options):
        arguments = [BINARY, "serve", "--model", f"vit={MODEL}", "--port", "0", "--json", "--log-level", "error", "--threads", THREADS]
        self.process = subprocess.Popen([*map(str, arguments), *map(str, options)], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["http"]
        wait(f"{self.url}/health")

    def cpu(self):
        return cpu(self.process.pid)

    def memory(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return {key: int(text.split(f"{key}:")[1].split()[0]) // 1024 for key in ("VmRSS", "VmHWM")}

    def metric(self, name):
        text = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.end()


def wait(url):
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except Exception:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def cpu(pid):
    """CPU seconds of a process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def oha(url, clients, *options):
    found = subprocess.run(
        ["oha", "--no-tui", "--output-format", "json", "-m", "POST", "-T", "image/jpeg", "-D", str(IMAGE), "-c", str(clients),
         *map(str, options), url], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def milliseconds(report, which):
    return 1e3 * report["latencyPercentiles"][which]


def cost():
    """CPU seconds an image, in turn with `vitral classify` on the same file."""
    ratios = []
    for _ in range(3):
        seconds = []
        for count in (100, 500):
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
                names.write(f"{IMAGE}\n" * count)
                names.flush()
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run([BINARY, "classify", "--model", MODEL, "--files-from", names.name, "--json", "--threads", THREADS, "--device", "cpu"],
                               stdout=subprocess.DEVNULL, check=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        command = (seconds[1] - seconds[0]) / 400
        with Server() as server:
            oha(f"{server.url}/v1/classify", 16, "-n", 64)
            before = server.cpu()
            oha(f"{server.url}/v1/classify", 16, "-n", 400)
            served = (server.cpu() - before) / 400
        ratios.append(served / command)
        print(f"cost: classify {1e3 * command:.2f} ms of CPU an image, serve {1e3 * served:.2f}, ratio {ratios[-1]:.3f}", flush=True)
    print(f"cost: median ratio {statistics.median(ratios):.3f} (at most 1.05)")


def single():
    """One client: the time of a request beside decoding and forward."""
    with Server() as server:
        oha(f"{server.url}/v1/classify", 1, "-n", 20)
        names = ["vitral_decode_seconds_sum", "vitral_forward_seconds_sum", "vitral_forward_seconds_count"]
        before = [server.metric(name) for name in names]
        report = oha(f"{server.url}/v1/classify", 1, "-n", 200)
        decode, forward, count = (after - first for after, first in zip(map(server.metric, names), before))
        mean = 1e3 * report["summary"]["average"]
        work = 1e3 * (decode + forward) / count
        print(f"single: request {mean:.2f} ms (p50 {milliseconds(report, 'p50'):.2f}, p99 {milliseconds(report, 'p99'):.2f}), "
              f"decode {1e3 * decode / count:.2f} + forward {1e3 * forward / count:.2f}: {mean - work:.2f} ms above (at most 2)")


PEER = '''
import litserve, numpy, onnxruntime
from PIL import Image

class Classify(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
    def decode_request(self, request):
        image = Image.open(request["image"].file).convert("RGB")
        scale = 248 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        pixels = numpy.asarray(image.crop((left, top, left + 224, top + 224)), numpy.float32)
        return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)
    def batch(self, inputs):
        return numpy.stack(inputs)
    def predict(self, batch):
        return self.session.run(None, {self.input: batch})[0]
    def unbatch(self, output):
        return list(output)
    def encode_response(self, output):
        best = output.argsort()[::-1][:5]
        return {"labels": [{"class": int(i), "logit": float(output[i])} for i in best]}

if __name__ == "__main__":
    api = Classify(max_batch_size=8, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="error")
'''


def litserve():
    """Images a second and p99 in turn with a LitServe server around ONNX Runtime."""
    import numpy
    import onnxruntime

    ours = json.loads(subprocess.run([BINARY, "bench", "--arch", "S/16", "--batch", "8", "--threads", THREADS, "--json", "--device", "cpu"],
                                     capture_output=True, text=True, check=True).stdout)["median_ms"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(THREADS)
    session = onnxruntime.InferenceSession(str(ONNX), options, providers=["CPUExecutionProvider"])
    batch = numpy.zeros((8, 3, 224, 224), numpy.float32)
    times = []
    for _ in range(12):
        started = time.perf_counter()
        session.run(None, {session.get_inputs()[0].name: batch})
        times.append(time.perf_counter() - started)
    theirs = 1e3 * statistics.median(times)
    del session
    print(f"litserve: engines at batch 8: vitral {ours:.1f} ms, ONNX Runtime {theirs:.1f} ms, ratio {theirs / ours:.3f}", flush=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "peer.py"
        text = PEER.replace("THREADS", THREADS).replace("MODEL", repr(str(ONNX))).replace("PORT", str(port))
        # A form with the image: LitServe does not take a body as it is.
        script.write_text(text)
        for turn in range(3):
            for clients in (1, 16):
                with Server() as server:
                    oha(f"{server.url}/v1/classify", clients, "-n", 32)
                    mine = oha(f"{server.url}/v1/classify", clients, "-z", "15s")
                process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, start_new_session=True)
                try:
                    wait(f"http://127.0.0.1:{port}/health")
                    form = ["oha", "--no-tui", "--output-format", "json", "-m", "POST", "-F", f"image=@{IMAGE}", "-c", str(clients)]
                    subprocess.run([*form, "-n", "32", f"http://127.0.0.1:{port}/predict"], capture_output=True, check=True)
                    found = subprocess.run([*form, "-z", "15s", f"http://127.0.0.1:{port}/predict"], capture_output=True, text=True, check=True)
                    other = json.loads(found.stdout)
                finally:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                rates = [report["summary"]["requestsPerSec"] for report in (mine, other)]
                codes = [report["statusCodeDistribution"] for report in (mine, other)]
                print(f"litserve, {clients} clients: vitral {rates[0]:.2f} images/s, p99 {milliseconds(mine, 'p99'):.0f} ms {codes[0]}; "
                      f"LitServe {rates[1]:.2f}, p99 {milliseconds(other, 'p99'):.0f} ms {codes[1]}; ratio {rates[0] / rates[1]:.3f}", flush=True)


def overload():
    """Ten times what it can do, for a minute."""
    queue = 64
    with Server("--max-queue-size", queue) as server:
        oha(f"{server.url}/v1/classify", 8, "-n", 64)
        rate = oha(f"{server.url}/v1/classify", 8, "-n", 200)["summary"]["requestsPerSec"]
        before = server.memory()
        report = oha(f"{server.url}/v1/classify", 256, "-q", int(10 * rate), "-z", "60s", "-w", "--stats-success-breakdown")
        after = server.memory()
        codes = report["statusCodeDistribution"]
        errors = report["errorDistribution"]
        # Waiting for all that is in the queue, for what is decoded ahead of it and for a batch under way.
        bound = 1e3 * (queue + 8) / (codes["200"] / 60)
        accepted = report["latencyPercentilesSuccessful"]
        again = oha(f"{server.url}/v1/classify", 1, "-n", 5)
        print(f"overload: can do {rate:.1f} images/s, asked {10 * rate:.0f}; statuses {codes}, errors {errors}")
        print(f"overload: p99 of all {milliseconds(report, 'p99'):.0f} ms, slowest {1e3 * report['summary']['slowest']:.0f} ms; "
              f"a full queue is {bound:.0f} ms; accepted p99 {1e3 * accepted['p99']:.0f}")
        print(f"overload: memory {before} MiB before, {after} after; a request afterwards {1e3 * again['summary']['average']:.1f} ms")


def end():
    """SIGTERM under load."""
    with Server() as server:
        oha(f"{server.url}/v1/classify", 16, "-n", 32)
        load = subprocess.Popen(["oha", "--no-tui", "--output-format", "json", "-m", "POST", "-T", "image/jpeg", "-D", str(IMAGE), "-c", "16", "-n", "400",
                                 f"{server.url}/v1/classify"], stdout=subprocess.PIPE, text=True)
        time.sleep(3)
        started = time.perf_counter()
        code = server.end()
        took = time.perf_counter() - started
        report = json.loads(load.communicate()[0])
        print(f"end: exit code {code} after {took:.1f} s; statuses {report['statusCodeDistribution']}, errors {report['errorDistribution']}")


def idle():
    """2,000 idle connections, slow senders, and bodies of a gigabyte."""
    with Server("--header-time", "20") as server:
        oha(f"{server.url}/v1/classify", 1, "-n", 8)
        before = server.memory()
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        host, port = server.url.removeprefix("http://").split(":")
        sockets = [socket.create_connection((host, int(port))) for _ in range(2000)]
        slow = [socket.create_connection((host, int(port))) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(5):
            for connection in slow:
                connection.sendall(b"x")
            time.sleep(1)
        report = oha(f"{server.url}/v1/classify", 1, "-n", 50)
        after = server.memory()
        print(f"idle: 2,000 idle connections and 50 that send a byte a second: a request {1e3 * report['summary']['average']:.1f} ms, "
              f"memory {before} MiB before, {after} after")
        for connection in sockets + slow:
            connection.close()
        for kind in (["-H", "Expect:"], ["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]):
            reader = subprocess.Popen(["head", "-c", "1G", "/dev/zero"], stdout=subprocess.PIPE)
            found = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *kind, "-T", "-", "-X", "POST", f"{server.url}/v1/classify"],
                                   stdin=reader.stdout, capture_output=True, text=True)
            reader.stdout.close()
            reader.wait()
            print(f"idle: a body of 1 GiB {kind[2:]}: {found.stdout}, memory {server.memory()} MiB")


def bits():
    """A thousand requests by sixteen clients, each compared with the command line."""
    from concurrent.futures import ThreadPoolExecutor

    folder = IMAGE.parent
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    lines = subprocess.run([BINARY, "classify", "--model", MODEL, "--json", "--threads", THREADS, "--device", "cpu", *files],
                           capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [json.loads(line)["labels"] for line in lines]
    with Server() as server:
        def ask(turn):
            place = turn % len(files)
            request = urllib.request.Request(f"{server.url}/v1/classify", files[place].read_bytes(), {"Content-Type": "image/jpeg"})
            return json.load(urllib.request.urlopen(request))["results"][0]["labels"] == expected[place]

        with ThreadPoolExecutor(16) as clients:
            same = sum(clients.map(ask, range(1000)))
        sizes = json.load(urllib.request.urlopen(f"{server.url}/v2/models/vit/stats"))["model_stats"][0]["batch_stats"]
        print(f"bits: {same} of 1000 as on the command line; batches {({size['batch_size']: size['compute_infer']['count'] for size in sizes})}")


for part in PARTS:
    globals()[part]()
