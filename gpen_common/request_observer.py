"""ASGI middleware that reports every finished request."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNROUTED = "other"


def read_route(scope: Scope) -> str:
    """Return the path template of the route that matched, `other` if none did."""
    return getattr(scope.get("route"), "path", _UNROUTED)


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One request whose response has ended. received, sent: bytes of the bodies."""

    scope: Scope
    status: int
    seconds: float
    received: int
    sent: int


Report: TypeAlias = Callable[[FinishedRequest], None]


class Observer:
    """Calls `report` for each finished request.

    unanswered: status reported where no response was started; 499 is nginx's for a client that disconnected.
    broken: status reported where the app raised; None reports the one that was sent.
    """

    def __init__(
        self, app: ASGIApp, report: Report, unanswered: int = 499, broken: int | None = None
    ) -> None:
        self.app = app
        self._report = report
        self._unanswered = unanswered
        self._broken = broken

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, received, sent = time.perf_counter(), self._unanswered, 0, 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, counting_receive, counting_send)
        except Exception:
            status = self._broken or status
            raise
        finally:
            seconds = time.perf_counter() - started
            self._report(FinishedRequest(scope, status, seconds, received, sent))
