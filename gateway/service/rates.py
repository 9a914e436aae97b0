"""Rate limits per caller, counted in this process."""

import math
import time
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import limits
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from pydantic import AfterValidator


def _validate_rate(text: str) -> str:
    try:
        (rate,) = limits.parse_many(text)
    except ValueError as error:
        raise ValueError("write it like `60/minute`, in requests per second, minute, hour or day") from error
    if rate.amount < 1:
        raise ValueError("a rate must allow at least one request")
    return text


RateText: TypeAlias = Annotated[str, AfterValidator(_validate_rate)]
"""A rate as text: `60/minute`, `10/5 seconds`."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The state of a caller's rate limit after a request.

    limit: requests per window_s seconds. remaining: requests left. reset_s: seconds until the next one.
    """

    limit: int
    window_s: int
    remaining: int
    reset_s: int
    exceeded: bool

    @property
    def headers(self) -> dict[str, str]:
        """The response headers. Source: draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_s}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset_s}',
        }


class Rates:
    """Counts the requests of every caller in a sliding window, with two counters per caller."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def take(self, caller: str, rate: RateText) -> Quota:
        """Count one request of `caller` unless it exceeds `rate`; returns the quota after it."""
        item = limits.parse(rate)
        allowed = await self._limiter.hit(item, caller)
        left = await self._limiter.get_window_stats(item, caller)
        wait = max(1, math.ceil(left.reset_time - time.time()))
        return Quota(item.amount, item.get_expiry(), left.remaining if allowed else 0, wait, not allowed)
