"""httpx's way over a network, with a picture read in a few large pieces.

httpcore asks for 64 KB at a time, and every piece passes a dozen layers of Python: for a portrait of 2.4 MB
that is more time than to send it. Measured in docs/performance.md.
"""

import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

# What asyncio takes from a socket at once.
_PIECE = 1 << 18


class LargeReads(httpx.AsyncHTTPTransport):
    """An httpx transport for HTTP/1.1 that reads large pieces. limits: of its pool of connections."""

    def __init__(self, limits: httpx.Limits) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, limits=limits)
        # httpx has no way to hand a network backend to its pool; should the attribute ever get another name,
        # the pool that httpx made is used, and reads small pieces.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Network(),
        )


class _Network(httpcore.AnyIOBackend):
    """Makes connections that read large pieces."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore's own."""
        return _Stream(await super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that may read more than it is asked for, which parsers of HTTP/1.1 do not mind."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """At least a byte, or none at the end."""
        return await self._stream.read(max(max_bytes, _PIECE), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """All of `buffer`."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's interface
        """What httpcore wants to know of the socket."""
        return self._stream.get_extra_info(info)
