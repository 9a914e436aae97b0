"""ASGI middleware around every request: its id, its log line, the body limit, security headers."""

import logging
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import TooLarge
from gateway.service.logs import current_request_id
from gpen_common.content_length import exceeds
from gpen_common.probes import PROBES
from gpen_common.request_id import REQUEST_ID, read_request_id

logger = logging.getLogger(__name__)

# Source: OWASP REST Security Cheat Sheet, "Security headers".
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'"


class RequestId:
    """Adds X-Request-ID to each response and log line: the client's own id where it is valid, else a new
    one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own_id = request_id(scope)
        current_request_id.set(own_id)
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = own_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _log_access(scope, status, (time.perf_counter() - started) * 1000)


class SecurityHeaders:
    """Adds security headers (nosniff, DENY, CSP) to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                # Pages set a policy of their own.
                headers.setdefault("Content-Security-Policy", _NOTHING_ALLOWED)
            await send(message)

        await self.app(scope, receive, send_secured)


class BodyLimit:
    """Raises TooLarge in the app when a body exceeds `max_bytes`, with a declared length or without.

    by_path: paths that have a limit of their own.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, by_path: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.by_path.get(scope["path"], self.max_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        too_large = body_too_large(limit)
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            if exceeds(declared, limit):
                raise too_large
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large
            return message

        await self.app(scope, receive_limited, send)


def body_too_large(limit: int) -> TooLarge:
    """Return the error for a body of more than `limit` bytes."""
    return TooLarge(f"the body is larger than the limit of {limit:,} bytes; send a smaller one")


def request_id(scope: Scope) -> str:
    """Return the id of the request in `scope`, made on first use."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        state["request_id"] = read_request_id(scope) or uuid.uuid4().hex
    own_id: str = state["request_id"]
    return own_id


def _log_access(scope: Scope, status: int, milliseconds: float) -> None:
    """Log one line. The query is left out: it may contain private data."""
    level = logging.DEBUG if scope["path"] in PROBES and status < 400 else logging.INFO
    fields = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(milliseconds, 1),
    }
    if key_id := scope["state"].get("key_id"):
        fields["key_id"] = key_id
    text = "%(method)s %(path)s %(status)d %(ms).1f ms"
    logger.log(level, text, fields, extra={"fields": fields})
