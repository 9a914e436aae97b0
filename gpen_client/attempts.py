"""Calls through the circuit breaker, with retries within a budget."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from gpen_client.errors import (
    BackendBusy,
    BackendCrashed,
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    BreakerOpen,
)
from gpen_client.resilience import Backoff, Breaker, BreakerState, Resilience, RetryBudget

T = TypeVar("T")

Outcome = Literal["ok", "busy", "rejected", "away", "timeout", "nonsense", "refused", "abandoned"]
"""How an attempt ended: `refused` by the breaker, `abandoned` by the caller."""


@dataclass(slots=True)
class AttemptCounts:
    """Counts since the start. outcomes: of all attempts. retries: attempts after a call's first."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    retries: int = 0


class Attempts:
    """Runs calls to one backend, which share a retry budget and a circuit breaker."""

    def __init__(self, resilience: Resilience) -> None:
        self.tally = AttemptCounts()
        self._most = resilience.attempts
        self._fair_timeout_s = resilience.fair_timeout_s
        self._backoff = Backoff()
        self._budget = RetryBudget(resilience.retry_ratio, resilience.retry_reserve)
        self._breaker = Breaker(resilience.breaker_failures, resilience.cool_down_s)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether calls go through now."""
        return self._breaker.state

    async def run(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Return the result of `call(seconds left)`, retried where that can help.

        call: safe to repeat; raises BackendTimeout when its seconds have passed.
        Only BackendUnavailable (with BackendBusy) and BackendCrashed are retried: another attempt would get
        the same invalid answer. Raises the last attempt's error, or BreakerOpen.
        """
        deadline = time.monotonic() + timeout_s
        self._budget.earn()
        attempt = 1
        while True:
            try:
                return await self._try_once(call, deadline - time.monotonic())
            except BreakerOpen:
                raise
            except (BackendUnavailable, BackendCrashed) as error:
                retry_after = error.retry_after if isinstance(error, BackendUnavailable) else None
                wait_s = self._backoff.wait_s(attempt, retry_after)
                in_time = wait_s is not None and time.monotonic() + wait_s < deadline
                if wait_s is None or not in_time or attempt >= self._most or not self._budget.spend():
                    raise
            await asyncio.sleep(wait_s)
            self.tally.retries += 1
            attempt += 1

    async def _try_once(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Make one attempt and count its outcome."""
        outcome: Outcome = "abandoned"
        try:
            result = await self._through_breaker(call, timeout_s)
            outcome = "ok"
        except BackendError as error:
            outcome = _outcome(error)
            raise
        finally:
            self.tally.outcomes[outcome] += 1
        return result

    async def _through_breaker(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Make one attempt and report its outcome to the breaker."""
        permit = self._breaker.admit()
        try:
            result = await call(timeout_s)
        except (BackendBusy, BackendRejected):
            # A valid answer.
            self._breaker.record_success(permit)
            raise
        except BackendTimeout:
            fair = timeout_s >= self._fair_timeout_s
            (self._breaker.record_failure if fair else self._breaker.release)(permit)
            raise
        except BackendError:
            self._breaker.record_failure(permit)
            raise
        except BaseException:
            self._breaker.release(permit)
            raise
        self._breaker.record_success(permit)
        return result


def _outcome(error: BackendError) -> Outcome:
    match error:
        case BackendBusy():
            return "busy"
        case BreakerOpen():
            return "refused"
        case BackendUnavailable():
            return "away"
        case BackendTimeout():
            return "timeout"
        case BackendRejected():
            return "rejected"
    return "nonsense"
