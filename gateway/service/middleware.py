"""What wraps every request: its id, its line in the log, the limit on its body, headers for browsers."""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import TooLarge
from gateway.service.logs import current_request_id

logger = logging.getLogger(__name__)

# What may stand in logs and headers of others without quoting.
_SANE_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
# Source: OWASP REST Security Cheat Sheet, "Security headers".
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'"
# Probes come every few seconds and say nothing.
_PROBES = ("/healthz", "/readyz", "/metrics")
# No length of a body has more digits.
_MAX_DIGITS = 18


class RequestId:
    """Gives each request an id, the caller's own where that is sane, for its answer and its log lines."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
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
                MutableHeaders(scope=message)["X-Request-ID"] = own_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            _log_access(scope, status, (time.perf_counter() - started) * 1000)


class SecurityHeaders:
    """Tells browsers to take nothing of ours for anything else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                # Pages bring a policy of their own.
                headers.setdefault("Content-Security-Policy", _NOTHING_ALLOWED)
            await send(message)

        await self.app(scope, receive, send_secured)


class BodyLimit:
    """Stops reading a body at `max_bytes`, whether or not its length was told: raises TooLarge in the app.

    own: limits of paths that have another.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, own: Mapping[str, int] = MappingProxyType({})) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = self.own.get(scope["path"], self.max_bytes)
        told = Headers(scope=scope).get("content-length", "0")
        too_large = TooLarge(f"the body has more than the {most:,} bytes that are allowed")
        received = 0

        async def limited_receive() -> Message:
            nonlocal received
            # Python reads no number of thousands of digits.
            if told.isdecimal() and (len(told) > _MAX_DIGITS or int(told) > most):
                raise too_large
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise too_large
            return message

        await self.app(scope, limited_receive, send)


def request_id(scope: Scope) -> str:
    """The id of the request in `scope`; made on first use."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        asked = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = asked if _SANE_ID.fullmatch(asked) else uuid.uuid4().hex
    made: str = state["request_id"]
    return made


def _log_access(scope: Scope, status: int, milliseconds: float) -> None:
    """One line a request. The query is left out: it may name what only its sender should know."""
    level = logging.DEBUG if scope["path"] in _PROBES and status < 400 else logging.INFO
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
