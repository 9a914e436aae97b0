"""Throughput of the batcher and of the whole backend under load, compared with the bare network.

./run bench batching [--size 512] [--callers 16] [--faces 3] [--rounds 3] [--device cpu]

bare: `engine.restore` in a loop on its thread, with the best batch size found by the warm-up. queue:
concurrent callers, each sending one face after the other through the Batcher. backend: the same through the
whole embedded backend and its protocol: decode, align, queue, blend, paste, encode, on the same cores. The
three take turns; medians of the rounds. `share`: of the bare network's throughput in the same round.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np
import torch
from network import SHAPES, faces
from published import seeded
from results import hardware, keep

from gpen_backend.app import create_app
from gpen_backend.network.generator import Generator
from gpen_backend.restoration.align import template
from gpen_backend.settings import BackendSettings
from gpen_client.client import GpenClient
from gpen_common.types import RestoreParams

MODELS = {256: "gpen-bfr-256", 512: "gpen-bfr-512", 1024: "gpen-bfr-1024"}
# Side of the gateway's portraits, px.
SIDE = 896


def save_checkpoint(folder: Path, size: int) -> None:
    with torch.device("meta"):
        shapes = Generator(*SHAPES[size]).state_dict()
    torch.save(seeded(shapes), folder / f"{MODELS[size].upper()}.pth")


async def measure(size: int, callers: int, each: int, rounds: int, device: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), size)
        settings = BackendSettings(
            engine="torch", models_dir=Path(folder), default_model=MODELS[size], device=device,
            max_queue=callers * 2,
        )  # fmt: skip
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            client = GpenClient("http://backend", transport=httpx.ASGITransport(app))
            async with client:
                while not await client.ready():  # noqa: ASYNC110 - as a probe does
                    await asyncio.sleep(0.05)
                return await compare(app.state.service, client, size, callers, each, rounds)


async def compare(
    service: object, client: GpenClient, size: int, callers: int, each: int, rounds: int
) -> dict[str, object]:
    name = MODELS[size]
    engine = service.models.get_loaded(name)  # type: ignore[attr-defined]
    batcher, network = service._batcher, service._network  # type: ignore[attr-defined]
    best = batcher._queue(engine).limit
    given = faces(size, max(best, 2))
    photo = faces(SIDE, 1)[0]
    landmarks = (template(size) * (SIDE / size * 0.5) + SIDE / 4)[None].astype(np.float32)
    total = callers * each
    sizes: list[int] = []

    def bare() -> None:
        for _ in range(total // best):
            engine.restore(given[:best])

    async def through_queue() -> None:
        sizes.append((await batcher.restore(engine, [given[0]])).batch_size)

    async def through_backend() -> None:
        answer = await client.restore(
            photo, landmarks, RestoreParams(strength=100), model=name, timeout_s=600
        )
        assert answer.faces == 1

    async def run_callers(one: Callable[[], Awaitable[None]]) -> None:
        async def caller() -> None:
            for _ in range(each):
                await one()

        await asyncio.gather(*(caller() for _ in range(callers)))

    rates: dict[str, list[float]] = {"bare": [], "queue": [], "backend": []}
    for number in range(rounds + 1):
        start = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(network, bare)
        taken = {"bare": total // best * best / (time.perf_counter() - start)}
        for kind, one in (("queue", through_queue), ("backend", through_backend)):
            start = time.perf_counter()
            await run_callers(one)
            taken[kind] = total / (time.perf_counter() - start)
        print(f"{size} px, round {number}: " + ", ".join(f"{k} {v:.2f} faces/s" for k, v in taken.items()))
        for kind, rate in taken.items():
            if number:
                rates[kind].append(rate)
    share = {
        kind: statistics.median(own / base for own, base in zip(rates[kind], rates["bare"], strict=True))
        for kind in rates
    }
    return {
        "size": size, "callers": callers, "best_batch": best, "batch_sizes": sorted(set(sizes)),
        "faces_per_s": rates, "share": share,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="512")
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    options = parser.parse_args()
    machine = hardware()
    results = [
        asyncio.run(measure(int(size), options.callers, options.faces, options.rounds, options.device))
        for size in options.size.split(",")
    ]
    table: list[list[object]] = [
        [
            "px",
            "best batch",
            "bare network, faces/s",
            "queue",
            "whole backend",
            "queue's share",
            "backend's share",
        ]
    ]
    for row in results:
        rates = [
            f"{statistics.median(row['faces_per_s'][kind]):.2f}" for kind in ("bare", "queue", "backend")
        ]
        shares = [f"{row['share'][kind]:.0%}" for kind in ("queue", "backend")]
        table.append([row["size"], row["best_batch"], *rates, *shares])
    keep("batching", {"results": results}, table, machine)


if __name__ == "__main__":
    main()
