"""SSRF guard: resolve host names and connect to public addresses only."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpcore

from gateway.errors import ImageUrlRefused

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]
"""Resolves a host and port to all current addresses; an unknown name has an empty list."""

REFUSED = "the host of `image_url` does not exist or has no public address"
"""The text for every rejected or unknown host, so that callers cannot probe the private network."""

# All IPv6 unicast that IANA has allocated: RFC 4291, section 2.4. Addresses that embed an IPv4
# address, to which a translator may forward, are outside it: mapped ones, NAT64 (RFC 6052 and 8215).
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
# Exceptions inside it: Teredo (RFC 4380) and 6to4 (RFC 3056), which embed IPv4 addresses too, and
# documentation (RFC 9637), which Python 3.11 does not know.
_EXCLUDED_6 = tuple(map(ipaddress.IPv6Network, ("2001::/32", "2002::/16", "3fff::/20")))
# Interface identifiers of ISATAP, followed by an IPv4 address: RFC 5214, section 6.1.
_ISATAP = (0x00005EFE, 0x02005EFE)
# 6to4 relays (RFC 7526) and IANA's protocol assignments (RFC 6890). Python counts some as global.
_EXCLUDED_4 = tuple(map(ipaddress.IPv4Network, ("192.88.99.0/24", "192.0.0.0/24")))
# Azure's WireServer: a public address that reaches the host of a virtual machine.
_WIRE_SERVER = ipaddress.IPv4Address("168.63.129.16")


def is_public(address: Address) -> bool:
    """Whether `address` is a public unicast address without an embedded IPv4 address."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address != _WIRE_SERVER and not any(address in network for network in _EXCLUDED_4)
    if address not in _UNICAST_6 or any(address in network for network in _EXCLUDED_6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


class SystemResolver:
    """Resolves host names with getaddrinfo, on separate threads that a slow name server may block."""

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Resolve `host`, a name or any notation of an address that getaddrinfo accepts."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
            )
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Cancel queued look-ups. Running ones end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects only to hosts all of whose addresses are allowed.

    Connects to the checked addresses without resolving the name again, which defeats DNS rebinding.
    """

    def __init__(self, resolve: Resolve, allowed: Callable[[Address], bool] = is_public) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to `host`. Raises ImageUrlRefused, httpcore.ConnectError and httpcore.ConnectTimeout."""
        addresses = await self._resolve(host, port)
        if not addresses or not all(map(self._allowed, addresses)):
            raise ImageUrlRefused(REFUSED)
        failure: Exception = httpcore.ConnectError()
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raise ImageUrlRefused: no URL leads to a Unix socket."""
        raise ImageUrlRefused(REFUSED)

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)
