"""Large answers over real sockets, plain, encrypted and by a proxy."""

import asyncio
import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from gpen_client.client import GpenClient
from gpen_client.http.transport import LargeReads

pytestmark = pytest.mark.anyio

BODY = os.urandom(3_000_000)
LIMITS = httpx.Limits(max_connections=2, max_keepalive_connections=2)


@asynccontextmanager
async def site(
    tls: ssl.SSLContext | None = None, body: bytes = BODY
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers everything with `body`, its port and the heads of requests so far."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def pieces(client: httpx.AsyncClient, url: str) -> list[bytes]:
    async with client.stream("GET", url) as answer:
        return [piece async for piece in answer.aiter_raw()]


async def test_a_large_answer_comes_whole_and_in_large_pieces():
    async with site() as (port, _), httpx.AsyncClient(transport=LargeReads(LIMITS)) as client:
        came = await pieces(client, f"http://127.0.0.1:{port}/")
    assert b"".join(came) == BODY
    # httpcore's own pieces have 65,536 bytes at most.
    assert max(map(len, came)) > 100_000


async def test_connections_are_used_again():
    async with site() as (port, heads), httpx.AsyncClient(transport=LargeReads(LIMITS)) as client:
        for _ in range(3):
            async with client.stream("GET", f"http://127.0.0.1:{port}/") as answer:
                info = answer.extensions["network_stream"].get_extra_info("client_addr")
                assert len(await answer.aread()) == len(BODY)
            heads.append(repr(info).encode())
    assert len(set(heads[1::2])) == 1


async def test_encrypted_answers_come_whole_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl makes no certificate here: {error}")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with site(tls) as (port, _), httpx.AsyncClient(transport=LargeReads(LIMITS)) as client:
        assert b"".join(await pieces(client, f"https://localhost:{port}/")) == BODY


async def test_errors_are_httpxs_own():
    async with httpx.AsyncClient(transport=LargeReads(LIMITS)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9/")


async def test_the_client_uses_it_unless_the_environment_names_a_proxy(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with site(body=b"{}") as (port, heads):
        async with GpenClient(f"http://127.0.0.1:{port}") as client:
            assert await client.live()
        assert heads.pop().startswith(b"GET /v2/health/live ")
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        async with GpenClient("http://backend.invalid") as client:
            assert await client.live()
        assert heads.pop().startswith(b"GET http://backend.invalid/v2/health/live ")
