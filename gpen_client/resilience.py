"""Backoff, retry budget and circuit breaker for calls to a backend. Nothing here waits or sends.

Why no library: purgatory 3.0 lets every call through while half-open, counts a cancelled call as a failure
and reads the wall clock; pybreaker's asynchronous side needs Tornado; stamina has no retry budget.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpen_client.errors import BreakerOpen

BreakerState = Literal["closed", "open", "half-open"]
"""Whether calls go through, are refused, or are let through one by one as probes."""

Clock = Callable[[], float]
"""Returns monotonic seconds."""

# Budgets count thousandths of a token, like gRPC's (gRFC A6): ten times 0.1 is not 1.0.
_TOKEN = 1000


@dataclass(frozen=True, slots=True)
class Resilience:
    """Retry and circuit-breaker settings.

    attempts: most attempts of one call; 1 never retries. retry_ratio: retries per call allowed in the long
    run. retry_reserve: retries allowed beyond that. breaker_failures: failures in a row that open the
    breaker. cool_down_s: seconds until an open breaker lets a call through. fair_timeout_s: a shorter timeout
    does not count as the backend's failure.
    """

    attempts: int = 3
    # Finagle's RetryBudget has 0.2 and 10 a second; gRFC A6's example 0.1 and 10.
    retry_ratio: float = 0.2
    retry_reserve: int = 10
    # Envoy's outlier detection ejects a host after five failures in a row.
    breaker_failures: int = 5
    cool_down_s: float = 5.0
    fair_timeout_s: float = 0.0


class Backoff:
    """Random waits between attempts below a bound that doubles, so that callers do not retry together.

    Source: "full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    FIRST_S = 0.1
    """Bound of the first wait, seconds."""
    LONGEST_S = 2.0
    """Largest bound, seconds. If the backend asks for more, the caller gets the error and holds no place."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform

    def wait_s(self, attempt: int, retry_after: float | None) -> float | None:
        """Return the seconds to wait after attempt number `attempt`, 1 being the first; None: do not retry.

        retry_after: seconds that the backend asks for; the wait is never shorter.
        """
        shortest = retry_after or 0.0
        if shortest > self.LONGEST_S:
            return None
        return shortest + self._uniform(0.0, min(self.FIRST_S * 2.0 ** (attempt - 1), self.LONGEST_S))


class RetryBudget:
    """A token bucket of size `reserve`: each call earns `ratio` of a token, each retry costs one.

    It starts full, so any N calls in a row make at most `ratio` x N + `reserve` retries: retries add a share
    to the load of a failing backend instead of multiplying it.
    Sources: Finagle's RetryBudget; gRPC's retry throttling (gRFC A6).
    """

    def __init__(self, ratio: float, reserve: int) -> None:
        self._earned = round(ratio * _TOKEN)
        self._most = self._tokens = reserve * _TOKEN

    def earn(self) -> None:
        """Count one call."""
        self._tokens = min(self._tokens + self._earned, self._most)

    def spend(self) -> bool:
        """Take the token of one retry. Returns False if there is none."""
        if self._tokens < _TOKEN:
            return False
        self._tokens -= _TOKEN
        return True


class Breaker:
    """Circuit breaker: refuses calls to a failing backend, except for a probe now and then.

    `closed` until `failures` calls in a row have failed. Then `open`: every call is refused for `cool_down_s`
    seconds. Then `half-open`: one call goes through as a probe. Its success closes the breaker, its failure
    opens it again. If a probe takes longer than `cool_down_s`, the next call goes through as another probe.

    Each call takes a permit from `admit` and reports its outcome with it, once. The outcomes of calls that
    began before the last change of state are ignored.
    Source: M. Nygard, "Release It!", chapter on stability patterns.
    """

    def __init__(self, failures: int, cool_down_s: float, clock: Clock = time.monotonic) -> None:
        self._threshold = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        # When the next probe may go; None while closed.
        self._probe_at: float | None = None
        self._permit = 0
        # The first permit of the present state; earlier ones are stale.
        self._first = 1

    @property
    def state(self) -> BreakerState:
        """The state that the next call finds."""
        if self._probe_at is None:
            return "closed"
        probing = self._permit >= self._first
        return "half-open" if probing or self._clock() >= self._probe_at else "open"

    def admit(self) -> int:
        """Return a permit for one call. Raises BreakerOpen with the seconds until the next probe."""
        if self._probe_at is not None:
            now = self._clock()
            if now < self._probe_at:
                message = f"the circuit breaker is open: the backend failed {self._threshold} calls in a row"
                raise BreakerOpen(message, retry_after=self._probe_at - now)
            self._probe_at = now + self._cool_down_s
        self._permit += 1
        return self._permit

    def record_success(self, permit: int) -> None:
        """Record an answer; a 4xx counts as success."""
        if permit < self._first:
            return
        self._failures = 0
        if self._probe_at is not None:
            self._enter(None)

    def record_failure(self, permit: int) -> None:
        """Record that the backend was unavailable, timed out or sent an invalid answer."""
        if permit < self._first:
            return
        self._failures += 1
        if self._probe_at is not None or self._failures >= self._threshold:
            self._enter(self._clock() + self._cool_down_s)

    def release(self, permit: int) -> None:
        """Record that the caller left before an outcome was known. If this was the probe, allow another."""
        if self._probe_at is not None and permit >= self._first and permit == self._permit:
            self._probe_at = self._clock()

    def _enter(self, probe_at: float | None) -> None:
        self._probe_at = probe_at
        self._failures = 0
        self._first = self._permit + 1
