"""ASGI middleware that reports every finished request."""

import time
from abc import ABC, abstractmethod

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Observer(ABC):
    """ASGI middleware that calls `report` for each finished request.

    unanswered: status reported if no response was started. broken: status reported if the app raised; None
    reports the one that was sent.
    """

    unanswered = 500
    broken: int | None = None

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    @abstractmethod
    def report(self, scope: Scope, status: int, seconds: float, received: int, sent: int) -> None:
        """Record one finished request. received, sent: bytes of the bodies."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, received, sent = time.perf_counter(), self.unanswered, 0, 0

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
            status = self.broken or status
            raise
        finally:
            self.report(scope, status, time.perf_counter() - started, received, sent)
