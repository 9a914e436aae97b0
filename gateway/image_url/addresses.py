"""Which addresses of the internet a picture may be fetched from, and connections to no others."""

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
"""Every address of a host name, as it is now; an empty list where it has none."""

REFUSED = "the address cannot be used: it has no host that anyone on the internet could reach"
"""One text for every refused or unknown host, so that nobody learns what stands inside."""

# All that IANA has given out for unicast: RFC 4291, section 2.4. Outside it are, among others, addresses that
# carry an IPv4 address, which may be anybody's behind a translator: mapped ones, NAT64 (RFC 6052 and 8215).
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
# Inside it: more carriers, Teredo (RFC 4380) and 6to4 (RFC 3056); and documentation (RFC 9637), which Python
# 3.11 does not know.
_KEPT_6 = tuple(map(ipaddress.IPv6Network, ("2001::/32", "2002::/16", "3fff::/20")))
# The interface identifiers of ISATAP, RFC 5214, section 6.1: an IPv4 address follows.
_ISATAP = (0x00005EFE, 0x02005EFE)
# The relays of 6to4 (RFC 7526), and what IANA keeps for protocols (RFC 6890): Python takes some for global.
_KEPT_4 = tuple(map(ipaddress.IPv4Network, ("192.88.99.0/24", "192.0.0.0/24")))
# Answers virtual machines of Azure; it is as reachable as a public address, and none.
_WIRE_SERVER = ipaddress.IPv4Address("168.63.129.16")


def is_public(address: Address) -> bool:
    """Whether `address` is a unicast address of the internet, and carries no other within."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address != _WIRE_SERVER and not any(address in network for network in _KEPT_4)
    if address not in _UNICAST_6 or any(address in network for network in _KEPT_6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


class SystemResolver:
    """Host names as this machine knows them, looked up on threads of their own.

    A name server that hangs holds these threads and no others.
    """

    def __init__(self, threads: int = 8) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Every address of `host`; whatever spelling of an address `host` may be ends here too."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._threads, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
            )
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Starts no other look-up; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to hosts whose every address is allowed, and to the very addresses that were checked.

    A name that points elsewhere a moment later changes nothing: it is not looked up again.
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
        """A connection to `host`. Raises ImageUrlRefused, and httpcore.ConnectError where nobody answers."""
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
        """Never: no URL names one."""
        raise ImageUrlRefused(REFUSED)

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)
