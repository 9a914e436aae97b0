"""Full queues, deadlines, slow uploads and disconnects over sockets, with a backend that holds requests."""

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
    """Return a photo that differs from all others: identical requests share one place."""
    return PHOTO + str(next(_numbers)).encode()


BIG = bytes(8_000_000)


# On a loaded machine the first ones may expire before the request reaches the backend.
DEADLINES = (0.3, 1.0, 4.0, 16.0)


class RunningGateway:
    """A gateway with its backend, each on a socket. in_use: uploads and places in use."""

    def __init__(self, app, url, backend, finder) -> None:
        self.app, self.url, self.backend, self.finder = app, url, backend, finder

    @property
    def in_use(self) -> int:
        admission = self.app.state.gateway.admission
        return admission.uploads + admission.taken

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - no event reports it
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
def open_gateway(serve_app, held_backend, fixed_finder):
    """Opens a gateway with a held backend. limits: of LimitSettings."""

    @asynccontextmanager
    async def make(finder=None, timeout_s: float = 60, **limits) -> AsyncIterator[RunningGateway]:
        backend, finder = held_backend(), finder or fixed_finder()
        async with serve_app(backend.app) as backend_url:
            upstream = UpstreamSettings(backend_url=backend_url, timeout_s=timeout_s)
            app = create_app(Settings(upstream=upstream, limits=LimitSettings(**limits)), finder=finder)
            async with serve_app(app) as url:
                yield RunningGateway(app, url, backend, finder)

    return make


