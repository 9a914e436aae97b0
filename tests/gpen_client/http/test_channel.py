"""Deadlines, connections and limits of exchanges with a backend."""

import asyncio
import gzip
from typing import Any

import httpx
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import (
    BackendBusy,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
)
from tests.support.negative_backend import (
    behave,
    restore,
    restore_from,
)
from tests.support.sockets import Call, drip, http, run_server

pytestmark = pytest.mark.anyio


async def hang(call: Call, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip_head(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await drip(writer)


async def drip_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await drip(writer)


async def drip_refusal(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n")
    await drip(writer)


@pytest.mark.parametrize("answer", [hang, drip_head, drip_body, drip_refusal])
async def test_times_out_at_the_deadline(answer):
    """Even if bytes keep coming, which restart httpx's own timeouts."""
    with pytest.raises(BackendTimeout):
        await restore_from(answer, timeout_s=0.2)


async def test_the_wait_for_a_connection_counts_against_the_deadline():
    async with run_server(hang) as url, GpenClient(url, max_connections=1) as client:
        answers = (restore(client, timeout_s=0.2) for _ in range(3))
        errors = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(error) for error in errors] == [BackendTimeout] * 3


async def test_a_timeout_frees_its_connection():
    async def hang_once(call: Call, writer: asyncio.StreamWriter) -> None:
        await (behave if call.headers.get("x-request-id") == "2" else hang)(call, writer)

    async with run_server(hang_once) as url, GpenClient(url, max_connections=1) as client:
        with pytest.raises(BackendTimeout):
            await restore(client, timeout_s=0.2, request_id="1")
        assert (await restore(client, request_id="2")).faces == 2


async def test_cancels_an_embedded_app_at_the_deadline():
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with GpenClient("http://embedded", transport=httpx.ASGITransport(app)) as client:
        with pytest.raises(BackendTimeout):
            await restore(client, timeout_s=0.2)
    assert ended.is_set()


async def test_cancelling_a_call_closes_its_connection():
    """The backend can then stop the work."""
    started, left = asyncio.Event(), asyncio.Event()

    async def notice(call: Call, writer: asyncio.StreamWriter) -> None:
        started.set()
        await drip(writer)

    async def watched(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            await notice(call, writer)
        except ConnectionError:
            left.set()
            raise

    async with run_server(watched) as url, GpenClient(url) as client:
        task = asyncio.create_task(restore(client))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


async def test_does_not_reuse_a_connection_that_the_backend_closed():
    async def close_after(call: Call, writer: asyncio.StreamWriter) -> None:
        await behave(call, writer)
        await writer.drain()
        writer.close()

    async with run_server(close_after) as url, GpenClient(url) as client:
        for _ in range(3):
            await restore(client)
            await asyncio.sleep(0.01)


async def test_stops_reading_an_answer_over_the_limit():
    """A hostile server cannot fill the memory."""
    written = 0

    async def flood(call: Call, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()
            written += 0x10000

    with pytest.raises(BackendProtocolError, match="more than"):
        await restore_from(flood)
    assert written < 50_000_000


async def test_stops_reading_an_error_over_the_limit():
    async def flood(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    with pytest.raises(BackendRejected):
        await restore_from(flood)


@pytest.mark.parametrize(("status", "kind"), [(200, BackendProtocolError), (429, BackendBusy)])
async def test_does_not_unpack_a_compressed_answer(status, kind):
    """It could unpack to any size. Its status still counts."""

    async def compressed(call: Call, writer: asyncio.StreamWriter) -> None:
        assert call.headers["accept-encoding"] == "identity"
        writer.write(http(status, {"Content-Encoding": "gzip"}, gzip.compress(b'{"error": "x"}')))

    with pytest.raises(kind):
        await restore_from(compressed)
