"""Growth of time and memory with pixels, faces and concurrent callers.

./run bench growth [--only pixels,faces,callers] [--repeats 3]

Each row runs a new gateway with an embedded backend, so that its peak memory belongs to that row; JPEGs in
and out over a real socket. pixels: one face, as a portrait and as a whole photo, classical engine. faces:
whole photos of 12 megapixels with several faces, by the classical engine and by the network of gpen-bfr-512
with random weights. callers: concurrent clients, each sending portraits of 2 megapixels, classical engine.
Medians; writes tables and a plot to docs.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from batching import save_checkpoint
from results import ROOT, hardware, keep
from servers import Server, fresh, run_gateway
from skimage import data

from gateway.imaging.encoder import encode

MEGAPIXELS = (0.25, 1, 2, 4, 8, 12, 24, 50)
FACES = (1, 2, 4, 8, 16, 32)
CALLERS = (1, 2, 4, 8, 16, 32, 64)
CANVAS = (4000, 3000)
Row = dict[str, float]


def portrait(megapixels: float) -> bytes:
    """A photo with one face, 4:3."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    return encode(crowd(1, (width, round(width * 3 / 4))), "jpeg", 90)


def crowd(count: int, size: tuple[int, int]) -> np.ndarray:
    """`count` faces in rows on a picture of `size` (width, height) px."""
    width, height = size
    columns = next(n for n in range(1, count + 1) if n * -(-n * height // width) >= count)
    rows = -(-count // columns)
    side = min(width // columns, height // rows)
    picture = np.full((height, width, 3), 90, np.uint8)
    face = cv2.resize(data.astronaut()[:400, 30:430], (side, side), interpolation=cv2.INTER_CUBIC)
    for number in range(count):
        top, left = number // columns * side, number % columns * side
        picture[top : top + side, left : left + side] = face
    return picture


def measure(server: Server, picture: bytes, output: str, repeats: int) -> tuple[Row, int]:
    """Measure median milliseconds and peak memory; also returns the number of restored faces."""
    times, faces = [], 0
    with httpx.Client(base_url=server.url, timeout=600) as client:
        for _ in range(repeats + 1):
            started = time.perf_counter()
            answer = client.post("/v1/enhance", content=fresh(picture), params={"output": output})
            times.append((time.perf_counter() - started) * 1000)
            assert answer.status_code == 200, answer.text
            faces = int(answer.headers["X-Faces"])
    return {"ms": statistics.median(times[1:]), "peak_mb": server.peak_mb()}, faces


def by_pixels(repeats: int) -> list[Row]:
    rows = []
    for megapixels in MEGAPIXELS:
        picture, row = portrait(megapixels), {"megapixels": megapixels}
        for output in ("portrait", "photo"):
            with tempfile.TemporaryDirectory() as folder, run_gateway(Path(folder)) as server:
                measured, _ = measure(server, picture, output, repeats)
            row |= {f"{output}_{name}": value for name, value in measured.items()}
        rows.append(log(row))
    return rows


def by_faces(repeats: int) -> list[Row]:
    rows = []
    for count in FACES:
        picture, row = encode(crowd(count, CANVAS), "jpeg", 90), {"faces": count}
        for engine in ("classical", "torch"):
            with tempfile.TemporaryDirectory() as folder:
                if engine == "torch":
                    save_checkpoint(Path(folder), 512)
                with run_gateway(Path(folder), GPEN_BACKEND_ENGINE=engine, GATEWAY_TIMEOUT_S="600") as server:
                    measured, found = measure(
                        server, picture, "photo", repeats if engine == "classical" else 1
                    )
            assert found == count, f"{found} of {count} faces"
            row |= {f"{engine}_{name}": value for name, value in measured.items()}
        rows.append(log(row))
    return rows


def by_callers(repeats: int) -> list[Row]:
    rows, picture = [], portrait(2)
    for count in CALLERS:
        with tempfile.TemporaryDirectory() as folder, run_gateway(Path(folder)) as server:
            rows.append(log({"callers": count, **asyncio.run(load(server, count, repeats, picture))}))
    return rows


async def load(server: Server, callers: int, repeats: int, picture: bytes) -> Row:
    """Measure the throughput and latency of concurrent callers."""
    times = []
    each = max(repeats, 24 // callers)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=600, limits=httpx.Limits(max_connections=callers)
    ) as client:

        async def caller() -> None:
            for _ in range(each):
                started = time.perf_counter()
                answer = await client.post("/v1/enhance", content=fresh(picture))
                assert answer.status_code == 200, answer.text
                times.append((time.perf_counter() - started) * 1000)

        await client.post("/v1/enhance", content=fresh(picture))
        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        took = time.perf_counter() - started
    return {
        "per_s": len(times) / took,
        "median_ms": statistics.median(times),
        "p95_ms": statistics.quantiles(times, n=20)[-1],
        "peak_mb": server.peak_mb(),
    }


def log(row: Row) -> Row:
    print({name: round(value, 2) for name, value in row.items()}, flush=True)
    return row


HEADS = {
    "pixels": ["megapixels", "portrait, ms", "peak MB", "whole photo, ms", "peak MB"],
    "faces": ["faces", "classical, ms", "peak MB", "network of 512 px, ms", "peak MB"],
    "callers": ["callers", "portraits/s", "median, ms", "95 %, ms", "peak MB"],
}


def table(kind: str, rows: list[Row]) -> list[list[object]]:
    first, *others = rows[0]
    lines = [[f"{row[first]:g}", *(_format(row[name]) for name in others)] for row in rows]
    return [list(HEADS[kind]), *lines]


def _format(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


# Panels of the plot: title of the x axis, then the lines for seconds and for gigabytes.
PANELS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "pixels": (
        "megapixels of one photo",
        {"portrait_ms": "portrait", "photo_ms": "whole photo"},
        {"portrait_peak_mb": "portrait", "photo_peak_mb": "whole photo"},
    ),
    "faces": (
        "faces in a photo of 12 megapixels",
        {"classical_ms": "classical", "torch_ms": "network, 512 px"},
        {"classical_peak_mb": "classical", "torch_peak_mb": "network, 512 px"},
    ),
    "callers": ("callers at once", {"median_ms": "median", "p95_ms": "95 %"}, {"peak_mb": "gateway"}),
}


def plot(results: dict[str, list[Row]], path: Path) -> None:
    """Plot seconds above and peak memory below, one column per kind."""
    import matplotlib

    matplotlib.use("svg")
    # A fixed salt makes the file reproducible.
    matplotlib.rcParams |= {"svg.hashsalt": "growth", "font.size": 9, "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(PANELS), figsize=(11, 6), layout="constrained")
    for column, (kind, (title, times, memory)) in enumerate(PANELS.items()):
        rows = results[kind]
        places = [next(iter(row.values())) for row in rows]
        for axis, lines, unit in ((axes[0][column], times, "seconds"), (axes[1][column], memory, "peak GB")):
            for name, label in lines.items():
                axis.plot(places, [row[name] / 1000 for row in rows], marker="o", label=label)
            axis.set_xscale("log", base=2)
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.minorticks_off()
            axis.set_ylim(bottom=0)
            axis.set_ylabel(unit)
            axis.grid(alpha=0.3)
            axis.legend(frameon=False)
        axes[1][column].set_xlabel(title)
    if any(row["torch_ms"] > 5000 for row in results["faces"]):
        axes[0][1].set_ylim(bottom=0.1)
        axes[0][1].set_yscale("log")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(HEADS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    benches: dict[str, Callable[[int], list[Row]]] = {
        "pixels": by_pixels,
        "faces": by_faces,
        "callers": by_callers,
    }
    results: dict[str, Any] = {}
    for kind in options.only.split(","):
        hardware_now = hardware()
        results[kind] = benches[kind](options.repeats)
        keep(f"growth-{kind}", {"rows": results[kind]}, table(kind, results[kind]), hardware_now)
    if set(results) == set(HEADS):
        plot(results, ROOT / "docs" / "growth.svg")


if __name__ == "__main__":
    main()
