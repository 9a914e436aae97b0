"""The gateway with a faulty backend: a server on a real socket that fails in many ways."""

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.settings import Settings, UpstreamSettings
from gpen_client.wire.messages import (
    InferRequest,
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    read_header_length,
)
from gpen_common.types import Pixels

pytestmark = pytest.mark.anyio

MODEL = "gpen-bfr-512"
ENHANCE = "/v1/enhance?output=photo&format=png"
ABOUT = json.dumps({"name": MODEL, "platform": "echo", "parameters": {"size": 512, "default": True}}).encode()


@dataclass(frozen=True)
class Call:
    """A restoration request, and the writer for its response."""

    request: InferRequest
    writer: asyncio.StreamWriter

    @property
    def image(self) -> Pixels:
        image = self.request.tensor("image")
        assert image is not None
        return image

    def answer(self, image: np.ndarray | None = None, id: str | None = None, **parameters: float) -> None:
        """Write a well-formed response, by default an echo."""
        reported = {"engine": "echo", "model": MODEL, **parameters}
        tensor = Tensor("image", self.image if image is None else image)
        headers, body = encode_response(InferResponse(MODEL, [tensor], reported, id or self.request.id), True)
        self.reply(200, headers, body)

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = [f"HTTP/1.1 {status} Whatever", *lines, f"Content-Length: {len(body)}", "", ""]
        self.writer.write("\r\n".join(head).encode() + body)

    async def drip(self) -> None:
        while True:
            self.writer.write(b" ")
            await self.writer.drain()
            await asyncio.sleep(0.01)

    def reset(self) -> None:
        # SO_LINGER of zero makes close() send a reset.
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


Fault = Callable[[Call], Awaitable[None]]


async def behave(call: Call) -> None:
    call.answer()


