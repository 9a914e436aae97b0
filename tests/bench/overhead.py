"""Overhead: what the gateway costs beside the work on pixels, and how that grows with concurrent clients.

./run bench overhead [--requests 40] [--callers 1,4,16,64] [--starts 5]

Whole processes over sockets, with default settings and the classical engine. Each request is a new JPEG of
1200 px and returns a portrait as JPEG. `pixels` are the stages of Server-Timing in PIXEL_STAGES. `own` is
the rest of the client's time: HTTP on both sides, the form, admission, threads, linkage, the wire to the
backend, the cache, the report. With more clients than cores, requests wait for each other, so CPU time per
request shows what grows. `kept` are requests answered from the cache, without work on pixels.
"""

import argparse
import asyncio
import re
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
from results import hardware, keep
from servers import Server, fresh, run_both, run_gateway
from skimage import data

from gateway.imaging.encoder import encode

SIDE = 1200
# Stages of Server-Timing that work on pixels, in the gateway and in the backend (gpen_).
PIXEL_STAGES = {
    "decode", "find_faces", "frame", "light", "encode",
    "gpen_align", "gpen_network", "gpen_enlarge", "gpen_paste", "gpen_adjust",
}  # fmt: skip
Servers = Callable[..., AbstractContextManager[list[Server]]]


@contextmanager
def run_embedded(folder: Path, **settings: str):
    with run_gateway(folder, **settings) as server:
        yield [server]


FORMS: dict[str, Servers] = {"embedded": run_embedded, "separate": run_both}


def photo() -> bytes:
    return encode(cv2.resize(data.astronaut(), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), "jpeg", 90)


def form_request(picture: bytes) -> bytes:
    """Return the bytes of a request that sends `picture` in a form, as browsers do."""
    request = httpx.Request("POST", "http://gateway/v1/enhance", files={"image": ("a.jpg", picture)})
    body = request.read()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/enhance HTTP/1.1\r\n{headers}\r\n".encode() + body


def send(connection: socket.socket, request: bytes) -> tuple[float, float]:
    """Return milliseconds from the first byte sent to the last received, and those of work on pixels.

    Sends and reads bytes over a socket, so that no HTTP client adds its own cost.
    """
    started = time.perf_counter()
    connection.sendall(request)
    answer, whole = bytearray(), None
    while whole is None or len(answer) < whole:
        part = connection.recv(1 << 20)
        assert part, "the gateway closed the connection"
        answer += part
        if whole is None and (end := answer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", answer)
            assert length
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:end]
            whole = end + 4 + int(length[1])
    wall = (time.perf_counter() - started) * 1000
    timing = re.search(rb"(?i)\r\nserver-timing: ([^\r]+)", answer)
    assert timing
    stages = re.findall(r"([\w.-]+);dur=([\d.]+)", timing[1].decode())
    return wall, sum(float(took) for name, took in stages if name in PIXEL_STAGES)


def measure_one_caller(servers: Servers, requests: int, picture: bytes, cache: str) -> dict[str, Any]:
    """Return wall time, pixels and own cost of each request, ms. cache: on or off."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder), GATEWAY_CACHE=cache) as running:
        address = urlsplit(running[0].url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            for number in range(requests + 5):
                wall, on_pixels = send(connection, form_request(fresh(picture)))
                if number >= 5:
                    rows.append((wall, on_pixels, wall - on_pixels))
    walls, pixels, own = zip(*rows, strict=True)
    return {"wall_ms": walls, "pixels_ms": pixels, "own_ms": own}


async def measure_load(
    running: list[Server], callers: int, requests: int, next_picture: Callable[[], bytes]
) -> dict[str, float]:
    """Return requests per second and CPU milliseconds per request."""

    async def caller(client: httpx.AsyncClient, count: int) -> None:
        for _ in range(count):
            answer = await client.post("/v1/enhance", content=next_picture())
            assert answer.status_code == 200, answer.text

    # One client per connection: a large pool costs more CPU than the gateway.
    clients = [httpx.AsyncClient(base_url=running[0].url, timeout=120, verify=False) for _ in range(callers)]
    await caller(clients[0], 2)
    busy, started = sum(server.cpu_s() for server in running), time.perf_counter()
    each = -(-requests // callers)
    await asyncio.gather(*(caller(client, each) for client in clients))
    took = time.perf_counter() - started
    busy = sum(server.cpu_s() for server in running) - busy
    for client in clients:
        await client.aclose()
    return {"per_s": each * callers / took, "cpu_ms": busy * 1000 / (each * callers)}


def measure_callers(servers: Servers, callers: list[int], requests: int, next_picture: Callable[[], bytes]):
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as running:
        return [asyncio.run(measure_load(running, count, requests, next_picture)) for count in callers]


def measure_starts(servers: Servers, count: int) -> list[float]:
    """Return seconds from the start of the first process until all are ready, the backend first."""
    times = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as running:
            times.append(sum(server.ready_s for server in running))
    return times


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--callers", default="1,4,16,64")
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    machine = hardware()
    picture = photo()
    callers = [int(count) for count in arguments.callers.split(",")]
    results: dict[str, Any] = {}
    table: list[list[object]] = [
        [
            "backend",
            "GATEWAY_CACHE",
            "start to ready, s",
            "a request, ms",
            "of it pixels, ms",
            "own, ms",
            "own, 95 %, ms",
        ]
    ]
    for form, servers in FORMS.items():
        ready = measure_starts(servers, arguments.starts)
        for cache in ("on", "off"):
            alone = measure_one_caller(servers, arguments.requests, picture, cache)
            results[f"{form}, {cache}"] = {"ready_s": ready, **alone}
            middle = {name: f"{statistics.median(values):.1f}" for name, values in alone.items()}
            table.append(
                [form, cache, f"{statistics.median(ready):.2f}", middle["wall_ms"], middle["pixels_ms"],
                 middle["own_ms"], f"{p95(list(alone['own_ms'])):.1f}"]
            )  # fmt: skip
    keep("overhead", results, table, machine)
    measured = {
        form: measure_callers(servers, callers, arguments.requests * 2, lambda: fresh(picture))
        for form, servers in FORMS.items()
    }
    measured["kept"] = measure_callers(run_embedded, callers, arguments.requests * 20, lambda: picture)
    table = [["callers", *(f"{kind}, {unit}" for kind in measured for unit in ("requests/s", "CPU ms each"))]]
    for row, count in enumerate(callers):
        cells = [(kind[row]["per_s"], kind[row]["cpu_ms"]) for kind in measured.values()]
        table.append([count, *(f"{value:.1f}" for pair in cells for value in pair)])
    keep("callers", measured, table, machine)


if __name__ == "__main__":
    main()
