"""Pictures from URLs that callers name: from public addresses, over https, within bounds, or not at all."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

from gateway import __version__
from gateway.errors import DeadlinePassed, ImageUrlRefused, ImageUrlUnreachable, TooLarge
from gateway.image_url.addresses import Address, CheckedNetwork, Resolve, SystemResolver, is_public
from gateway.settings import FetchSettings

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"https": 443, "http": 80}
# No length of a body has more digits.
_MAX_DIGITS = 18
# Of several addresses, one that is silent leaves time for the next.
_CONNECT_S = 3.0


class ImageFetcher:
    """Fetches pictures from URLs.

    resolve, allowed, tls: how names become addresses, which of those are allowed, and whose certificates are
    trusted, in place of this machine's.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        resolve: Resolve | None = None,
        allowed: Callable[[Address], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = SystemResolver()
        self._network = CheckedNetwork(resolve or self._resolver, allowed)
        self._tls = tls or httpx.create_ssl_context()

    async def fetch(self, url: str, max_bytes: int, deadline: float) -> bytes:
        """What is at `url`, whatever it is: decoding tells whether it is a picture.

        deadline: on time.monotonic's clock, seconds.
        Raises ImageUrlRefused, ImageUrlUnreachable, TooLarge and DeadlinePassed.
        """
        allowed = self._settings.image_url_timeout_s
        left = deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(allowed, left)):
                return await self._followed(url, max_bytes)
        except TimeoutError as error:
            if left < allowed:
                raise DeadlinePassed("the time for this request is over; `image_url` took it all") from error
            raise ImageUrlUnreachable(f"`image_url` did not answer within {allowed:g} seconds") from error

    def close(self) -> None:
        """Gives its threads back."""
        self._resolver.close()

    async def _followed(self, url: str, max_bytes: int) -> bytes:
        place = self._checked(url)
        for _ in range(_MAX_REDIRECTS + 1):
            found = await self._get(place, max_bytes)
            if isinstance(found, bytes):
                return found
            target = self._checked(_joined(place, found))
            if place.scheme == "https" and target.scheme != "https":
                raise ImageUrlRefused("`image_url` leads from https to http; name its last address yourself")
            place = target
        raise ImageUrlUnreachable(f"`image_url` leads on more than {_MAX_REDIRECTS} times")

    def _checked(self, url: str) -> httpx.URL:
        """`url`, with nothing about it that is forbidden. Its addresses are checked when it is connected."""
        settings = self._settings
        try:
            place = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ImageUrlRefused(f"`image_url` is not a URL: {error}") from error
        schemes = ("https", "http") if settings.image_url_http == "on" else ("https",)
        if place.scheme not in schemes:
            raise ImageUrlRefused(f"`image_url` must begin with {' or '.join(f'{s}://' for s in schemes)}")
        if place.userinfo:
            raise ImageUrlRefused("`image_url` must not carry a user or password")
        if not place.host:
            raise ImageUrlRefused("`image_url` has no host")
        port = place.port or _PORTS[place.scheme]
        if port not in settings.image_url_ports:
            raise ImageUrlRefused(f"port {port} may not be fetched from")
        if settings.image_url_hosts and not _listed(place.host, settings.image_url_hosts):
            raise ImageUrlRefused("this host is not among those that this gateway fetches from")
        return place

    async def _get(self, place: httpx.URL, max_bytes: int) -> bytes | str:
        """The body at `place`, or where a redirect leads."""
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls, network_backend=self._network, max_keepalive_connections=0
        )
        # What was checked is what is asked: nothing is parsed a second time.
        target = httpcore.URL(
            scheme=place.raw_scheme, host=place.raw_host, port=place.port, target=place.raw_path
        )
        headers: dict[bytes | str, bytes | str] = {
            "Host": place.netloc.decode("ascii"),
            "User-Agent": f"gpen-gateway/{__version__}",
            "Accept": "image/*",
            # A few compressed bytes may be many: the body is taken as it is sent.
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        timeouts = {"timeout": {"connect": _CONNECT_S}}
        with _remote_failures():
            async with pool, pool.stream("GET", target, headers=headers, extensions=timeouts) as answer:
                told = httpx.Headers(answer.headers)
                if answer.status in _REDIRECTS and "location" in told:
                    return told["location"]
                if answer.status != 200:
                    raise ImageUrlUnreachable(f"`image_url` answered {answer.status}")
                if told.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                    raise ImageUrlUnreachable("`image_url` answered compressed, which it was asked not to")
                return await _body(answer, told, max_bytes)


async def _body(answer: httpcore.Response, told: httpx.Headers, max_bytes: int) -> bytes:
    """The body, given up as soon as it is told to be, or is, too large."""
    too_large = TooLarge(f"what is at `image_url` has more than the {max_bytes:,} bytes that are allowed")
    length = told.get("content-length", "")
    # Python reads no number of thousands of digits.
    if length.isdecimal() and (len(length) > _MAX_DIGITS or int(length) > max_bytes):
        raise too_large
    body = bytearray()
    async for chunk in answer.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _joined(place: httpx.URL, location: str) -> str:
    try:
        return str(place.join(location))
    except httpx.InvalidURL as error:
        raise ImageUrlUnreachable("`image_url` leads to what is not a URL") from error


def _listed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether `host` is one of `hosts`; `*.example.org` there means every name below example.org."""
    name = host.rstrip(".").lower()
    return any(name.endswith(entry[1:]) if entry.startswith("*.") else name == entry for entry in hosts)


@contextmanager
def _remote_failures() -> Iterator[None]:
    """Turns what the network can do to us into one answer, which tells no addresses."""
    try:
        yield
    except httpcore.ConnectTimeout as error:
        raise ImageUrlUnreachable("`image_url` did not take a connection in time") from error
    except (httpcore.ConnectError, ssl.SSLError) as error:
        why = "its certificate is not valid" if "CERTIFICATE" in str(error) else "no connection to it"
        raise ImageUrlUnreachable(f"`image_url` cannot be reached: {why}") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
        raise ImageUrlUnreachable("`image_url` broke its answer off") from error
