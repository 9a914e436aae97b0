"""Retries of a call, and what the circuit breaker counts."""

import asyncio
from collections.abc import Iterable

import pytest

from gpen_client.attempts import Attempts
from gpen_client.errors import (
    BackendBusy,
    BackendCrashed,
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    BreakerOpen,
    ModelNotFound,
    WireError,
)
from gpen_client.resilience import Backoff, Resilience

pytestmark = pytest.mark.anyio

AWAY = BackendUnavailable("away")
CRASHED = BackendCrashed("a bare 500")
FAILURES = [AWAY, BackendTimeout("late"), BackendProtocolError("nonsense"), WireError("garbage")]
ANSWERS = [BackendBusy("full"), BackendRejected("no", 400), ModelNotFound("none", 404)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "FIRST_S", 0.001)


class Backend:
    """Raises one of `outcomes` each call, then answers. given: the seconds that each call was given."""

    def __init__(self, outcomes: Iterable[BaseException] = ()) -> None:
        self.outcomes = list(outcomes)
        self.given: list[float] = []

    async def __call__(self, left_s: float) -> str:
        self.given.append(left_s)
        await asyncio.sleep(0)
        if self.outcomes:
            raise self.outcomes.pop(0)
        return "restored"


def attempts(**changes: float) -> Attempts:
    return Attempts(Resilience(**({"cool_down_s": 600.0} | changes)))


async def fail(under: Attempts, error: BaseException, times: int = 1, timeout_s: float = 60.0) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            await under.run(Backend([error] * 20), timeout_s)


@pytest.mark.parametrize("error", [AWAY, CRASHED, BackendBusy("full"), BackendBusy("full", 0.01)])
async def test_retries_while_the_backend_is_unavailable_or_busy(error):
    backend = Backend([error, error])
    assert await attempts().run(backend, 60) == "restored"
    assert len(backend.given) == 3


async def test_gives_each_attempt_the_seconds_left():
    backend = Backend([AWAY, AWAY])
    await attempts().run(backend, 60)
    assert 60 >= backend.given[0] > backend.given[1] > backend.given[2]


@pytest.mark.parametrize(("most", "calls"), [(1, 1), (2, 2), (5, 5)])
async def test_raises_the_last_error_when_attempts_are_used_up(most, calls):
    backend = Backend([BackendUnavailable(str(number)) for number in range(20)])
    with pytest.raises(BackendUnavailable, match=str(calls - 1)):
        await attempts(attempts=most, breaker_failures=100).run(backend, 60)
    assert len(backend.given) == calls


@pytest.mark.parametrize("error", [*FAILURES[1:], *ANSWERS[1:]], ids=repr)
async def test_does_not_retry_other_errors(error):
    backend = Backend([error])
    with pytest.raises(type(error)):
        await attempts().run(backend, 60)
    assert len(backend.given) == 1


@pytest.mark.parametrize(("retry_after", "timeout_s"), [(2.5, 600.0), (1.0, 0.9)])
async def test_does_not_wait_for_long_or_past_the_deadline(retry_after, timeout_s):
    """The caller gets the error with its Retry-After at once."""
    backend = Backend([BackendBusy("full", retry_after)])
    with pytest.raises(BackendBusy) as caught:
        await attempts().run(backend, timeout_s)
    assert caught.value.retry_after == retry_after
    assert len(backend.given) == 1


async def test_all_calls_share_one_retry_budget():
    under = attempts(retry_ratio=0.5, retry_reserve=2, breaker_failures=1000)
    backend = Backend([AWAY] * 1000)
    outcomes = await asyncio.gather(*(under.run(backend, 60) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, BackendUnavailable) for outcome in outcomes)
    assert 20 < len(backend.given) <= 20 + 20 * 0.5 + 2


@pytest.mark.parametrize("error", [*FAILURES, CRASHED], ids=repr)
async def test_failures_open_the_breaker_which_then_refuses_calls(error):
    under = attempts(breaker_failures=3, attempts=1)
    await fail(under, error, times=2)
    assert under.breaker_state == "closed"
    await fail(under, error)
    assert under.breaker_state == "open"
    backend = Backend()
    with pytest.raises(BreakerOpen) as refused:
        await under.run(backend, 60)
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 600
    assert backend.given == []


async def test_stops_retrying_when_the_breaker_opens():
    backend = Backend([AWAY] * 10)
    with pytest.raises(BreakerOpen):
        await attempts(attempts=10, breaker_failures=2).run(backend, 60)
    assert len(backend.given) == 2


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
async def test_a_rejection_counts_as_success(error):
    """It also ends a row of failures."""
    under = attempts(breaker_failures=2, attempts=1)
    await fail(under, error, times=5)
    for _ in range(3):
        await fail(under, AWAY)
        await fail(under, error)
    assert under.breaker_state == "closed"


async def test_a_cancelled_call_is_not_a_failure():
    under = attempts(breaker_failures=1)

    async def hang(_: float) -> str:
        return await asyncio.Event().wait() and ""

    for _ in range(3):
        task = asyncio.create_task(under.run(hang, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert under.breaker_state == "closed"


async def test_short_timeouts_do_not_open_the_breaker():
    under = attempts(breaker_failures=2, fair_timeout_s=10.0)
    await fail(under, BackendTimeout("late"), times=5, timeout_s=0.5)
    assert under.breaker_state == "closed"
    await fail(under, BackendTimeout("late"), times=2, timeout_s=10.5)
    assert under.breaker_state == "open"


@pytest.mark.parametrize("answer", [None, *ANSWERS], ids=repr)
async def test_a_valid_answer_to_the_probe_closes_the_breaker(answer):
    under = attempts(breaker_failures=1, attempts=1, cool_down_s=0.0)
    await fail(under, AWAY)
    assert under.breaker_state == "half-open"
    if answer is None:
        await under.run(Backend(), 60)
    else:
        await fail(under, answer)
    assert under.breaker_state == "closed"


async def test_a_cancelled_probe_allows_another():
    under = attempts(breaker_failures=1, attempts=1, cool_down_s=0.05)
    await fail(under, AWAY)
    await asyncio.sleep(0.06)
    entered = asyncio.Event()

    async def hang(_: float) -> str:
        entered.set()
        return await asyncio.Event().wait() and ""

    task = asyncio.create_task(under.run(hang, 60))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await under.run(Backend(), 60) == "restored"
    assert under.breaker_state == "closed"


def test_these_tests_cover_every_error():
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    known = {type(error) for error in [*FAILURES, CRASHED, *ANSWERS]}
    assert below(BackendError) == {BackendError, BreakerOpen} | known
