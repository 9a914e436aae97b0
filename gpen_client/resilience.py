"""What keeps one bad backend from becoming everybody's outage: backoff, a retry budget, a breaker.

Arithmetic only: nothing here waits or sends. No library is used: purgatory 3.0 lets every call through while
half-open, takes a cancelled call for a failed one and reads the wall clock; pybreaker's asynchronous side is
Tornado's; stamina knows no budget, and with the waits decided here only its `for` would be left.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpen_client.errors import BreakerOpen

BreakerState = Literal["closed", "open", "half-open"]
"""Whether calls go through, are refused, or are let through one by one to see."""

Clock = Callable[[], float]
"""Seconds that never go backwards."""

# Budgets count in thousandths of a token, as gRPC's do, for tenths do not add up to one (gRFC A6).
_TOKEN = 1000


@dataclass(frozen=True, slots=True)
class Resilience:
    """How a client bears a bad backend.

    attempts: how often one call is tried at most; 1 never retries. retry_ratio: retries per call that are
    allowed in the long run. retry_reserve: retries allowed beyond that. breaker_failures: failures in a row
    that open the breaker. cool_down_s: seconds until it lets a call through again. fair_timeout_s: a deadline
    shorter than this tells about the caller's patience rather than about the backend.
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
    """Waits between attempts: random, up to a bound that doubles, so that callers do not return together.

    Source: "full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    FIRST_S = 0.1
    """The bound of the first wait, seconds."""
    LONGEST_S = 2.0
    """A longer wait is the caller's to make: meanwhile this one would hold a place here, seconds."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform

    def wait_s(self, attempt: int, retry_after: float | None) -> float | None:
        """Seconds to wait after the failure of that attempt, the first being 1; None: do not try again.

        retry_after: seconds that the backend asked for; the wait is never shorter.
        """
        asked = retry_after or 0.0
        if asked > self.LONGEST_S:
            return None
        return asked + self._uniform(0.0, min(self.FIRST_S * 2.0 ** (attempt - 1), self.LONGEST_S))


class RetryBudget:
    """A bucket of tokens: every call earns `ratio` of one, every retry costs one, `reserve` fit into it.

    It starts full. In any stretch of N calls there are thus at most `ratio` x N + `reserve` retries, so that
    retries add a share to the load of a backend in trouble, and never multiply it.
    Sources: Finagle's RetryBudget; gRPC's retry throttling (gRFC A6).
    """

    def __init__(self, ratio: float, reserve: int) -> None:
        self._earned = round(ratio * _TOKEN)
        self._most = self._tokens = reserve * _TOKEN

    def earn(self) -> None:
        """Count one call."""
        self._tokens = min(self._tokens + self._earned, self._most)

    def spend(self) -> bool:
        """Take a retry's token, and tell whether there was one."""
        if self._tokens < _TOKEN:
            return False
        self._tokens -= _TOKEN
        return True


class Breaker:
    """Refuses calls to a backend that fails them all, and lets one through now and then to see.

    `closed` until `failures` calls in a row have failed; then `open`, so that every call is refused for
    `cool_down_s`; then `half-open`: one call goes through as a probe. Its success closes the breaker, its
    failure opens it again. A probe that is not back after another `cool_down_s` is joined by the next one,
    for nobody should wait on a connection that hangs.

    Each call takes a permit from `admit` and hands it back, once, with its outcome. Calls that began before
    the state changed tell nothing about it: their outcomes are passed over.
    Source: M. Nygard, "Release It!", chapter on stability patterns.
    """

    def __init__(self, failures: int, cool_down_s: float, clock: Clock = time.monotonic) -> None:
        self._threshold = failures
        self._cool_down_s = cool_down_s
        self._clock = clock
        self._failures = 0
        # When the next probe may go; None is closed.
        self._probe_at: float | None = None
        self._permit = 0
        # The first permit of this state: earlier ones are stale.
        self._first = 1

    @property
    def state(self) -> BreakerState:
        """What the next call would meet."""
        if self._probe_at is None:
            return "closed"
        probing = self._permit >= self._first
        return "half-open" if probing or self._clock() >= self._probe_at else "open"

    def admit(self) -> int:
        """Give a permit for one call. Raises BreakerOpen with the seconds until the next call may go."""
        if self._probe_at is not None:
            now = self._clock()
            if now < self._probe_at:
                message = f"the breaker is open, for the backend failed {self._threshold} calls in a row"
                raise BreakerOpen(message, retry_after=self._probe_at - now)
            self._probe_at = now + self._cool_down_s
        self._permit += 1
        return self._permit

    def succeeded(self, permit: int) -> None:
        """The backend answered, were it to refuse the request."""
        if permit < self._first:
            return
        self._failures = 0
        if self._probe_at is not None:
            self._enter(None)

    def failed(self, permit: int) -> None:
        """The backend was away, silent, or talked nonsense."""
        if permit < self._first:
            return
        self._failures += 1
        if self._probe_at is not None or self._failures >= self._threshold:
            self._enter(self._clock() + self._cool_down_s)

    def abandoned(self, permit: int) -> None:
        """Nobody waited for the answer, so it tells nothing: where this was the probe, another may go."""
        if self._probe_at is not None and permit >= self._first and permit == self._permit:
            self._probe_at = self._clock()

    def _enter(self, probe_at: float | None) -> None:
        self._probe_at = probe_at
        self._failures = 0
        self._first = self._permit + 1
