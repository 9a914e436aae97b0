"""Checks that the gateway's memory reaches a plateau.

./run bench soak [--requests 3000] [--callers 4]

Starts a gateway (embedded backend, classical engine, haar finder, every cache so small that it fills) and
sends it mixed requests: six formats, sizes from 60 to 1,200 px, portraits, whole photos, JSON, forms,
preprocessing, repeats that hit the cache, and invalid requests of every kind. Reads the resident memory
thirty times and compares its peaks: that of the last third may exceed the earlier one by 5 % or 10 MB,
whichever is more.
"""

import argparse
import asyncio
import base64
import io
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from results import hardware, keep
from servers import run_gateway

READINGS = 30
GROWTH, GROWTH_MB = 0.05, 10.0
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SIZES = ((60, 80), (200, 160), (320, 240), (400, 300), (512, 512), (640, 480), (1200, 900))

Request = tuple[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--callers", type=int, default=4)
    options, machine = parser.parse_args(), hardware()
    with tempfile.TemporaryDirectory() as folder, run_gateway(Path(folder), **SETTINGS) as server:
        result = asyncio.run(soak(server.url, server.process, options.requests, options.callers))
    print(f"\n{json.dumps(result['statuses'])}; {result['verdict']}")
    readings = result["readings"]
    levels = [readings[len(readings) * share // 4 - 1]["rss_mb"] for share in (1, 2, 3, 4)]
    table = [["requests", "seconds", "RSS after a quarter, MB", "half", "three quarters", "all", "plateau"]]
    plateau = "reached" if result["plateau"] else "NOT REACHED"
    table.append([options.requests, f"{result['seconds']:.0f}", *levels, plateau])
    keep("soak", result, table, machine)
    if result["failures"]:
        print(f"{result['failures']} responses were server errors")
    sys.exit(0 if result["plateau"] and not result["failures"] else 1)


# Caches so small that they fill.
SETTINGS = {
    "GATEWAY_CACHE_MEMORY_BYTES": "20000000",
    "GATEWAY_CACHE_DISK_BYTES": "100000000",
    "GATEWAY_MAX_BODY_BYTES": "8000000",
    "GATEWAY_FACE_FINDER": "haar",
}


async def soak(url: str, process: psutil.Process, requests: int, callers: int) -> dict[str, Any]:
    statuses: Counter[int] = Counter()
    readings = []
    mixture = mixed_requests(random.Random(7))
    started = time.monotonic()
    print(f"{'requests':>9} {'RSS MB':>8} {'threads':>8} {'files':>6} {'s':>6}")
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        for part in range(READINGS):
            share = [next(mixture) for _ in range(requests * (part + 1) // READINGS - sum(statuses.values()))]
            waiting = iter(share)

            async def call(waiting: Iterator[Request] = waiting) -> None:
                for path, request in waiting:
                    answer = await client.post(path, **request)
                    statuses[answer.status_code] += 1

            await asyncio.gather(*(call() for _ in range(callers)))
            readings.append(
                {
                    "requests": sum(statuses.values()),
                    "rss_mb": round(process.memory_info().rss / 1e6, 1),
                    "threads": process.num_threads(),
                    "files": process.num_fds(),
                    "s": round(time.monotonic() - started, 1),
                }
            )
            print(
                "{requests:9} {rss_mb:8.1f} {threads:8} {files:6} {s:6.0f}".format(**readings[-1]), flush=True
            )
    plateau, verdict = judge([reading["rss_mb"] for reading in readings])
    return {
        "seconds": time.monotonic() - started,
        "statuses": dict(sorted(statuses.items())),
        "plateau": plateau,
        # Requests with a timeout of a millisecond expect 504; any other 5xx is a failure.
        "failures": sum(number for status, number in statuses.items() if status >= 500 and status != 504),
        "verdict": verdict,
        "readings": readings,
    }


def judge(rss_mb: list[float]) -> tuple[bool, str]:
    """Compare the peak of the last third with the earlier one. Returns whether it is no higher, and why."""
    last = len(rss_mb) * 2 // 3
    before, after = max(rss_mb[:last]), max(rss_mb[last:])
    allowed = max(before * GROWTH, GROWTH_MB)
    verdict = f"peak of {before:.0f} MB, then {after:.0f} MB; the allowed growth is {allowed:.0f} MB"
    return after - before <= allowed, verdict


def mixed_requests(chance: random.Random) -> Iterator[Request]:
    """Generate valid requests, repeats and invalid requests, 4 : 1 : 1; reproducible by the seed."""
    sent: list[Request] = []
    for number in itertools.count():
        kind = chance.random()
        if kind < 0.67 or not sent:
            sent.append(good_request(chance, number))
            yield sent[-1]
            # Repeat only recent requests.
            del sent[:-20]
        elif kind < 0.84:
            yield chance.choice(sent)
        else:
            yield bad_request(chance, number)


def good_request(chance: random.Random, number: int) -> Request:
    photo = picture(chance, number)
    query = {"strength": chance.randint(0, 100), "format": chance.choice(["png", "jpeg", "webp"])}
    match chance.randrange(5):
        case 0:
            return "/v1/preprocess", {"content": photo, "params": {"format": query["format"]}}
        case 1:
            return "/v1/enhance", {"files": {"image": ("a.jpg", photo)}, "data": query}
        case 2:
            encoded = base64.b64encode(photo).decode()
            headers = {"Accept": "application/json"}
            return "/v1/enhance", {"json": {"image": encoded, **query}, "headers": headers}
        case 3:
            return "/v1/enhance", {"content": photo, "params": {**query, "output": "photo", "sharpen": 20}}
        case _:
            return "/v1/enhance", {"content": photo, "params": query}


def bad_request(chance: random.Random, number: int) -> Request:
    photo = picture(chance, number)
    match chance.randrange(7):
        case 0:
            return "/v1/enhance", {"content": photo[: len(photo) // 2]}
        case 1:
            return "/v1/enhance", {"content": b"no picture" * 1000}
        case 2:
            return "/v1/enhance", {"content": bytes(8_000_001)}
        case 3:
            return "/v1/enhance", {"content": photo, "params": {"strength": 1000}}
        case 4:
            return "/v1/preprocess", {"json": {"image": "?" * 100_000}}
        case 5:
            return "/v1/enhance", {
                "files": {"image": ("a", photo)},
                "data": {f"f{n}": "1" for n in range(80)},
            }
        case _:
            return "/v1/enhance", {"content": photo, "params": {"timeout_s": 0.001}}


def picture(chance: random.Random, number: int) -> bytes:
    """A new picture for each number, in a random size and format."""
    height, width = chance.choice(SIZES)
    small = np.random.default_rng(number).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR).save(
        file, chance.choice(FORMATS)
    )
    return file.getvalue()


if __name__ == "__main__":
    main()
