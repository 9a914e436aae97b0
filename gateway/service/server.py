"""Run the gateway as a process, and shut it down without losing requests."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.service.logs import build_log_config
from gateway.settings import ServerSettings

logger = logging.getLogger(__name__)

_OPEN_ACCESS_WARNING = (
    "NO API KEYS: anyone who can reach %s port %d can use this gateway. Make a key with "
    "`gpen-gateway keys make NAME --file keys.json` and set GATEWAY_KEYS_FILE to that file, or restrict "
    "access to the port."
)

# Time for an accepted connection to send its request, seconds.
_ARRIVING_S = 0.3
# Time for cancelled requests to unwind, seconds. Threads cannot be cancelled.
_UNWINDING_S = 3.0


class Draining:
    """Whether the process is shutting down. `app.state.draining` holds it for the whole life of an app."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def active(self) -> bool:
        """Whether the shutdown has begun."""
        return self._since is not None

    @property
    def seconds(self) -> float:
        """Time since the shutdown began; 0 before it."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def begin(self) -> None:
        """Mark the process as shutting down."""
        if self._since is None:
            self._since = time.monotonic()


class DrainingServer(uvicorn.Server):
    """A server that drains before it stops.

    On SIGTERM readiness turns off, and for `drain_s` seconds requests are still accepted while load balancers
    notice. Then it stops listening, and open requests have `grace_s` seconds to finish before they are
    cancelled. SIGINT or a second SIGTERM skips the wait. The process ends even if a thread is stuck.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float, grace_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain, or stop at once."""
        draining: Draining = self._app.state.draining
        already_draining = draining.active
        draining.begin()
        if sig != signal.SIGTERM or already_draining or self._loop is None or not self._drain_s:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._announce_close)
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, super().handle_exit, sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, let requests finish and cancel those that take too long."""
        last_resort = threading.Timer(_ARRIVING_S + self._grace_s + _UNWINDING_S, _exit)
        last_resort.daemon = True
        last_resort.start()
        self._announce_close()
        await self._stop_listening()
        # uvicorn closes connections without a request immediately, even new ones.
        await asyncio.sleep(_ARRIVING_S)
        await super().shutdown(sockets)

    async def _stop_listening(self) -> None:
        """Close the listening sockets, but serve connections in their backlogs, which closing would reset."""
        waiting = []
        listening = [sock for server in self.servers for sock in server.sockets]
        copies = [socket.socket(fileno=os.dup(sock.fileno())) for sock in listening]
        for server in self.servers:
            server.close()
        for copy in copies:
            with copy, suppress(BlockingIOError):
                copy.setblocking(False)
                while True:
                    waiting.append(copy.accept()[0])
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _announce_close(self) -> None:
        # Otherwise the client of a kept-alive connection could send its next request into the close.
        close = (b"connection", b"close")
        if close not in self.config.encoded_headers:
            self.config.encoded_headers.append(close)
            self.server_state.default_headers.append(close)


def serve(app: FastAPI, settings: ServerSettings, *, keys: bool) -> None:
    """Run `app` until a signal stops the process. keys: whether it requires API keys."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # httptools, uvicorn's default if installed, has no limit of headers.
        http="h11",
        log_config=build_log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )
    if not keys and not _is_loopback(settings.host):
        logger.warning(_OPEN_ACCESS_WARNING, settings.host, settings.port)
    DrainingServer(config, app, settings.drain_s, settings.grace_s).run()


def _exit() -> None:
    logger.error("threads are still running after the grace period; exiting without them")
    os._exit(1)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
