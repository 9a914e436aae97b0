"""Entries in Redis, shared by every gateway that is given its address."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache.store import Store

logger = logging.getLogger(__name__)

_PREFIX = "gpen-gateway:"
# A cache that takes longer saves nothing, seconds.
_TIMEOUT_S = 1.0
_CONNECT_TIMEOUT_S = 0.5
# A Redis that failed is left alone this long, so that it does not cost every request its timeout, seconds.
_PAUSE_S = 5.0


class RedisStore(Store[bytes]):
    """Keeps entries for `ttl_s` seconds; how many is Redis's own business (`maxmemory`).

    A Redis that is away or hangs costs the entries, not the requests: it is logged and left alone for
    seconds, in which everything is a miss.
    """

    name = "redis"

    def __init__(self, url: str, ttl_s: int) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            # By default it tries ten times, and waits in between.
            retry=Retry(NoBackoff(), 0),
        )
        self._ttl_s = ttl_s
        self._away_until = 0.0

    async def first(self, keys: Sequence[str]) -> tuple[str, bytes] | None:
        """The first of `keys` that has an entry, and that."""
        # All in one question would also bring what is not wanted, which may be large.
        for key in keys:
            entry = await self._tried(functools.partial(self._redis.get, _PREFIX + key))
            if isinstance(entry, bytes):
                return key, entry
        return None

    async def put(self, key: str, entry: bytes) -> None:
        """Keeps `entry`."""
        await self._tried(lambda: self._redis.set(_PREFIX + key, entry, ex=self._ttl_s))

    async def drop(self, key: str) -> None:
        """Removes the entry of `key`."""
        await self._tried(lambda: self._redis.delete(_PREFIX + key))

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def _tried(self, command: Callable[[], Awaitable[Any]]) -> object:
        """What Redis answers to `command`, or None where it does not."""
        if time.monotonic() < self._away_until:
            return None
        try:
            # The client's own timeouts start anew with every byte.
            async with asyncio.timeout(_TIMEOUT_S):
                return await command()
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + _PAUSE_S
            why = str(error) or f"no answer in {_TIMEOUT_S:g} s"
            logger.warning("the cache in Redis is left alone for %g s: %s", _PAUSE_S, why)
            return None
