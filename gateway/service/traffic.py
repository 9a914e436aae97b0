"""Every request, measured from outside: how it was answered, how long it took, how much it carried."""

import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.service.metrics import Metrics

_OTHER = "other"
# What the log writes for a caller who left before anything was answered.
_CALLER_LEFT = 499


class Traffic:
    """Counts each request. routes: the paths that are told apart; all others are `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str]) -> None:
        self.app = app
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, received, sent = time.perf_counter(), _CALLER_LEFT, 0, 0

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
            status = 500
            raise
        finally:
            route = scope["path"] if scope["path"] in self._routes else _OTHER
            seconds = time.perf_counter() - started
            self._metrics.request(route, status, seconds, received, sent)
