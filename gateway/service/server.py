"""The gateway as a process: how it starts, and how it stops without losing a request."""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.service.logs import log_config
from gateway.settings import ServerSettings

logger = logging.getLogger(__name__)

_OPEN_TO_ALL = (
    "NO API KEYS: whoever reaches %s port %d may use this gateway. Make a key with "
    "`gpen-gateway keys make NAME --file keys.json` and set GATEWAY_KEYS_FILE to that file, or let only "
    "those reach it who may."
)


# A connection that was taken has sent its request by then, seconds.
_ARRIVING_S = 0.3
# What was cut off unwinds in less, but for threads, which cannot be stopped, seconds.
_UNWINDING_S = 3.0


class Draining:
    """Whether the process is shutting down. `app.state.draining` holds it for the whole life of an app."""

    def __init__(self) -> None:
        self.active = False

    def begin(self) -> None:
        """Mark the process as shutting down: readiness is off and open requests are finished."""
        self.active = True

    def __bool__(self) -> bool:
        return self.active


class DrainingServer(uvicorn.Server):
    """A server that tells before it goes.

    On SIGTERM readiness turns off first, while requests are still served for `drain_s` seconds, so that a
    load balancer can look elsewhere; then no connection is taken any more, and what is in flight has
    `grace_s` seconds to finish. SIGINT, or a second SIGTERM, leaves out the wait. What takes longer is cut
    off, and the process ends, even where a thread does not.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float, grace_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self._grace_s = grace_s
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain, or stops at once."""
        draining: Draining = self._app.state.draining
        already_draining = draining.active
        draining.begin()
        if sig != signal.SIGTERM or already_draining or self._loop is None or not self._drain_s:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._drain)
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_s, super().handle_exit, sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no connection any more, lets requests finish, and cuts off what takes too long."""
        last_resort = threading.Timer(_ARRIVING_S + self._grace_s + _UNWINDING_S, _end)
        last_resort.daemon = True
        last_resort.start()
        self._drain()
        await self._stop_listening()
        # uvicorn closes connections without a request at once, be they new or idle.
        await asyncio.sleep(_ARRIVING_S)
        await super().shutdown(sockets)

    async def _stop_listening(self) -> None:
        """Takes no new connection, but those that wait to be taken, which closing would reset."""
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
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _drain(self) -> None:
        # Else a connection that is kept alive would be closed under its next request.
        close = (b"connection", b"close")
        if close not in self.config.encoded_headers:
            self.config.encoded_headers.append(close)
            self.server_state.default_headers.append(close)


def serve(app: FastAPI, settings: ServerSettings, *, keys: bool) -> None:
    """Runs `app` until the process is told to stop. keys: whether it asks for them."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # httptools, which uvicorn takes where it is installed, bounds no headers.
        http="h11",
        log_config=log_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )
    if not keys and not _is_loopback(settings.host):
        logger.warning(_OPEN_TO_ALL, settings.host, settings.port)
    DrainingServer(config, app, settings.drain_s, settings.grace_s).run()


def _end() -> None:
    logger.error("threads are still at work after the grace; the process ends without them")
    os._exit(1)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
