"""A line in the log for each request to a server."""

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

# Probes come every few seconds and say nothing while all is well.
_PROBES = ("/v2/health/", "/metrics")
# What the log writes for a caller who left before anything was answered, as nginx does.
_CALLER_LEFT = 499


class AccessLog:
    """Logs each request once it is answered: nobody waits for its line. Probes that succeed are left out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), _CALLER_LEFT

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            path = scope["path"]
            if status >= 400 or not path.startswith(_PROBES):
                took = (time.perf_counter() - started) * 1000
                logger.info("%s %s %d %.1f ms", scope["method"], quote(path), status, took)
