"""One backend's address, and bounded exchanges of HTTP with it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Self
from urllib.request import getproxies

import httpx

from gpen_client.errors import BackendProtocolError
from gpen_client.http.failures import backend_errors, refusal
from gpen_client.http.transport import LargeReads
from gpen_client.wire.messages import HEADER_LENGTH
from gpen_common.pieces import LARGE, Piece

# Room for all of an answer but its picture, and for a whole answer that holds none, bytes.
_MARGIN = 1 << 20
# The paths of all models there are, twice over.
_MOST_PATHS = 64
# A number of a picture takes at most "255," and its share of brackets and spaces where a server sends JSON.
_JSON_BYTES_PER_VALUE = 8


class Channel:
    """One pool of connections to one address; an async context manager that closes them.

    base_url, transport, connect_timeout_s, max_connections: as of GpenClient.
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
        with backend_errors(base_url):
            limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
            # httpx sets up its own ways where the environment names proxies.
            if transport is None and not getproxies():
                transport = LargeReads(limits)
            self._http = _WithoutCookies(
                base_url=base_url,
                transport=transport,
                limits=limits,
                # A compressed answer could grow past any bound while it is unpacked.
                headers={"Accept-Encoding": "identity"},
            )
            self._blank = lru_cache(_MOST_PATHS)(self._http.build_request)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def deadline(self, timeout_s: float) -> AsyncIterator[None]:
        """Ends its block after that many seconds, and turns what httpx raises in it into a BackendError."""
        # httpx's own timeouts start anew with every byte, and an ASGI transport knows none.
        with backend_errors(self._backend):
            async with asyncio.timeout(timeout_s):
                yield

    async def call(
        self,
        method: str,
        path: str,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        body: Sequence[Piece] | None = None,
        expected: int = 0,
    ) -> tuple[httpx.Headers, list[bytes]]:
        """Give headers and body of a 2xx answer, as it came, whose tensors take `expected` bytes.

        Raises BackendError.
        """
        timeout = httpx.Timeout(timeout_s, connect=self._connect_timeout_s)
        # What httpx makes of the address and its own headers, each time anew, takes longer than to send them.
        blank = self._blank("GET", path)
        request = httpx.Request(
            method,
            blank.url,
            headers=[
                *blank.headers.raw,
                *((k.encode("ascii"), v.encode("ascii")) for k, v in (headers or {}).items()),
            ],
            content=None if body is None else _slices(body),
            extensions={"timeout": timeout.as_dict()},
        )
        async with aclosing(await self._http.send(request, stream=True)) as answer:
            packed = answer.headers.get("Content-Encoding", "identity") != "identity"
            if not answer.is_success:
                beginning, _ = ([], False) if packed else await _read(answer, _MARGIN)
                raise refusal(self._backend, answer.status_code, answer.headers, b"".join(beginning))
            if packed:
                raise BackendProtocolError(f"backend {self._backend} compressed its answer, unasked")
            per_byte = 1 if HEADER_LENGTH in answer.headers else _JSON_BYTES_PER_VALUE
            pieces, whole = await _read(answer, per_byte * expected + _MARGIN)
            if not whole:
                raise BackendProtocolError(
                    f"backend {self._backend} answered more than {sum(map(len, pieces))} bytes"
                )
            return answer.headers, pieces


class _WithoutCookies(httpx.AsyncClient):
    """An httpx client that keeps no cookies: a load balancer's would send every request to one backend.

    httpx looks for them in each answer, at a cost like that of sending the request.
    """

    @property
    def cookies(self) -> httpx.Cookies:
        """None, ever."""
        return _NoCookies()

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        raise AttributeError("no cookies are kept")


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Leaves them where they are."""


async def _slices(body: Sequence[Piece]) -> AsyncIterator[bytes]:
    """`body` in pieces that the event loop copies in no time."""
    for piece in body:
        for start in range(0, len(piece), LARGE):
            # h11 takes any bytes-like object, and so does the backend.
            yield piece[start : start + LARGE]  # type: ignore[misc]


async def _read(answer: httpx.Response, limit: int) -> tuple[list[bytes], bool]:
    """Read the body up to `limit` bytes or a little over, and tell whether that is all of it."""
    chunks, size = [], 0
    async for chunk in answer.aiter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            break
    return chunks, size <= limit
