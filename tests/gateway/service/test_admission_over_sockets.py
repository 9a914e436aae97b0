"""Full queues, deadlines, slow uploads and disconnects over real sockets, with a backend that can be held."""

import asyncio
import itertools
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, Settings, UpstreamSettings

pytestmark = pytest.mark.anyio

PHOTO = encode(np.full((64, 64, 3), 128, np.uint8), "png", 95)
_numbers = itertools.count()


def new_photo() -> bytes:
    """A photo that no other request has: identical requests would hold one place together."""
    return PHOTO + str(next(_numbers)).encode()


BIG = bytes(8_000_000)


# A loaded machine may need longer than the first to reach the backend at all.
DEADLINES = (0.3, 1.0, 4.0, 16.0)


class House:
    """A gateway with its backend, each on a socket. waiting: uploads and places in use."""

    def __init__(self, app, url, backend, finder) -> None:
        self.app, self.url, self.backend, self.finder = app, url, backend, finder

    @property
    def waiting(self) -> int:
        admission = self.app.state.gateway.admission
        return admission.uploads + admission.taken

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - threads and sockets set no event of ours
                await asyncio.sleep(0.005)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = re.fullmatch(r"http://(.*):(\d+)", self.url).groups()
        return await asyncio.open_connection(host, int(port))

    async def post_raw(self, body: bytes = PHOTO, length: int | None = None, path: str = "/v1/enhance"):
        """Send a request; the test reads the response."""
        reader, writer = await self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        return reader, writer


@pytest.fixture
def house(listening, held_backend, fixed_finder):
    @asynccontextmanager
    async def make(finder=None, timeout_s: float = 60, **limits) -> AsyncIterator[House]:
        backend, finder = held_backend(), finder or fixed_finder()
        async with listening(backend.app) as backend_url:
            upstream = UpstreamSettings(backend_url=backend_url, timeout_s=timeout_s)
            app = create_app(Settings(upstream=upstream, limits=LimitSettings(**limits)), finder=finder)
            async with listening(app) as url:
                yield House(app, url, backend, finder)

    return make


