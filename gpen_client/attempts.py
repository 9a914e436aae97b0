"""One call, tried through the breaker, and again where that can help and the budget allows."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gpen_client.errors import (
    BackendBusy,
    BackendError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    BreakerOpen,
)
from gpen_client.resilience import Backoff, Breaker, BreakerState, Resilience, RetryBudget

T = TypeVar("T")


class Attempts:
    """What all calls to one backend share: the budget of their retries, and the breaker."""

    def __init__(self, resilience: Resilience) -> None:
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

        It is repeated only after BackendUnavailable, BackendBusy included: an answer that is nonsense would
        be so again. Raises what the last attempt raised, or BreakerOpen.
        """
        deadline = time.monotonic() + timeout_s
        self._budget.earn()
        attempt = 1
        while True:
            try:
                return await self._attempt(call, deadline - time.monotonic())
            except BreakerOpen:
                raise
            except BackendUnavailable as error:
                wait_s = self._backoff.wait_s(attempt, error.retry_after)
                in_time = wait_s is not None and time.monotonic() + wait_s < deadline
                if wait_s is None or not in_time or attempt >= self._most or not self._budget.spend():
                    raise
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _attempt(self, call: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
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
