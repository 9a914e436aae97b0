"""One backend's address, and bounded HTTP exchanges with it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx

from gpen_client.errors import BackendProtocolError
from gpen_client.http.failures import raise_backend_errors, refusal
from gpen_client.wire.messages import HEADER_LENGTH
from gpen_common.threads import LARGE, off_loop

# Bytes of an answer beyond its picture, and of an answer without a picture, that are read at most.
_MARGIN = 1 << 20
# A number of a picture takes at most "255," and its share of brackets and spaces if a server sends JSON.
_JSON_BYTES_PER_VALUE = 8


class Channel:
    """A pool of connections to one address; an async context manager that closes them.

    base_url, transport, connect_timeout_s, max_connections: as in GpenClient.
    """

    def __init__(
        self,
        base_url: str,
        *,
        transport: httpx.AsyncBaseTransport | None,
        connect_timeout_s: float,
        max_connections: int,
    ) -> None:
        self._backend = base_url
        self._connect_timeout_s = connect_timeout_s
        with raise_backend_errors(base_url):
            self._http = httpx.AsyncClient(
                base_url=base_url,
                transport=transport,
                limits=httpx.Limits(
                    max_connections=max_connections, max_keepalive_connections=max_connections
                ),
                # A compressed answer could exceed any limit once it is unpacked.
                headers={"Accept-Encoding": "identity"},
                # Reject all cookies: a load balancer's would send every request to one backend.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def deadline(self, timeout_s: float) -> AsyncIterator[None]:
        """Cancel the block after `timeout_s` seconds. Raises BackendError for that and for httpx's errors."""
        # httpx's own timeouts restart with every byte, and its ASGI transport ignores them.
        with raise_backend_errors(self._backend):
            async with asyncio.timeout(timeout_s):
                yield

    async def call(
        self,
        method: str,
        path: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        expected: int = 0,
    ) -> tuple[httpx.Headers, bytes]:
        """Send a request and return headers and body of its 2xx answer.

        expected: bytes of the answer's tensors; the body may be larger by 1 MiB.
        Raises BackendError for another status and for a body that is too large or compressed.
        """
        timeout = httpx.Timeout(timeout_s, connect=self._connect_timeout_s)
        request = self._http.build_request(method, path, headers=headers, content=body, timeout=timeout)
        async with aclosing(await self._http.send(request, stream=True)) as answer:
            packed = answer.headers.get("Content-Encoding", "identity") != "identity"
            if not answer.is_success:
                beginning = b"" if packed else (await _read(answer, _MARGIN))[0]
                raise refusal(self._backend, answer.status_code, answer.headers, beginning)
            if packed:
                raise BackendProtocolError(
                    f"backend {self._backend} compressed its answer despite Accept-Encoding: identity"
                )
            per_byte = 1 if HEADER_LENGTH in answer.headers else _JSON_BYTES_PER_VALUE
            content, complete = await _read(answer, per_byte * expected + _MARGIN)
            if not complete:
                raise BackendProtocolError(f"backend {self._backend} answered more than {len(content)} bytes")
            return answer.headers, content


async def _read(answer: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Read the body, up to `limit` bytes and the rest of a chunk. Also returns whether it is complete."""
    chunks, size = [], 0
    async for chunk in answer.aiter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            break
    return await off_loop(size > LARGE, b"".join, chunks), size <= limit