@dataclass
class FaultServer:
    """A backend on a socket. fault: answers restorations. slams: whether it closes every connection."""

    fault: Fault = behave
    slams: bool = False
    port: int = 0
    restorations: int = 0
    connections: int = 0
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["FaultServer"]:
        """Serve until the block ends, always on the same port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not self.slams and not writer.is_closing():
                await self._answer(reader, writer)
                await writer.drain()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = httpx.Headers([line.split(": ", 1) for line in head[1:] if line])
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
        if self.slams:
            raise ConnectionError
        path = head[0].split(" ")[1]
        call = Call(decode_request(body, read_header_length(headers)) if body else InferRequest([]), writer)
        if path.endswith("/infer"):
            self.restorations += 1
            await self.fault(call)
        else:
            call.reply(200 if MODEL in path else 404, body=ABOUT)


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer().listening() as server:
        yield server


def upstream(server: FaultServer, **changes: float) -> Settings:
    return Settings(upstream=UpstreamSettings(backend_url=server.url, **changes))


def photo(colour: tuple[int, int, int] = (200, 120, 20)) -> bytes:
    return encode(np.full((96, 96, 3), colour, np.uint8), "png", 95)


def colour_of(picture: bytes) -> tuple[int, int, int]:
    pixels = decode(picture, PixelLimits(max_pixels=10**6, max_side=10**4)).pixels
    assert pixels.shape == (96, 96, 3)
    assert np.ptp(pixels.reshape(-1, 3), axis=0).max() <= 3
    return tuple(int(value) for value in pixels[48, 48])


# New pictures, because repeated ones might be answered from a cache.
NEW_BLUE = itertools.cycle(range(30, 90))


async def enhance(client: httpx.AsyncClient, query: str = "") -> httpx.Response:
    """Send a new picture, and check that a successful response shows it."""
    colour = (200, 120, next(NEW_BLUE))
    answer = await client.post(ENHANCE + query, content=photo(colour))
    if answer.is_success:
        assert colour_of(answer.content) == pytest.approx(colour, abs=3)
    return answer


def problem(answer: httpx.Response, status: int, slug: str) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["type"]) == (status, slug), answer.text
    return answer.json()["detail"]


async def hang(call: Call) -> None:
    await asyncio.Event().wait()


async def drip_head(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await call.drip()


async def drip_body(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    await call.drip()


async def drip_refusal(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 100000\r\n\r\n")
    await call.drip()


async def reset(call: Call) -> None:
    call.reset()


async def reset_half_way(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
    await call.writer.drain()
    call.reset()


async def close_half_way(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
    call.writer.close()


async def close_in_the_head(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    call.writer.close()


async def fail_500(call: Call) -> None:
    call.reply(500, body=b'{"error": "CUDA error"}')


async def proxy_502(call: Call) -> None:
    call.reply(502, body=b"<html>Bad Gateway</html>")


async def garbage(call: Call) -> None:
    call.writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")


async def html(call: Call) -> None:
    call.reply(200, body=b"<html>Welcome to nginx</html>")


async def no_picture(call: Call) -> None:
    call.reply(200, body=b'{"model_name": "m", "outputs": []}')


async def flat_picture(call: Call) -> None:
    call.answer(call.image.reshape(1, -1))


async def two_pictures(call: Call) -> None:
    call.answer(np.concatenate([call.image, call.image]))


async def another_size(call: Call) -> None:
    call.answer(call.image[:, 1:])


async def transposed_channels(call: Call) -> None:
    call.answer(np.moveaxis(call.image, 3, 1))


async def nan_picture(call: Call) -> None:
    call.answer(np.full(call.image.shape, np.nan, np.float32))


async def nan_landmarks(call: Call) -> None:
    call.reply(
        200,
        body=b'{"model_name": "m", "outputs": [{"name": "landmarks", "datatype": "FP32", "shape": [1, 5, 2],'
        b' "data": [' + b"NaN," * 9 + b"NaN]}]}",
    )


async def nan_timing(call: Call) -> None:
    call.reply(200, body=b'{"model_name": "m", "parameters": {"network_ms": NaN}, "outputs": []}')


async def endless_timing(call: Call) -> None:
    call.reply(200, body=b'{"model_name": "m", "parameters": {"network_ms": 1e999}, "outputs": []}')


async def negative_timing(call: Call) -> None:
    call.answer(network_ms=-5.0)


async def another_request(call: Call) -> None:
    call.answer(id="somebody-else")


async def huge(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        call.writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await call.writer.drain()


async def busy(call: Call) -> None:
    call.reply(429, {"Retry-After": "60"}, b'{"error": "too many"}')


async def loading(call: Call) -> None:
    call.reply(503, {"Retry-After": "30"}, b'{"error": "loading"}')


FAULTS = [
    *((fault, 504, "deadline-passed", None) for fault in (hang, drip_head, drip_body, drip_refusal)),
    *((fault, 503, "backend-away", "1") for fault in (reset, reset_half_way, close_half_way, proxy_502)),
    (close_in_the_head, 503, "backend-away", "1"),
    (loading, 503, "backend-away", "30"),
    (busy, 429, "backend-busy", "60"),
    *((fault, 502, "backend-broken", None) for fault in (fail_500, garbage, html, no_picture, huge)),
    *((fault, 502, "backend-broken", None) for fault in (flat_picture, two_pictures, another_size)),
    *((fault, 502, "backend-broken", None) for fault in (transposed_channels, nan_picture, nan_landmarks)),
    *((fault, 502, "backend-broken", None) for fault in (nan_timing, endless_timing, negative_timing)),
    (another_request, 502, "backend-broken", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "status", "slug", "retry_after"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
async def test_fault_has_its_problem_and_the_next_request_succeeds(
    serving, server, fault, status, slug, retry_after
):
    server.fault = fault
    async with serving(settings=upstream(server, timeout_s=20)) as client:
        answer = await enhance(client, "&timeout_s=0.4" if status == 504 else "")
        problem(answer, status, slug)
        assert answer.headers.get("Retry-After") == retry_after
        server.fault = behave
        answer = await enhance(client)
        assert answer.status_code == 200, answer.text


async def test_retries_a_connection_reset(serving, server):
    async def reset_once(call: Call) -> None:
        server.fault = behave
        call.reset()

    server.fault = reset_once
    async with serving(settings=upstream(server)) as client:
        assert (await enhance(client)).status_code == 200
    assert server.restorations == 2


async def test_retries_a_busy_backend(serving, server):
    async def busy_once(call: Call) -> None:
        server.fault = behave
        call.reply(429, {"Retry-After": "0"})

    server.fault = busy_once
    async with serving(settings=upstream(server)) as client:
        assert (await enhance(client)).status_code == 200


async def test_one_attempt_means_no_retries(serving, server):
    server.fault = reset
    async with serving(settings=upstream(server, backend_attempts=1)) as client:
        problem(await enhance(client), 503, "backend-away")
    assert server.restorations == 1


async def test_retry_budget_limits_attempts_at_a_dead_backend(serving, server):
    callers, ratio, reserve = 24, 0.2, 10
    settings = upstream(server, backend_attempts=5, retry_ratio=ratio, breaker_failures=10_000)
    async with serving(settings=settings) as client:
        assert (await enhance(client)).status_code == 200
        server.slams, server.connections = True, 0
        answers = await asyncio.gather(*(enhance(client) for _ in range(callers)))
        for answer in answers:
            problem(answer, 503, "backend-away")
    # The first call did not add to the budget, which was full.
    assert server.connections <= callers * (1 + ratio) + reserve


async def test_open_breaker_sends_nothing_and_fails_readyz(serving, server):
    settings = upstream(server, backend_attempts=1, breaker_failures=3, breaker_cool_down_s=300)
    async with serving(settings=settings) as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["breaker"]) == (200, "closed")
        server.fault = fail_500
        for _ in range(3):
            problem(await enhance(client), 502, "backend-broken")
        answer = await enhance(client)
        assert "breaker" in problem(answer, 503, "backend-away")
        assert 200 < int(answer.headers["Retry-After"]) <= 300
        assert server.restorations == 3
        ready = await client.get("/readyz")
        assert "breaker" in problem(ready, 503, "not-ready")
        assert "Retry-After" in ready.headers
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/v1/preprocess", content=photo())).status_code == 200


async def ready_again(client: httpx.AsyncClient) -> str:
    """Wait until /readyz succeeds, and return the state of the breaker."""
    while (ready := await client.get("/readyz")).status_code != 200:
        problem(ready, 503, "not-ready")
        await asyncio.sleep(0.02)
    return ready.json()["breaker"]


@pytest.mark.parametrize("fault", [reset, fail_500, hang], ids=lambda fault: fault.__name__)
async def test_breaker_opens_half_opens_and_closes(serving, server, fault):
    settings = upstream(
        server, backend_attempts=1, breaker_failures=2, breaker_cool_down_s=0.3, timeout_s=0.5
    )
    async with serving(settings=settings) as client:
        for _ in range(2):
            server.fault = fault
            while (await client.get("/readyz")).status_code == 200:
                assert (await enhance(client)).status_code in (502, 503, 504)
            # Without a request: a gateway that is not ready gets none.
            assert await ready_again(client) == "half-open"
            server.fault = behave
            assert (await enhance(client)).status_code == 200
            assert await ready_again(client) == "closed"


async def test_short_deadlines_do_not_open_the_breaker(serving, server):
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.5)
        call.answer()

    server.fault = slow
    async with serving(settings=upstream(server, breaker_failures=2)) as client:
        for _ in range(3):
            problem(await enhance(client, "&timeout_s=0.1"), 504, "deadline-passed")
        assert (await enhance(client)).status_code == 200


async def test_recovers_after_a_backend_restart(serving):
    """While its port refuses connections, the cached list of models is used."""
    server = FaultServer()
    async with server.listening():
        settings = upstream(server, breaker_failures=3, breaker_cool_down_s=0.1)
        gateway = serving(settings=settings)
        client = await gateway.__aenter__()
        assert (await enhance(client)).status_code == 200
    try:
        for _ in range(4):
            problem(await enhance(client), 503, "backend-away")
        async with server.listening():
            await ready_again(client)
            answers = [await enhance(client)]
            while answers[-1].status_code != 200:
                problem(answers[-1], 503, "backend-away")
                await asyncio.sleep(0.02)
                answers.append(await enhance(client))
            assert await ready_again(client) == "closed"
    finally:
        await gateway.__aexit__(None, None, None)


async def test_gateway_started_before_its_backend_serves_later(serving):
    server = FaultServer()
    async with server.listening():
        pass
    async with serving(settings=upstream(server)) as client:
        problem(await enhance(client), 503, "backend-away")
        problem(await client.get("/readyz"), 503, "not-ready")
        async with server.listening():
            assert (await client.get("/readyz")).status_code == 200
            assert (await enhance(client)).status_code == 200


async def test_flaky_backend_never_mixes_up_pictures(serving, server):
    """The backend mixes up pictures and ids, resets connections, or answers late and out of order."""
    calls: list[Call] = []

    async def flaky(call: Call) -> None:
        calls.append(call)
        match len(calls) % 4:
            case 0:
                call.answer(calls[len(calls) // 2].image, id=calls[len(calls) // 2].request.id)
            case 1:
                call.reset()
            case _:
                await asyncio.sleep(0.02 * (len(calls) % 3))
                call.answer()

    server.fault = flaky
    colours = [(10 + 6 * n, 240 - 6 * n, (97 * n) % 256) for n in range(32)]
    async with serving(settings=upstream(server, breaker_failures=10_000)) as client:
        answers = await asyncio.gather(*(client.post(ENHANCE, content=photo(c)) for c in colours))
    right = 0
    for colour, answer in zip(colours, answers, strict=True):
        if answer.status_code == 200:
            assert colour_of(answer.content) == pytest.approx(colour, abs=3)
            right += 1
        else:
            assert answer.status_code in (502, 503), answer.text
    assert right
