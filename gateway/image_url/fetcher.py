"""Download images from URLs: public addresses only, over https, with limits on size and time."""

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
from gpen_common.content_length import exceeds

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"https": 443, "http": 80}
# Timeout of one connection attempt, short enough to try the host's next address, seconds.
_CONNECT_S = 3.0


class ImageFetcher:
    """Downloads images.

    resolve: host names to addresses; by default the system's resolver. allowed: which addresses may be
    connected to. tls: by default httpx's, with its trusted certificates.
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
        """Download `url`, whatever its content type.

        deadline: on time.monotonic's clock, seconds.
        Raises ImageUrlRefused, ImageUrlUnreachable, TooLarge and DeadlinePassed.
        """
        timeout_s = self._settings.image_url_timeout_s
        left = deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(timeout_s, left)):
                return await self._follow(url, max_bytes)
        except TimeoutError as error:
            if left < timeout_s:
                raise DeadlinePassed(
                    "the deadline passed during the download of `image_url`; raise `timeout_s`"
                ) from error
            raise ImageUrlUnreachable(
                f"the download of `image_url` took longer than {timeout_s:g} seconds"
            ) from error

    def close(self) -> None:
        """Stop the resolver's threads."""
        self._resolver.close()

    async def _follow(self, url: str, max_bytes: int) -> bytes:
        current = check_url(url, self._settings)
        for _ in range(_MAX_REDIRECTS + 1):
            result = await self._get(current, max_bytes)
            if isinstance(result, bytes):
                return result
            target = check_url(_join(current, result), self._settings)
            if current.scheme == "https" and target.scheme != "https":
                raise ImageUrlRefused("`image_url` redirects from https to http; send the final URL instead")
            current = target
        raise ImageUrlUnreachable(f"`image_url` redirects more than {_MAX_REDIRECTS} times")

    async def _get(self, url: httpx.URL, max_bytes: int) -> bytes | str:
        """Send one request. Returns the body, or the location of a redirect."""
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls, network_backend=self._network, max_keepalive_connections=0
        )
        # Built from the parts that were checked, so that nothing is parsed a second time.
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers: dict[bytes | str, bytes | str] = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": f"gpen-gateway/{__version__}",
            "Accept": "image/*",
            # No compression: a small compressed body can expand to any size.
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        timeouts = {"timeout": {"connect": _CONNECT_S}}
        with _map_errors():
            async with pool, pool.stream("GET", target, headers=headers, extensions=timeouts) as response:
                received = httpx.Headers(response.headers)
                if response.status in _REDIRECTS and "location" in received:
                    return received["location"]
                if response.status != 200:
                    raise unexpected_status(response.status)
                if received.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                    raise ImageUrlUnreachable("`image_url` sent a compressed response; that is not supported")
                return await _read_body(response, received, max_bytes)


def check_url(url: str, settings: FetchSettings) -> httpx.URL:
    """Parse `url` and check everything but its addresses, which are checked when connecting.

    Raises ImageUrlRefused.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ImageUrlRefused(f"`image_url` is not a valid URL: {error}") from error
    schemes = ("https", "http") if settings.image_url_http == "on" else ("https",)
    if parsed.scheme not in schemes:
        raise ImageUrlRefused(f"`image_url` must start with {' or '.join(f'{s}://' for s in schemes)}")
    if parsed.userinfo:
        raise ImageUrlRefused("`image_url` must not contain a user name or password")
    if not parsed.host:
        raise ImageUrlRefused("`image_url` has no host")
    port = parsed.port or _PORTS[parsed.scheme]
    if port not in settings.image_url_ports:
        raise ImageUrlRefused(f"port {port} is not allowed in `image_url`")
    if settings.image_url_hosts and not _is_listed(parsed.host, settings.image_url_hosts):
        raise ImageUrlRefused("the host of `image_url` is not on this gateway's list of allowed hosts")
    return parsed


def unexpected_status(status: int) -> ImageUrlUnreachable:
    """Return the error for a response with another status than 200."""
    return ImageUrlUnreachable(f"`image_url` returned status {status}")


async def _read_body(response: httpcore.Response, headers: httpx.Headers, max_bytes: int) -> bytes:
    """Read the body; stop as soon as its declared or actual length exceeds `max_bytes`."""
    too_large = TooLarge(f"the file at `image_url` is larger than the limit of {max_bytes:,} bytes")
    if exceeds(headers.get("content-length", ""), max_bytes):
        raise too_large
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _join(url: httpx.URL, location: str) -> str:
    try:
        return str(url.join(location))
    except httpx.InvalidURL as error:
        raise ImageUrlUnreachable("`image_url` redirects to an invalid URL") from error


def _is_listed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether `host` is in `hosts`, where `*.example.org` matches every name below example.org."""
    name = host.rstrip(".").lower()
    return any(name.endswith(entry[1:]) if entry.startswith("*.") else name == entry for entry in hosts)


@contextmanager
def _map_errors() -> Iterator[None]:
    """Map network errors to ImageUrlUnreachable, with texts that reveal no addresses."""
    try:
        yield
    except httpcore.ConnectTimeout as error:
        raise ImageUrlUnreachable("the connection to `image_url` timed out") from error
    except (httpcore.ConnectError, ssl.SSLError) as error:
        reason = "its certificate is not valid" if "CERTIFICATE" in str(error) else "the connection failed"
        raise ImageUrlUnreachable(f"`image_url` cannot be reached: {reason}") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
        raise ImageUrlUnreachable(
            "the connection to `image_url` closed before the response was complete"
        ) from error
