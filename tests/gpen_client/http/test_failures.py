"""HTTP failures become errors of gpen_client."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import (
    BackendBusy,
    BackendCrashed,
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ModelNotFound,
)
from gpen_client.resilience import Resilience
from tests.support.negative_backend import (
    behave,
    mocked,
    negative,
    restore,
    restore_from,
)
from tests.support.sockets import Call, http, run_server

pytestmark = pytest.mark.anyio


async def reset(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def reset_in_the_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()


async def close_without_a_word(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def close_in_the_head(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    writer.close()


async def close_in_the_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    writer.write_eof()
    writer.close()


async def close_in_a_chunk(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{")
    writer.write_eof()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [reset, reset_in_the_body, close_without_a_word, close_in_the_head, close_in_the_body, close_in_a_chunk],
)
async def test_a_broken_connection_means_unavailable(answer):
    with pytest.raises(BackendUnavailable):
        await restore_from(answer)


async def test_a_refused_connection_means_unavailable():
    async with run_server(behave) as url:
        pass
    async with GpenClient(url) as client:
        with pytest.raises(BackendUnavailable, match=url):
            await restore(client)


async def garbage(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 not HTTP at all\r\n\r\n")


async def not_a_message(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, {"Content-Type": "text/html"}, b"<html>Welcome to nginx</html>"))


async def no_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def lying_header(call: Call, writer: asyncio.StreamWriter) -> None:
    headers, body = negative(call.headers, call.body)
    writer.write(http(200, headers | {"Inference-Header-Content-Length": "9999999"}, body))


async def half_a_picture(call: Call, writer: asyncio.StreamWriter) -> None:
    headers, body = negative(call.headers, call.body)
    writer.write(http(200, headers, body[:-10]))


async def redirect(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(http(307, {"Location": "http://169.254.169.254/latest/meta-data"}, b""))


@pytest.mark.parametrize("answer", [garbage, not_a_message, no_body, lying_header, half_a_picture, redirect])
async def test_an_invalid_answer_is_a_protocol_error(answer):
    with pytest.raises(BackendProtocolError):
        await restore_from(answer)


STATUSES = [
    (400, BackendRejected),
    (401, BackendRejected),
    (404, ModelNotFound),
    (413, BackendRejected),
    (422, BackendRejected),
    (429, BackendBusy),
    (500, BackendProtocolError),
    (502, BackendUnavailable),
    (503, BackendUnavailable),
    (504, BackendProtocolError),
    (302, BackendProtocolError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_maps_a_status_to_an_error_that_quotes_the_backend(status, kind):
    async def refuse(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, {}, json.dumps({"error": "the\nreason \u00e9"}).encode()))

    with pytest.raises(BackendError, match=f"answered {status}: the reason é") as caught:
        await restore_from(refuse)
    assert type(caught.value) is kind
    assert getattr(caught.value, "status", status) == status


async def test_retries_a_bare_500_and_then_reports_it():
    """Ray Serve's proxy answers it for a replica that died: another one may answer."""
    asked = []

    def crash(request):
        asked.append(request)
        return httpx.Response(500, text="Internal Server Error")

    transport = httpx.MockTransport(crash)
    async with GpenClient("http://backend", transport=transport, resilience=Resilience(attempts=2)) as client:
        with pytest.raises(BackendCrashed, match=r"answered 500$"):
            await restore(client)
    assert len(asked) == 2


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 7}', b'{"detail": "x"}', b"\xff" * 100])
async def test_reports_an_error_without_the_protocols_body(body):
    async with mocked(lambda request: httpx.Response(400, content=body)) as client:
        with pytest.raises(BackendRejected, match=r"answered 400$"):
            await restore(client)


async def test_shortens_a_long_reason():
    async with mocked(lambda request: httpx.Response(400, json={"error": "x" * 100_000})) as client:
        with pytest.raises(BackendRejected, match=r"xxx…$") as caught:
            await restore(client)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 500, 86_400.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 32 Dec 9999 99:99:99 GMT", None),
    ],
)
async def test_reads_retry_after_if_it_is_valid(status, value, seconds):
    headers = {} if value is None else {"Retry-After": value}
    async with mocked(lambda request: httpx.Response(status, headers=headers)) as client:
        with pytest.raises(BackendUnavailable) as caught:
            await restore(client)
    assert caught.value.retry_after == seconds


async def test_reads_a_date_in_retry_after():
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    async with mocked(lambda request: httpx.Response(429, headers={"Retry-After": date})) as client:
        with pytest.raises(BackendBusy) as caught:
            await restore(client)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 3600


HTTPX_ERRORS = [
    kind
    for kind in map(httpx.__dict__.get, httpx.__all__)
    if isinstance(kind, type) and issubclass(kind, Exception)
]


def raised(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("GET", "http://backend")
        return kind("no", request=request, response=httpx.Response(500))
    try:
        return kind("no")
    except TypeError:
        return kind()


def test_finds_the_errors_of_httpx():
    """So that the next test cannot pass with no cases."""
    assert {httpx.ConnectError, httpx.ReadTimeout, httpx.InvalidURL, httpx.StreamClosed} < set(HTTPX_ERRORS)


@pytest.mark.parametrize("kind", HTTPX_ERRORS)
@pytest.mark.parametrize("in_the_body", [False, True])
async def test_maps_every_error_of_httpx(kind, in_the_body):
    class Failing(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise raised(kind)

    def fail(request: httpx.Request) -> httpx.Response:
        if in_the_body:
            return httpx.Response(200, stream=Failing())
        raise raised(kind)

    async with mocked(fail) as client:
        with pytest.raises(BackendError) as caught:
            await restore(client)
    assert isinstance(caught.value.__cause__, kind)
    assert kind.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (httpx.ConnectTimeout, BackendUnavailable),
        (httpx.ConnectError, BackendUnavailable),
        (httpx.WriteError, BackendUnavailable),
        (httpx.ReadTimeout, BackendTimeout),
        (httpx.PoolTimeout, BackendTimeout),
        (httpx.RemoteProtocolError, BackendProtocolError),
        (httpx.DecodingError, BackendProtocolError),
        (TimeoutError, BackendTimeout),
    ],
)
async def test_maps_an_error_of_httpx_to_its_kind(kind, ours):
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised(kind)

    async with mocked(fail) as client:
        with pytest.raises(BackendError) as caught:
            await restore(client)
    assert type(caught.value) is ours


@pytest.mark.parametrize("request_id", ["two\r\nlines", "é", "\ud800"])
async def test_an_id_that_no_header_can_hold_is_a_protocol_error(request_id):
    async with run_server(behave) as url, GpenClient(url) as client:
        with pytest.raises(BackendProtocolError):
            await restore(client, request_id=request_id)


@pytest.mark.parametrize("url", ["http://[", "http://backend:port", "gopher://backend", "backend"])
async def test_an_invalid_address_means_unavailable(url):
    async def call() -> None:
        async with GpenClient(url) as client:
            await restore(client)

    with pytest.raises(BackendUnavailable):
        await call()
