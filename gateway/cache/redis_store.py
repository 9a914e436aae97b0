"""The Redis tier, shared by every gateway with the same URL."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.cache.store import Store

logger = logging.getLogger(__name__)

_PREFIX = "gpen-gateway:"
# Timeout of one command, seconds. A slower reply would save no time.
_TIMEOUT_S = 1.0
_CONNECT_TIMEOUT_S = 0.5
# Quiet period after a failure, seconds, so that not every request waits for the timeout.
_QUIET_S = 5.0


class RedisStore(Store[bytes]):
    """Keeps entries for `ttl_s` seconds; Redis bounds their number itself (`maxmemory`).

    A Redis that is down or hangs is logged and left alone for a quiet period, in which every read is a miss.
    """

    name = "redis"

    def __init__(self, url: str, ttl_s: int) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            # The default retries ten times with pauses.
            retry=Retry(NoBackoff(), 0),
        )
        self._ttl_s = ttl_s
        self._quiet_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """Return the entry of `key`, or None."""
        entry = await self._run(lambda: self._redis.get(_PREFIX + key))
        return entry if isinstance(entry, bytes) else None

    async def put(self, key: str, entry: bytes) -> None:
        """Store `entry`."""
        await self._run(lambda: self._redis.set(_PREFIX + key, entry, ex=self._ttl_s))

    async def drop(self, key: str) -> None:
        """Remove the entry of `key`."""
        await self._run(lambda: self._redis.delete(_PREFIX + key))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _run(self, command: Callable[[], Awaitable[object]]) -> object:
        """Return the reply to `command`, or None where Redis does not reply."""
        if time.monotonic() < self._quiet_until:
            return None
        try:
            # The client's own timeouts restart with every byte.
            async with asyncio.timeout(_TIMEOUT_S):
                return await command()
        except (RedisError, OSError) as error:
            self._quiet_until = time.monotonic() + _QUIET_S
            reason = str(error) or f"no reply within {_TIMEOUT_S:g} s"
            logger.warning("the Redis cache is not used for %g s: %s", _QUIET_S, reason)
            return None
