"""Who calls, whether they may, and how much: decided before anything of a request's body is read."""

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import GatewayError, MissingKey, RateExceeded, RevokedKey, TooManyAtOnce, WrongKey
from gateway.service.admission import jobs_of
from gateway.service.keys import KeyRing
from gateway.service.middleware import BodyLimit
from gateway.service.problem import problem_response
from gateway.service.rates import Quota, Rates, RateText
from gateway.settings import AccessSettings

_RETRY_AFTER_S = 1.0
# Whoever has one address of IPv6 has a network of this size: RFC 6177.
_ONE_CLIENT_6 = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request, and its limits, each None where there is none.

    name: `key:ID`, or `address:` with an address or, for IPv6, its network.
    """

    name: str
    rate: RateText | None = None
    concurrency: int | None = None
    max_body_bytes: int | None = None


class Access:
    """Lets in who has a key, where keys are asked for, as often as the key (or the address) may."""

    def __init__(self, app: ASGIApp, settings: AccessSettings, keyring: KeyRing | None) -> None:
        self.app = app
        self._settings = settings
        self._keyring = keyring
        self._open = frozenset(settings.open_paths)
        self._open_below = tuple(path for path in self._open if path.endswith("/") and path != "/")
        self._rates = Rates()
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] == "lifespan" or self._is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        with ExitStack() as stack:
            try:
                caller = await self._caller(scope)
                stack.enter_context(self._place(caller, scope))
                quota = await self._counted(caller)
            except GatewayError as error:
                await problem_response(Request(scope), error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
            app = self.app if caller.max_body_bytes is None else BodyLimit(self.app, caller.max_body_bytes)
            await app(scope, receive, _telling(quota, send))

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)

    async def _caller(self, scope: Scope) -> Caller:
        """Who calls. Raises MissingKey, WrongKey and RevokedKey."""
        settings = self._settings
        if self._keyring is None:
            return Caller(f"address:{_client(scope)}", settings.rate, settings.concurrency)
        key = _key(Headers(scope=scope))
        if key is None:
            raise MissingKey("send your API key as `Authorization: Bearer KEY`, or as `X-API-Key`")
        record = await self._keyring.find(key)
        if record is None:
            raise WrongKey("this API key is not known here; ask whoever runs the gateway for one")
        # An id is no secret: the log tells it.
        scope.setdefault("state", {})["key_id"] = record.id
        if record.revoked is not None:
            raise RevokedKey("this API key was revoked; ask whoever runs the gateway for another")
        return Caller(
            f"key:{record.id}",
            record.rate or settings.rate,
            record.concurrency or settings.concurrency,
            record.max_body_bytes,
        )

    @contextmanager
    def _place(self, caller: Caller, scope: Scope) -> Iterator[None]:
        """One of the caller's places, until all work that the request began has ended.

        Raises TooManyAtOnce.
        """
        if caller.concurrency is not None and self._under_way[caller.name] >= caller.concurrency:
            raise TooManyAtOnce(
                f"{caller.concurrency} of your requests are under way, which is as many as may be; "
                "wait for one of them",
                _RETRY_AFTER_S,
            )
        self._under_way[caller.name] += 1
        try:
            yield
        finally:
            # A caller who leaves does not free what still works for it.
            for job in jobs_of(scope):
                if not job.done():
                    self._under_way[caller.name] += 1
                    job.add_done_callback(lambda _: self._leave(caller.name))
            self._leave(caller.name)

    def _leave(self, name: str) -> None:
        self._under_way[name] -= 1
        if not self._under_way[name]:
            # Addresses come and go.
            del self._under_way[name]

    async def _counted(self, caller: Caller) -> Quota | None:
        """What is left of the caller's rate after this request, if it has one. Raises RateExceeded."""
        if caller.rate is None:
            return None
        quota = await self._rates.take(caller.name, caller.rate)
        if quota.exceeded:
            error = RateExceeded(
                f"you may send {quota.limit} requests in {quota.window_s} seconds; "
                f"try again in {quota.reset_s} s",
                quota.reset_s,
            )
            error.headers = quota.headers
            raise error
        return quota


def caller_of(scope: Scope) -> Caller | None:
    """Who sent the request in `scope`; None where nobody asked."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    return caller


def _key(headers: Headers) -> str | None:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return headers.get("x-api-key")


def _client(scope: Scope) -> str:
    """Who is at the other end: an address, or a network that one client has to itself."""
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


def _telling(quota: Quota | None, send: Send) -> Send:
    """`send`, with the quota in the headers of the answer."""
    if quota is None:
        return send

    async def send_with_quota(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(quota.headers)
        await send(message)

    return send_with_quota
