"""Entries in Redis, shared by every gateway that is given its address."""

import logging

from redis.asyncio import Redis
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

_PREFIX = "gpen-gateway:"


class RedisStore:
    """Keeps entries for `ttl_s` seconds; how many is Redis's own business (`maxmemory`).

    A Redis that is away costs the entries, not the requests: it is logged, and everything is a miss.
    """

    name = "redis"

    def __init__(self, url: str, ttl_s: int) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=0.5)
        self._ttl_s = ttl_s

    async def get(self, key: str) -> bytes | None:
        """The entry of `key`, or None."""
        try:
            entry = await self._redis.get(_PREFIX + key)
        except (RedisError, OSError) as error:
            logger.warning("the cache in Redis cannot be read: %s", error)
            return None
        return entry if isinstance(entry, bytes) else None

    async def put(self, key: str, entry: bytes) -> None:
        """Keeps `entry`."""
        try:
            await self._redis.set(_PREFIX + key, entry, ex=self._ttl_s)
        except (RedisError, OSError) as error:
            logger.warning("the cache in Redis cannot be written: %s", error)

    async def drop(self, key: str) -> None:
        """Removes the entry of `key`."""
        try:
            await self._redis.delete(_PREFIX + key)
        except (RedisError, OSError) as error:
            logger.warning("the cache in Redis cannot be written: %s", error)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
