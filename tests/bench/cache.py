"""How quickly a kept result is answered.

./run bench cache [--repeats 200]

A gateway on a real socket, the classical engine, one caller; 1000x800 JPEGs in, portraits as JPEG out. `miss`
makes the result; `hit` finds it in memory, on disk, or in a Redis of its own (Debian: redis-server; left out
where there is none); `304` is a hit whose caller has the picture already. Milliseconds as callers see them.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import median, quantiles

import httpx
import numpy as np
from measured import hardware, keep
from served import gateway

from gateway.imaging.encoder import encode

MISSES = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    given = parser.parse_args()
    machine, results = hardware(), {}
    table: list[list[object]] = [["kept in", "what", "median, ms", "95 %, ms"]]
    for tier in ("memory", "disk", "redis"):
        with tempfile.TemporaryDirectory() as name, store(tier, Path(name)) as settings:
            if settings is None:
                continue
            with (
                gateway(Path(name), **settings) as server,
                httpx.Client(base_url=server.url, timeout=60) as client,
            ):
                for what, times in measure(client, given.repeats).items():
                    results[f"{tier}, {what}"] = times
                    table.append([tier, what, f"{median(times):.1f}", f"{quantiles(times, n=20)[-1]:.1f}"])
    keep("cache", results, table, machine)


def measure(client: httpx.Client, repeats: int) -> dict[str, list[float]]:
    photos = [photo(number) for number in range(MISSES)]
    misses = [timed(lambda p=p: answer(client, p, "miss")) for p in photos]
    # What is written behind the answer's back is there by then.
    time.sleep(0.5)
    tag = {"If-None-Match": answer(client, photos[0], "hit").headers["ETag"]}
    return {
        "miss": misses,
        "hit": [timed(lambda p=photos[n % MISSES]: answer(client, p, "hit")) for n in range(repeats)],
        "304": [
            timed(lambda: client.post("/v1/enhance", content=photos[0], headers=tag)) for _ in range(repeats)
        ],
    }


def answer(client: httpx.Client, picture: bytes, expected: str) -> httpx.Response:
    answered = client.post("/v1/enhance", content=picture)
    if answered.status_code != 200 or answered.headers["X-Cache"] != expected:
        sys.exit(f"{answered.status_code} {answered.headers.get('X-Cache')}, not a {expected}")
    return answered


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def photo(number: int) -> bytes:
    small = np.random.default_rng(number).integers(0, 256, (80, 100, 3), np.uint8)
    return encode(np.ascontiguousarray(small.repeat(10, 0).repeat(10, 1)), "jpeg", 90)


@contextmanager
def store(tier: str, folder: Path) -> Iterator[dict[str, str] | None]:
    """The settings that keep results in `tier`; None where it cannot be had."""
    memory = {"GATEWAY_CACHE_MEMORY_BYTES": "256000000" if tier == "memory" else "0"}
    if tier != "redis":
        yield {**memory, "GATEWAY_CACHE_DIR": str(folder / "results")}
        return
    binary = shutil.which("redis-server")
    with redis_server(binary, folder) if binary else nullcontext() as url:
        yield {**memory, "GATEWAY_CACHE_URL": url} if url else None


@contextmanager
def redis_server(binary: str, folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [binary, "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while True:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


if __name__ == "__main__":
    main()
