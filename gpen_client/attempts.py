"""One call, tried through the breaker, and again where that can help and the budget allows."""

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
"""How an attempt ended: `refused` by the breaker, `abandoned` by whoever asked."""


@dataclass(slots=True)
class Tally:
    """What was counted since the start. outcomes: of attempts. retries: attempts that were not the first."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    retries: int = 0


class Attempts:
    """What all calls to one backend share: the budget of their retries, and the breaker."""

    def __init__(self, resilience: Resilience) -> None:
        self.tally = Tally()
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
        """The result of `call(seconds left)`, which must be safe to repeat and raise BackendTimeout in time.

        It is repeated only after BackendUnavailable, BackendBusy included, and BackendCrashed: an answer that
        is nonsense would be so again. Raises what the last attempt raised, or BreakerOpen.
        """
        deadline = time.monotonic() + timeout_s
        self._budget.earn()
        attempt = 1
        while True:
            try:
                return await self._attempt(call, deadline - time.monotonic())
            except BreakerOpen:
                raise
            except (BackendUnavailable, BackendCrashed) as error:
                asked = error.retry_after if isinstance(error, BackendUnavailable) else None
                wait_s = self._backoff.wait_s(attempt, asked)
                in_time = wait_s is not None and time.monotonic() + wait_s < deadline
                if wait_s is None or not in_time or attempt >= self._most or not self._budget.spend():
                    raise
            await asyncio.sleep(wait_s)
            self.tally.retries += 1
            attempt += 1

    async def _attempt(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Try once, and count how it went."""
        outcome: Outcome = "abandoned"
        try:
            result = await self._admitted(call, timeout_s)
            outcome = "ok"
        except BackendError as error:
            outcome = _outcome(error)
            raise
        finally:
            self.tally.outcomes[outcome] += 1
        return result

    async def _admitted(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
        """Try once, and tell the breaker how it went."""
        permit = self._breaker.admit()
        try:
            result = await call(timeout_s)
        except (BackendBusy, BackendRejected):
            # It answered, and sensibly.
            self._breaker.succeeded(permit)
            raise
        except BackendTimeout:
            fair = timeout_s >= self._fair_timeout_s
            (self._breaker.failed if fair else self._breaker.abandoned)(permit)
            raise
        except BackendError:
            self._breaker.failed(permit)
            raise
        except BaseException:
            self._breaker.abandoned(permit)
            raise
        self._breaker.succeeded(permit)
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
