"""A real backend killed and restarted under load: no wrong answers and no restart of the gateway."""

import asyncio
import itertools
import os
import random
import subprocess
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.settings import Settings, UpstreamSettings

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(300)]

CALLERS = 6
# Sixteen values a channel, so that every picture has a distinguishable colour.
STEP = 16
Colour = tuple[int, int, int]


@asynccontextmanager
async def backend_process(port: int, environment: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run a backend process, yield it once it listens, and kill it at the end."""
    command = ["-m", "gateway", "backend", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=environment, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    log = b""
    try:
        while b"running on http://" not in log:
            line = await process.stderr.readline()
            assert line, f"the backend did not start:\n{log.decode()}"
            log += line
        # A full pipe would block the process.
        reading = asyncio.create_task(process.stderr.read())
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    await reading


@dataclass
class Load:
    """Callers that send pictures of ever new colours and check the results."""

    client: httpx.AsyncClient
    colours: Iterator[Colour]
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def call_forever(self) -> None:
        while True:
            colour = next(self.colours)
            picture = encode(np.full((96, 96, 3), colour, np.uint8), "png", 95)
            answer = await self.client.post("/v1/enhance?output=photo&format=png", content=picture)
            self.statuses[answer.status_code] += 1
            self._check(colour, answer)
            async with self.changed:
                self.changed.notify_all()
            await asyncio.sleep(0.01)

    def _check(self, colour: Colour, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            pixels = decode(answer.content, PixelLimits(max_pixels=10**6, max_side=10**4)).pixels
            if np.abs(pixels.astype(int) - colour).max() >= STEP / 2:
                self.wrong.append(f"sent {colour}, got {pixels.reshape(-1, 3).mean(0)}")
        elif answer.status_code not in (429, 502, 503, 504):
            self.wrong.append(answer.text)
        elif answer.headers["Content-Type"] != "application/problem+json":
            self.wrong.append(f"{answer.status_code} {answer.headers['Content-Type']}")

    async def until(self, more: int, ok: bool) -> None:
        """Wait for `more` successful or failed responses."""
        enough = self._count(ok) + more
        async with self.changed:
            await self.changed.wait_for(lambda: self._count(ok) >= enough)

    def _count(self, ok: bool) -> int:
        return sum(number for status, number in self.statuses.items() if (status == 200) is ok)


def all_colours() -> Iterator[Colour]:
    values = range(STEP // 2, 256, STEP)
    shuffled = list(itertools.product(values, values, values))
    random.Random(7).shuffle(shuffled)
    return iter(shuffled)


async def test_backend_killed_under_load_gives_no_wrong_answer(serving, tmp_path: Path, free_ports):
    (port,) = free_ports(1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
    environment |= {"GPEN_BACKEND_ENGINE": "classical", "GPEN_MODELS_DIR": str(tmp_path)}
    settings = Settings(
        upstream=UpstreamSettings(
            backend_url=f"http://127.0.0.1:{port}", timeout_s=10, breaker_cool_down_s=0.5
        )
    )
    async with serving(settings=settings) as client:
        load = Load(client, all_colours())
        callers = [asyncio.create_task(load.call_forever()) for _ in range(CALLERS)]
        for _ in range(3):
            async with backend_process(port, environment) as process:
                await load.until(30, ok=True)
                process.kill()
                await load.until(20, ok=False)
        async with backend_process(port, environment):
            await load.until(30, ok=True)
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
            ready = await client.get("/readyz")
            assert (ready.status_code, ready.json()["breaker"]) == (200, "closed")
    assert load.wrong == []
    assert load.statuses[503] > 0