async def test_a_full_queue_answers_429_at_once_while_the_probes_stay_green(house):
    async with house(workers=1, queue=1) as it, it.client() as client:
        held = [asyncio.create_task(client.post("/v1/enhance", content=new_photo())) for _ in range(2)]
        await it.until(lambda: it.waiting == 2 and it.backend.entered)
        for path in ("/v1/enhance", "/v1/preprocess", "/preprocess", "/v1/enhance?output=photo"):
            answer = await client.post(path, content=new_photo())
            assert answer.status_code == 429, answer.text
            assert (answer.json()["type"], answer.headers["Retry-After"]) == ("queue-full", "1")
        for path in ("/healthz", "/readyz", "/v1/models", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert it.backend.entered == 1
        it.backend.go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert it.waiting == 0
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 200


async def test_429_reaches_a_client_that_sends_megabytes(house):
    """The response must not be lost in the reset of a connection whose body was not read."""
    async with house(workers=1, queue=0) as it, it.client() as client:
        held = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await it.until(lambda: it.backend.entered)
        for _ in range(5):
            assert (await client.post("/v1/enhance", content=BIG)).status_code == 429
        it.backend.go_on.set()
        assert (await held).status_code == 200


async def test_workers_bound_the_calls_to_the_backend(house):
    async with house(workers=3, queue=20) as it, it.client() as client:
        held = [asyncio.create_task(client.post("/v1/enhance", content=new_photo())) for _ in range(12)]
        await it.until(lambda: it.waiting == 12 and it.backend.running == 3)
        it.backend.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
        assert it.backend.most <= 3
        assert it.waiting == 0


async def test_timeout_s_is_capped_and_travels_to_the_backend(house):
    async with house(timeout_s=50) as it, it.client() as client:
        it.backend.go_on.set()
        for asked in ("?timeout_s=20", "?timeout_s=3000", ""):
            assert (await client.post(f"/v1/enhance{asked}", content=new_photo())).status_code == 200
        short, capped, default = it.backend.timeouts_ms
        assert 0 < short <= 20_000
        assert 20_000 < capped <= 50_000
        assert 20_000 < default <= 50_000


async def test_a_deadline_is_answered_while_the_backend_hangs_and_its_call_is_cancelled(house):
    async with house() as it, it.client() as client, asyncio.timeout(60):
        for timeout_s in DEADLINES:
            answer = await client.post(f"/v1/enhance?timeout_s={timeout_s}", content=new_photo())
            assert (answer.status_code, answer.json()["type"]) == (504, "deadline-passed")
            if it.backend.entered:
                break
        await it.until(lambda: it.backend.left == 1)
        await it.until(lambda: it.waiting == 0)
        assert it.backend.entered == 1


async def test_a_deadline_is_answered_while_a_thread_is_stuck_and_its_place_stays_taken(house, fixed_finder):
    finder = fixed_finder(may_go_on=threading.Event())
    async with house(finder, workers=1, queue=0) as it, it.client() as client:
        for timeout_s in DEADLINES:
            answer = await client.post(f"/v1/enhance?timeout_s={timeout_s}", content=new_photo())
            assert (answer.status_code, answer.json()["type"]) == (504, "deadline-passed")
            if finder.entered.is_set():
                break
            await it.until(lambda: it.waiting == 0)
        assert it.waiting == 1
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 429
        finder.may_go_on.set()
        await it.until(lambda: it.waiting == 0)
        it.backend.go_on.set()
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 200
        assert it.backend.entered == 1, "abandoned work did not reach the backend"


async def test_a_disconnect_cancels_the_call_to_the_backend(house):
    async with house(workers=1, queue=1) as it:
        _, writer = await it.post_raw(new_photo())
        await it.until(lambda: it.backend.running == 1)
        writer.close()
        await it.until(lambda: it.backend.left == 1)
        await it.until(lambda: it.waiting == 0)


async def test_a_disconnect_in_the_queue_never_starts_the_work(house):
    async with house(workers=1, queue=2) as it, it.client() as client:
        first = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await it.until(lambda: it.backend.running == 1)
        _, writer = await it.post_raw(new_photo())
        await it.until(lambda: it.waiting == 2)
        last = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await it.until(lambda: it.waiting == 3)
        writer.close()
        await it.until(lambda: it.waiting == 2)
        it.backend.go_on.set()
        assert [(await answer).status_code for answer in (first, last)] == [200, 200]
        assert it.backend.entered == 2
        assert it.waiting == 0


async def test_a_disconnect_during_the_upload_frees_its_slot(house):
    async with house(workers=1, queue=0) as it:
        for path in ("/v1/enhance", "/v1/preprocess"):
            _, writer = await it.post_raw(PHOTO[:50], len(PHOTO), path)
            await it.until(lambda: it.waiting == 1)
            writer.close()
            await it.until(lambda: it.waiting == 0)
        assert not it.finder.entered.is_set()


@pytest.mark.parametrize(
    ("content_type", "start"),
    [
        ("image/png", PHOTO[:50]),
        ("application/json", b'{"image": "'),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nP',
        ),
    ],
)
async def test_a_stalled_upload_is_answered_408(house, content_type, start):
    async with house(workers=1, queue=0, upload_timeout_s=0.3) as it:
        reader, writer = await it.connect()
        head = (
            f"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            "Content-Length: 9999\r\n\r\n"
        )
        writer.write(head.encode() + start)
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"slow-upload"' in answer
        await it.until(lambda: it.waiting == 0)
        writer.close()


async def test_a_json_upload_does_not_wait_for_pixel_threads(house, fixed_finder):
    """Its bytes have arrived, so it must not be answered 408."""
    finder = fixed_finder(may_go_on=threading.Event())
    async with house(finder, workers=32, queue=8, upload_timeout_s=5) as it, it.client() as client:
        threads = it.app.state.gateway.settings.server.threads
        posts = (client.post("/v1/enhance", content=new_photo()) for _ in range(threads))
        blocked = [asyncio.create_task(post) for post in posts]
        await it.until(lambda: it.waiting == threads)
        await it.until(finder.entered.is_set)
        answer = await client.post("/v1/enhance", json={"image": "UE5H", "strength": 1000})
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid-parameters")
        finder.may_go_on.set()
        it.backend.go_on.set()
        assert {(await answer).status_code for answer in blocked} == {200}
