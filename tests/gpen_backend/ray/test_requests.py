"""The backend on Ray Serve behind a gateway: the protocol, a killed replica, full queues."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gpen_client.client import GpenClient
from gpen_client.errors import BackendBusy
from gpen_client.resilience import Resilience
from gpen_common.types import Pixels, RestoreParams

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(300)]

MODEL = "gpen-bfr-512"
FACE = np.float32([[[202, 243], [309, 242], [256, 304], [212, 367], [301, 366]]])
CALLERS, CALLS = 6, 20


@pytest.fixture(scope="module")
def gateway(cluster, server_process: Callable[..., object]) -> Iterator[Callable[[], httpx.AsyncClient]]:
    """Returns clients of a gateway process in front of Ray."""
    environment = {
        "GATEWAY_BACKEND_URL": cluster.url,
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_MODELS_DIR": str(cluster.folder),
    }
    with server_process([sys.executable, "-m", "gateway", "serve", "--port", "0"], environment) as url:
        yield lambda: httpx.AsyncClient(base_url=url, timeout=120)


def noise(number: int, edge: int = 512) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (edge, edge, 3), np.uint8)


def portrait(astronaut: Pixels, number: int) -> Pixels:
    """Return a portrait whose lower edge has the colour of its number."""
    pixels = astronaut[:400, :400].copy()
    pixels[-20:] = colour(number)
    return pixels


def colour(number: int) -> tuple[int, int, int]:
    return (number % 6 * 45, number // 6 % 6 * 45, number // 36 * 45)


async def test_answers_each_request_with_its_own_picture(two_replicas):
    async with GpenClient(two_replicas.url) as client:
        assert await client.live()
        assert await client.ready()
        assert (await client.model(MODEL)).engine == "classical"
        params = RestoreParams(strength=0)
        answers = await asyncio.gather(
            *(client.restore(noise(n), None, params, model=MODEL, timeout_s=60) for n in range(4))
        )
    for number, answer in enumerate(answers):
        assert np.array_equal(answer.pixels, noise(number))


async def test_a_replica_killed_under_load_fails_no_request_of_the_gateway(two_replicas, gateway, astronaut):
    """The proxy breaks off the requests of the killed replica, and the gateway retries them."""
    before = two_replicas.replicas()
    assert len(before) == 2
    refused: Counter[int] = Counter()
    done: list[int] = []

    async def call(client: httpx.AsyncClient, number: int) -> None:
        sent = encode(portrait(astronaut, number), "png", 90)
        while True:
            answer = await client.post("/v1/enhance?output=photo&format=png", content=sent)
            if answer.status_code != 429:
                break
            refused[429] += 1
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        assert answer.status_code == 200, answer.text
        pixels = decode(answer.content, PixelLimits(max_pixels=10**6, max_side=10**4)).pixels
        assert np.abs(pixels[-10:].astype(int) - colour(number)).max() < 20
        done.append(number)

    async def caller(client: httpx.AsyncClient, first: int) -> None:
        for number in range(first, first + CALLS):
            await call(client, number)

    async with gateway() as client, asyncio.TaskGroup() as group:
        for first in range(0, CALLERS * CALLS, CALLS):
            group.create_task(caller(client, first))
        while len(done) < CALLS:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        os.kill(min(before), signal.SIGKILL)
        killed_after = len(done)
    assert sorted(done) == list(range(CALLERS * CALLS))
    assert killed_after < len(done) - CALLERS
    await asyncio.to_thread(two_replicas.until, lambda: len(two_replicas.replicas() - {min(before)}) == 2, 90)


async def test_full_queues_are_429_and_do_not_open_the_breaker(two_replicas, gateway, astronaut):
    """Whether a replica rejects them, or Ray, which limits what it passes to replicas."""
    full = asyncio.Event()
    over = asyncio.Event()
    ended: Counter[str] = Counter()

    async def keep_full(client: GpenClient, number: int) -> None:
        faces, params = np.repeat(FACE, 8, 0), RestoreParams(strength=70)
        while not over.is_set():
            try:
                await client.restore(noise(number), faces, params, model=MODEL, timeout_s=120)
                ended["restored"] += 1
            except BackendBusy as error:
                ended["refused by a replica" if "queue is full" in str(error) else "refused by Ray"] += 1
                ended["refused without a time"] += error.retry_after is None
                full.set()
                await asyncio.sleep(0.05)

    sent = encode(portrait(astronaut, 0), "jpeg", 90)
    answers: list[httpx.Response] = []
    resilience = Resilience(attempts=1)
    async with GpenClient(two_replicas.url, resilience=resilience) as direct, gateway() as client:
        async with asyncio.TaskGroup() as group:
            for number in range(96):
                group.create_task(keep_full(direct, number))
            await full.wait()
            for _ in range(3):
                answers += await asyncio.gather(*(client.post("/v1/enhance", content=sent) for _ in range(5)))
            breaker = (await client.get("/readyz")).json()["breaker"]
            over.set()
        assert (await client.post("/v1/enhance", content=sent)).status_code == 200
    assert breaker == "closed"
    assert {answer.status_code for answer in answers} <= {200, 429}
    busy = [answer for answer in answers if answer.status_code == 429]
    assert busy
    for answer in busy:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["type"].endswith("backend-busy")
    assert not ended.pop("refused without a time")
    assert {"restored", "refused by a replica"} <= set(ended)
    # With HAProxy the replicas answer 429 too fast for its own queue to fill each time.
    assert two_replicas.haproxy or ended["refused by Ray"]
