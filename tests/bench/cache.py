"""Response times of the cache.

./run bench cache [--repeats 200]

A gateway on a real socket, the classical engine, one client; 1000x800 JPEGs in, portraits as JPEG out. `miss`
computes the result; `hit` finds it in memory, on disk, or in a local Redis (Debian: redis-server; skipped if
not installed); `304` is a hit for a client that has the picture already. Milliseconds seen by the client.
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
from results import hardware, keep
from servers import run_gateway

from gateway.imaging.encoder import encode

MISSES = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    machine, results = hardware(), {}
    table: list[list[object]] = [["kept in", "what", "median, ms", "95 %, ms"]]
    for tier in ("memory", "disk", "redis"):
        with tempfile.TemporaryDirectory() as name, prepare_tier(tier, Path(name)) as settings:
            if settings is None:
                continue
            with (
                run_gateway(Path(name), **settings) as server,
                httpx.Client(base_url=server.url, timeout=60) as client,
            ):
                for what, times in measure(client, options.repeats).items():
                    results[f"{tier}, {what}"] = times
                    table.append([tier, what, f"{median(times):.1f}", f"{quantiles(times, n=20)[-1]:.1f}"])
    keep("cache", results, table, machine)


def measure(client: httpx.Client, repeats: int) -> dict[str, list[float]]:
    photos = [photo(number) for number in range(MISSES)]
    misses = [time_ms(lambda p=p: enhance(client, p, "miss")) for p in photos]
    # Wait for the write-behind to the slower tiers.
    time.sleep(0.5)
    tag = {"If-None-Match": enhance(client, photos[0], "hit").headers["ETag"]}
    return {
        "miss": misses,
        "hit": [time_ms(lambda p=photos[n % MISSES]: enhance(client, p, "hit")) for n in range(repeats)],
        "304": [
            time_ms(lambda: client.post("/v1/enhance", content=photos[0], headers=tag))
            for _ in range(repeats)
        ],
    }


def enhance(client: httpx.Client, picture: bytes, expected: str) -> httpx.Response:
    answer = client.post("/v1/enhance", content=picture)
    if answer.status_code != 200 or answer.headers["X-Cache"] != expected:
        sys.exit(f"got {answer.status_code} with X-Cache {answer.headers.get('X-Cache')}, not a {expected}")
    return answer


def time_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def photo(number: int) -> bytes:
    small = np.random.default_rng(number).integers(0, 256, (80, 100, 3), np.uint8)
    return encode(np.ascontiguousarray(small.repeat(10, 0).repeat(10, 1)), "jpeg", 90)


@contextmanager
def prepare_tier(tier: str, folder: Path) -> Iterator[dict[str, str] | None]:
    """The settings that cache results in `tier`; None if it is not installed."""
    memory = {"GATEWAY_CACHE_MEMORY_BYTES": "256000000" if tier == "memory" else "0"}
    if tier != "redis":
        yield {**memory, "GATEWAY_CACHE_DIR": str(folder / "results")}
        return
    binary = shutil.which("redis-server")
    with run_redis(binary, folder) if binary else nullcontext() as url:
        yield {**memory, "GATEWAY_CACHE_URL": url} if url else None


@contextmanager
def run_redis(binary: str, folder: Path) -> Iterator[str]:
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
