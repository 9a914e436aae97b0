"""How often a caller may come, counted in this process."""

import math
import time
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import AfterValidator


def _checked(text: str) -> str:
    try:
        (rate,) = limits.parse_many(text)
    except ValueError as error:
        raise ValueError("write it as `60/minute`: requests per second, minute, hour or day") from error
    if rate.amount < 1:
        raise ValueError("it must allow at least one request")
    return text


RateText: TypeAlias = Annotated[str, AfterValidator(_checked)]
"""A rate as people write it: `60/minute`, `10/5 seconds`."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What a caller may still do.

    limit: requests in window_s seconds. remaining: of those. reset_s: seconds until there is one more.
    """

    limit: int
    window_s: int
    remaining: int
    reset_s: int
    exceeded: bool

    @property
    def headers(self) -> dict[str, str]:
        """The quota as an answer tells it. Source: draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_s}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_s}',
        }


class Rates:
    """Counts the requests of every caller over a sliding window.

    Two counters a caller, whatever its rate: many callers, or high rates, cost no memory to speak of.
    """

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: str, rate: RateText) -> Quota:
        """Counts one request of `caller`, unless that exceeds `rate`; what is left after it."""
        item = limits.parse(rate)
        allowed = await self._limiter.hit(item, caller)
        left = await self._limiter.get_window_stats(item, caller)
        wait = max(1, math.ceil(left.reset_time - time.time()))
        return Quota(item.amount, item.get_expiry(), left.remaining if allowed else 0, wait, not allowed)
