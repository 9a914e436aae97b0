"""The gateway as a process: shutdown without losing requests."""

import asyncio
import itertools
import os
import re
import signal
import socket
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import pytest

from gateway.imaging.encoder import encode

pytestmark = pytest.mark.anyio

PHOTO = encode(np.full((64, 64, 3), 128, np.uint8), "png", 95)

# A gateway whose face finder never returns.
STUCK = """
import sys, threading
from gateway.app import create_app
from gateway.service.server import serve
from gateway.settings import Settings

class Stuck:
    name = "stuck"
    def find(self, pixels):
        print("stuck", file=sys.stderr, flush=True)
        threading.Event().wait()

settings = Settings()
serve(create_app(settings, finder=Stuck()), settings.server, keys=True)
"""


@dataclass
class Running:
    """A gateway process. log: its lines so far."""

    process: Process
    url: str
    log: list[str] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def wait_for_exit(self, within_s: float = 60) -> int:
        """Wait until the process ends; returns its exit status."""
        return await asyncio.wait_for(self.process.wait(), within_s)

    async def until_logged(self, words: str) -> None:
        await until(lambda: any(words in line for line in self.log))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway_process(folder, backend_url: str, *command: str, **settings: str) -> AsyncIterator[Running]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
    environment = {
        "GATEWAY_BACKEND_URL": backend_url,
        "GATEWAY_FACE_FINDER": "haar",
        "GATEWAY_CACHE": "off",
        "GATEWAY_PORT": "0",
        "GPEN_MODELS_DIR": str(folder),
        "PYTHONWARNINGS": "error",
        **{f"GATEWAY_{name}".upper(): value for name, value in settings.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(command or ("-m", "gateway", "serve")),
        env={**inherited, **environment},
        stderr=PIPE,
    )
    running = Running(process, "")

    async def read() -> None:
        while line := await process.stderr.readline():
            running.log.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        await until(lambda: process.returncode is not None or "Uvicorn running" in "".join(running.log))
        running.url = re.search(r"running on (http://[0-9.]+:[0-9]+)", "".join(running.log))[1]
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def test_sigterm_turns_readiness_off_and_finishes_open_requests(serve_app, held_backend, tmp_path):
    backend = held_backend()
    async with (
        serve_app(backend.app) as backend_url,
        gateway_process(tmp_path, backend_url, drain_s="1.5", grace_s="20") as gateway,
        gateway.client() as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        in_flight = asyncio.create_task(client.post("/v1/enhance", content=PHOTO))
        await until(lambda: backend.entered == 1)
        gateway.signal(signal.SIGTERM)
        while (ready := await client.get("/readyz")).status_code == 200:  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.01)
        assert (ready.status_code, ready.json()["type"]) == (503, "not-ready")
        assert "Retry-After" in ready.headers
        assert (await client.get("/healthz")).status_code == 200
        late = await client.post("/v1/preprocess", content=PHOTO)
        assert late.status_code == 200
        assert late.headers["Connection"] == "close", "the client must not reuse the connection"
        await gateway.until_logged("Shutting down")
        assert not in_flight.done()
        backend.go_on.set()
        assert (await in_flight).status_code == 200
        assert await gateway.wait_for_exit() in (0, -signal.SIGTERM)
        assert "Traceback" not in "".join(gateway.log)


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_sigint_or_a_second_sigterm_skips_the_drain_wait(serve_app, held_backend, tmp_path, signals):
    """The drain wait is ten minutes; open requests still finish."""
    backend = held_backend()
    async with (
        serve_app(backend.app) as backend_url,
        gateway_process(tmp_path, backend_url, drain_s="600", grace_s="20") as gateway,
        gateway.client() as client,
    ):
        in_flight = asyncio.create_task(client.post("/v1/enhance", content=PHOTO))
        await until(lambda: backend.entered == 1)
        for number in signals:
            gateway.signal(number)
            await asyncio.sleep(0.2)
        await gateway.until_logged("Shutting down")
        backend.go_on.set()
        assert (await in_flight).status_code == 200
        await gateway.wait_for_exit()
        assert "Traceback" not in "".join(gateway.log)


async def test_cancels_requests_that_outlast_the_grace_period(serve_app, held_backend, tmp_path):
    backend = held_backend()
    async with (
        serve_app(backend.app) as backend_url,
        gateway_process(tmp_path, backend_url, drain_s="0", grace_s="1") as gateway,
        gateway.client() as client,
    ):
        in_flight = asyncio.create_task(client.post("/v1/enhance", content=PHOTO))
        await until(lambda: backend.entered == 1)
        gateway.signal(signal.SIGTERM)
        answer = await in_flight
        assert (answer.status_code, answer.json()["type"]) == (503, "not-ready")
        assert "Retry-After" in answer.headers
        await gateway.wait_for_exit()
        await until(lambda: backend.left == 1)
        assert "Traceback" not in "".join(gateway.log)


async def test_stuck_thread_does_not_keep_the_process_alive(serve_app, held_backend, tmp_path):
    async with (
        serve_app(held_backend().app) as backend_url,
        gateway_process(tmp_path, backend_url, "-c", STUCK, drain_s="0", grace_s="1") as gateway,
        gateway.client() as client,
    ):
        in_flight = asyncio.create_task(client.post("/v1/enhance", content=PHOTO))
        await gateway.until_logged("stuck")
        gateway.signal(signal.SIGTERM)
        assert (await in_flight).status_code == 503
        assert await gateway.wait_for_exit() == 1
        assert "threads are still running" in "".join(gateway.log)


async def test_finishes_an_upload_in_progress(serve_app, held_backend, tmp_path):
    backend = held_backend()
    backend.go_on.set()
    async with (
        serve_app(backend.app) as backend_url,
        gateway_process(tmp_path, backend_url, drain_s="0", grace_s="20") as gateway,
    ):
        host, port = re.fullmatch(r"http://(.*):(\d+)", gateway.url).groups()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
        writer.write(head.encode() + PHOTO[:50])
        await writer.drain()
        await asyncio.sleep(0.2)
        gateway.signal(signal.SIGTERM)
        await gateway.until_logged("Shutting down")
        writer.write(PHOTO[50:])
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await gateway.wait_for_exit()


@dataclass
class Outcomes:
    """The outcomes of all requests."""

    answered: list[int] = field(default_factory=list)
    not_accepted: int = 0
    lost: list[str] = field(default_factory=list)


def call_forever(url: str, outcomes: Outcomes, stop: threading.Event) -> None:
    """Send requests over one kept-alive connection, like a load balancer."""
    with httpx.Client(base_url=url, timeout=30) as client:
        for _ in itertools.count():
            if stop.is_set():
                return
            try:
                outcomes.answered.append(client.post("/v1/preprocess", content=PHOTO).status_code)
            except httpx.ConnectError:
                outcomes.not_accepted += 1
                return
            except httpx.TransportError as error:
                outcomes.lost.append(repr(error))
                return


async def test_loses_no_request_during_shutdown(serve_app, held_backend, tmp_path):
    """Every accepted request gets its complete response."""
    outcomes, stop = Outcomes(), threading.Event()
    async with (
        serve_app(held_backend().app) as backend_url,
        gateway_process(tmp_path, backend_url, drain_s="1.5", grace_s="20") as gateway,
    ):
        callers = [
            asyncio.create_task(asyncio.to_thread(call_forever, gateway.url, outcomes, stop))
            for _ in range(4)
        ]
        await until(lambda: len(outcomes.answered) > 20)
        gateway.signal(signal.SIGTERM)
        await gateway.wait_for_exit()
        stop.set()
        await asyncio.gather(*callers)
    assert set(outcomes.answered) == {200}
    assert outcomes.lost == []
    assert outcomes.not_accepted == 4


async def test_taken_port_ends_the_process_with_a_message(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--port", str(taken.getsockname()[1])),
            env={**os.environ, "GATEWAY_BACKEND_URL": "http://127.0.0.1:9", "GATEWAY_FACE_FINDER": "haar"},
            stderr=PIPE,
        )
        _, log = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode not in (0, None)
    assert b"address already in use" in log


async def test_rejects_endless_headers(tmp_path, held_backend, serve_app):
    """Unlimited headers would fill the memory. This must hold with every installed HTTP parser."""
    async with (
        serve_app(held_backend().app) as backend_url,
        gateway_process(tmp_path, backend_url) as gateway,
    ):
        host, port = re.fullmatch(r"http://(.*):(\d+)", gateway.url).groups()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(20):
            try:
                for number in range(1000):
                    writer.write(f"X-{number}: {'x' * 1000}\r\n".encode())
                    await writer.drain()
                refused = (await reader.read()).startswith(b"HTTP/1.1 400 ")
            except ConnectionError:
                # The server closed the connection with unread data.
                refused = True
        assert refused
        writer.close()