async def test_a_full_queue_gets_429_at_once_while_probes_succeed(open_gateway):
    async with open_gateway(workers=1, queue=1) as gateway, gateway.client() as client:
        held = [asyncio.create_task(client.post("/v1/enhance", content=new_photo())) for _ in range(2)]
        await gateway.until(lambda: gateway.in_use == 2 and gateway.backend.entered)
        for path in ("/v1/enhance", "/v1/preprocess", "/preprocess", "/v1/enhance?output=photo"):
            answer = await client.post(path, content=new_photo())
            assert answer.status_code == 429, answer.text
            assert (answer.json()["type"], answer.headers["Retry-After"]) == ("queue-full", "1")
        for path in ("/healthz", "/readyz", "/v1/models", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert gateway.backend.entered == 1
        gateway.backend.go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
        assert gateway.in_use == 0
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 200


async def test_429_reaches_a_client_that_sends_megabytes(open_gateway):
    """The response must not be lost in the reset of a connection whose body was not read."""
    async with open_gateway(workers=1, queue=0) as gateway, gateway.client() as client:
        held = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await gateway.until(lambda: gateway.backend.entered)
        for _ in range(5):
            assert (await client.post("/v1/enhance", content=BIG)).status_code == 429
        gateway.backend.go_on.set()
        assert (await held).status_code == 200


async def test_workers_bound_the_calls_to_the_backend(open_gateway):
    async with open_gateway(workers=3, queue=20) as gateway, gateway.client() as client:
        held = [asyncio.create_task(client.post("/v1/enhance", content=new_photo())) for _ in range(12)]
        await gateway.until(lambda: gateway.in_use == 12 and gateway.backend.running == 3)
        gateway.backend.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
        assert gateway.backend.most <= 3
        assert gateway.in_use == 0


async def test_timeout_s_is_capped_and_travels_to_the_backend(open_gateway):
    async with open_gateway(timeout_s=50) as gateway, gateway.client() as client:
        gateway.backend.go_on.set()
        for asked in ("?timeout_s=20", "?timeout_s=3000", ""):
            assert (await client.post(f"/v1/enhance{asked}", content=new_photo())).status_code == 200
        short, capped, default = gateway.backend.timeouts_ms
        assert 0 < short <= 20_000
        assert 20_000 < capped <= 50_000
        assert 20_000 < default <= 50_000


async def test_a_hanging_backend_gets_504_at_the_deadline_and_its_call_is_cancelled(open_gateway):
    async with open_gateway() as gateway, gateway.client() as client, asyncio.timeout(60):
        for timeout_s in DEADLINES:
            answer = await client.post(f"/v1/enhance?timeout_s={timeout_s}", content=new_photo())
            assert (answer.status_code, answer.json()["type"]) == (504, "deadline-passed")
            if gateway.backend.entered:
                break
        await gateway.until(lambda: gateway.backend.left == 1)
        await gateway.until(lambda: gateway.in_use == 0)
        assert gateway.backend.entered == 1


async def test_a_stuck_thread_gets_504_at_the_deadline_and_its_place_stays_taken(open_gateway, fixed_finder):
    finder = fixed_finder(may_go_on=threading.Event())
    async with open_gateway(finder, workers=1, queue=0) as gateway, gateway.client() as client:
        for timeout_s in DEADLINES:
            answer = await client.post(f"/v1/enhance?timeout_s={timeout_s}", content=new_photo())
            assert (answer.status_code, answer.json()["type"]) == (504, "deadline-passed")
            if finder.entered.is_set():
                break
            await gateway.until(lambda: gateway.in_use == 0)
        assert gateway.in_use == 1
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 429
        finder.may_go_on.set()
        await gateway.until(lambda: gateway.in_use == 0)
        gateway.backend.go_on.set()
        assert (await client.post("/v1/enhance", content=new_photo())).status_code == 200
        assert gateway.backend.entered == 1, "abandoned work did not reach the backend"


async def test_a_disconnect_cancels_the_call_to_the_backend(open_gateway):
    async with open_gateway(workers=1, queue=1) as gateway:
        _, writer = await gateway.post_raw(new_photo())
        await gateway.until(lambda: gateway.backend.running == 1)
        writer.close()
        await gateway.until(lambda: gateway.backend.left == 1)
        await gateway.until(lambda: gateway.in_use == 0)


async def test_a_disconnect_in_the_queue_never_starts_the_work(open_gateway):
    async with open_gateway(workers=1, queue=2) as gateway, gateway.client() as client:
        first = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await gateway.until(lambda: gateway.backend.running == 1)
        _, writer = await gateway.post_raw(new_photo())
        await gateway.until(lambda: gateway.in_use == 2)
        last = asyncio.create_task(client.post("/v1/enhance", content=new_photo()))
        await gateway.until(lambda: gateway.in_use == 3)
        writer.close()
        await gateway.until(lambda: gateway.in_use == 2)
        gateway.backend.go_on.set()
        assert [(await answer).status_code for answer in (first, last)] == [200, 200]
        assert gateway.backend.entered == 2
        assert gateway.in_use == 0


async def test_a_disconnect_during_the_upload_frees_its_slot(open_gateway):
    async with open_gateway(workers=1, queue=0) as gateway:
        for path in ("/v1/enhance", "/v1/preprocess"):
            _, writer = await gateway.post_raw(PHOTO[:50], len(PHOTO), path)
            await gateway.until(lambda: gateway.in_use == 1)
            writer.close()
            await gateway.until(lambda: gateway.in_use == 0)
        assert not gateway.finder.entered.is_set()


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
async def test_a_stalled_upload_gets_408(open_gateway, content_type, start):
    async with open_gateway(workers=1, queue=0, upload_timeout_s=0.3) as gateway:
        reader, writer = await gateway.connect()
        head = (
            f"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
            "Content-Length: 9999\r\n\r\n"
        )
        writer.write(head.encode() + start)
        async with asyncio.timeout(20):
            answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"slow-upload"' in answer
        await gateway.until(lambda: gateway.in_use == 0)
        writer.close()


async def test_a_json_upload_does_not_wait_for_pixel_threads(open_gateway, fixed_finder):
    """Its bytes have arrived, so it must not be answered 408."""
    finder = fixed_finder(may_go_on=threading.Event())
    async with (
        open_gateway(finder, workers=32, queue=8, upload_timeout_s=5) as gateway,
        gateway.client() as client,
    ):
        threads = gateway.app.state.gateway.settings.server.threads
        posts = (client.post("/v1/enhance", content=new_photo()) for _ in range(threads))
        blocked = [asyncio.create_task(post) for post in posts]
        await gateway.until(lambda: gateway.in_use == threads)
        await gateway.until(finder.entered.is_set)
        answer = await client.post("/v1/enhance", json={"image": "UE5H", "strength": 1000})
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid-parameters")
        finder.may_go_on.set()
        gateway.backend.go_on.set()
        assert {(await answer).status_code for answer in blocked} == {200}
