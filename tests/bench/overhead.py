"""What the gateway costs beside the work on pixels, and whether that grows with the callers.

./run bench overhead [--requests 40] [--callers 1,4,16,64] [--starts 5]

Whole processes over real sockets with the settings that they come with, the classical engine; JPEGs of 1200
px in, each seen for the first time, JPEG portraits out. `pixels` is what the answer's Server-Timing names:
decoding, finding faces, framing, light, alignment, network, pasting, encoding. `own` is the caller's time
less that: HTTP on both sides, the form, admission, threads, linkage, the wire to the backend, the cache, the
report. With more callers than cores pixels wait for each other, so there the processors' time for each
request says what grows and what does not. `kept` are requests that the cache answers: no pixels at all.
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
# Of Server-Timing: all but the wire's own steps and the sum.
NOT_PIXELS = {"total", "backend", "cache", "gpen_decode", "gpen_queue"}
Servers = Callable[..., AbstractContextManager[list[Server]]]


@contextmanager
def embedded(folder: Path, **settings: str):
    with run_gateway(folder, **settings) as server:
        yield [server]


FORMS: dict[str, Servers] = {"embedded": embedded, "separate": run_both}


def photo() -> bytes:
    return encode(cv2.resize(data.astronaut(), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), "jpeg", 90)


def form(picture: bytes) -> bytes:
    """A whole request with `picture` as browsers send it."""
    request = httpx.Request("POST", "http://gateway/v1/enhance", files={"image": ("a.jpg", picture)})
    body = request.read()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/enhance HTTP/1.1\r\n{headers}\r\n".encode() + body


def ask(connection: socket.socket, request: bytes) -> tuple[float, float]:
    """Milliseconds from the first byte sent to the last received, and of those that its pixels took.

    Bytes and no client: what one costs is its caller's own affair.
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
    return wall, sum(float(took) for name, took in stages if name not in NOT_PIXELS)


def one_caller(servers: Servers, requests: int, picture: bytes, cache: str) -> dict[str, Any]:
    """Wall, pixels and the rest of each request, ms. cache: on or off."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder), GATEWAY_CACHE=cache) as running:
        address = urlsplit(running[0].url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            for number in range(requests + 5):
                wall, on_pixels = ask(connection, form(fresh(picture)))
                if number >= 5:
                    rows.append((wall, on_pixels, wall - on_pixels))
    walls, pixels, own = zip(*rows, strict=True)
    return {"wall_ms": walls, "pixels_ms": pixels, "own_ms": own}


async def many_callers(
    running: list[Server], callers: int, requests: int, next_picture: Callable[[], bytes]
) -> dict[str, float]:
    """Requests a second and processor milliseconds for each of them."""

    async def caller(client: httpx.AsyncClient, count: int) -> None:
        for _ in range(count):
            answer = await client.post("/v1/enhance", content=next_picture())
            assert answer.status_code == 200, answer.text

    # One connection each: a pool of many costs its owner more than the gateway's answers.
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


def by_callers(servers: Servers, callers: list[int], requests: int, next_picture: Callable[[], bytes]):
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as running:
        return [asyncio.run(many_callers(running, count, requests, next_picture)) for count in callers]


def starts(servers: Servers, count: int) -> list[float]:
    """Seconds from the start of the first process until all are ready, the backend first."""
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
    asked = parser.parse_args()
    told = hardware()
    picture = photo()
    callers = [int(count) for count in asked.callers.split(",")]
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
        ready = starts(servers, asked.starts)
        for cache in ("on", "off"):
            alone = one_caller(servers, asked.requests, picture, cache)
            results[f"{form}, {cache}"] = {"ready_s": ready, **alone}
            middle = {name: f"{statistics.median(values):.1f}" for name, values in alone.items()}
            table.append(
                [form, cache, f"{statistics.median(ready):.2f}", middle["wall_ms"], middle["pixels_ms"],
                 middle["own_ms"], f"{p95(list(alone['own_ms'])):.1f}"]
            )  # fmt: skip
    keep("overhead", results, table, told)
    measured = {
        form: by_callers(servers, callers, asked.requests * 2, lambda: fresh(picture))
        for form, servers in FORMS.items()
    }
    measured["kept"] = by_callers(embedded, callers, asked.requests * 20, lambda: picture)
    table = [["callers", *(f"{kind}, {unit}" for kind in measured for unit in ("requests/s", "CPU ms each"))]]
    for row, count in enumerate(callers):
        cells = [(kind[row]["per_s"], kind[row]["cpu_ms"]) for kind in measured.values()]
        table.append([count, *(f"{value:.1f}" for pair in cells for value in pair)])
    keep("callers", measured, table, told)


if __name__ == "__main__":
    main()
