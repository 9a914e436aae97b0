"""Authentication and per-client limits, checked before any of the body is read."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import GatewayError, MissingKey, RateExceeded, RevokedKey, TooManyAtOnce, WrongKey
from gateway.service.keys import KeyRing
from gateway.service.middleware import BodyLimit
from gateway.service.problem import problem_response
from gateway.service.rates import Quota, Rates, RateText
from gateway.settings import AccessSettings

_RETRY_AFTER_S = 1.0
# An IPv6 client controls a network of this prefix length: RFC 6177.
_ONE_CLIENT_6 = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request and its limits, each None where there is none.

    name: `key:ID`, or `address:` with an IPv4 address or an IPv6 network.
    """

    name: str
    rate: RateText | None = None
    concurrency: int | None = None
    max_body_bytes: int | None = None


class Access:
    """Middleware that requires an API key where keys are configured, and enforces each client's limits."""

    def __init__(self, app: ASGIApp, settings: AccessSettings, keyring: KeyRing | None) -> None:
        self.app = app
        self._settings = settings
        self._keyring = keyring
        self._open = frozenset(settings.open_paths)
        self._open_below = tuple(path for path in self._open if path.endswith("/") and path != "/")
        self._rates = Rates()
        self._in_flight: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan" or self._is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        with ExitStack() as stack:
            try:
                caller = await self._caller(scope)
                stack.enter_context(self._place(caller, scope))
                quota = await self._count(caller)
            except GatewayError as error:
                await problem_response(Request(scope), error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
            app = self.app if caller.max_body_bytes is None else BodyLimit(self.app, caller.max_body_bytes)
            await app(scope, receive, _add_quota(quota, send))

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)

    async def _caller(self, scope: Scope) -> Caller:
        """Identify the client. Raises MissingKey, WrongKey and RevokedKey."""
        settings = self._settings
        if self._keyring is None:
            return Caller(f"address:{_client(scope)}", settings.rate, settings.concurrency)
        key = _key(Headers(scope=scope))
        if key is None:
            raise MissingKey
        record = await self._keyring.find(key)
        if record is None:
            raise WrongKey
        # The log shows the id, which is no secret.
        scope.setdefault("state", {})["key_id"] = record.id
        if record.revoked is not None:
            raise RevokedKey
        return Caller(
            f"key:{record.id}",
            record.rate or settings.rate,
            record.concurrency or settings.concurrency,
            record.max_body_bytes,
        )

    @contextmanager
    def _place(self, caller: Caller, scope: Scope) -> Iterator[None]:
        """Hold one of the client's places until all work that the request began has ended.

        Raises TooManyAtOnce.
        """
        if caller.concurrency is not None and self._in_flight[caller.name] >= caller.concurrency:
            raise too_many_at_once(caller.concurrency)
        self._in_flight[caller.name] += 1
        try:
            yield
        finally:
            # The work of a client that disconnected counts until its threads have ended.
            for task in work_of(scope):
                if not task.done():
                    self._in_flight[caller.name] += 1
                    task.add_done_callback(lambda _: self._leave(caller.name))
            self._leave(caller.name)

    def _leave(self, name: str) -> None:
        self._in_flight[name] -= 1
        if not self._in_flight[name]:
            # Else the counter would grow with every address.
            del self._in_flight[name]

    async def _count(self, caller: Caller) -> Quota | None:
        """Count this request; return what is left of the client's rate, if it has one. Raises
        RateExceeded."""
        if caller.rate is None:
            return None
        quota = await self._rates.take(caller.name, caller.rate)
        if quota.exceeded:
            raise rate_exceeded(quota)
        return quota


def caller_of(scope: Scope) -> Caller | None:
    """Return the client of the request in `scope`; None where it was not identified."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    return caller


def rate_exceeded(quota: Quota) -> RateExceeded:
    """Return the error for a client whose rate is used up."""
    error = RateExceeded(
        f"the limit is {quota.limit} requests in {quota.window_s} seconds; try again in {quota.reset_s} s",
        quota.reset_s,
    )
    error.headers = quota.headers
    return error


def too_many_at_once(limit: int) -> TooManyAtOnce:
    """Return the error for a client that has `limit` requests in progress."""
    return TooManyAtOnce(
        f"you have reached the limit of {limit} concurrent requests; wait for one to finish", _RETRY_AFTER_S
    )


def work_of(scope: Scope) -> "list[asyncio.Task[Any]]":
    """Return the list of tasks that the request in `scope` has begun, done or not."""
    work: list[asyncio.Task[Any]] = scope.setdefault("state", {}).setdefault("work", [])
    return work


def _key(headers: Headers) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key")


def _client(scope: Scope) -> str:
    """Return the client's IPv4 address, or the IPv6 network that one client controls."""
    host: str = (scope.get("client") or ("unknown",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _ONE_CLIENT_6), strict=False))


def _add_quota(quota: Quota | None, send: Send) -> Send:
    """Return `send` with the quota in the response headers."""
    if quota is None:
        return send

    async def send_with_quota(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(quota.headers)
        await send(message)

    return send_with_quota
