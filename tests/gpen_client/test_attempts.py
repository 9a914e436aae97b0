"""One call, its further attempts, and what the breaker learns of each."""

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
    """Fails as `outcomes` tell, one a call, then answers; notes the seconds that each call was given."""

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
async def test_a_backend_that_is_away_or_busy_for_a_moment_is_not_noticed(error):
    backend = Backend([error, error])
    assert await attempts().run(backend, 60) == "restored"
    assert len(backend.given) == 3


async def test_every_attempt_is_given_what_is_left():
    backend = Backend([AWAY, AWAY])
    await attempts().run(backend, 60)
    assert 60 >= backend.given[0] > backend.given[1] > backend.given[2]


@pytest.mark.parametrize(("most", "calls"), [(1, 1), (2, 2), (5, 5)])
async def test_the_last_failure_is_told_once_attempts_are_over(most, calls):
    backend = Backend([BackendUnavailable(str(number)) for number in range(20)])
    with pytest.raises(BackendUnavailable, match=str(calls - 1)):
        await attempts(attempts=most, breaker_failures=100).run(backend, 60)
    assert len(backend.given) == calls


@pytest.mark.parametrize("error", [*FAILURES[1:], *ANSWERS[1:]], ids=repr)
async def test_what_would_only_happen_again_is_not_tried_again(error):
    backend = Backend([error])
    with pytest.raises(type(error)):
        await attempts().run(backend, 60)
    assert len(backend.given) == 1


@pytest.mark.parametrize(("retry_after", "timeout_s"), [(2.5, 600.0), (1.0, 0.9)])
async def test_a_wait_that_is_long_or_ends_after_the_deadline_is_not_begun(retry_after, timeout_s):
    """The caller is told at once, and when to return."""
    backend = Backend([BackendBusy("full", retry_after)])
    with pytest.raises(BackendBusy) as caught:
        await attempts().run(backend, timeout_s)
    assert caught.value.retry_after == retry_after
    assert len(backend.given) == 1


async def test_all_calls_share_one_budget():
    under = attempts(retry_ratio=0.5, retry_reserve=2, breaker_failures=1000)
    backend = Backend([AWAY] * 1000)
    outcomes = await asyncio.gather(*(under.run(backend, 60) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, BackendUnavailable) for outcome in outcomes)
    assert 20 < len(backend.given) <= 20 + 20 * 0.5 + 2


@pytest.mark.parametrize("error", [*FAILURES, CRASHED], ids=repr)
async def test_failures_open_the_breaker_and_then_nothing_is_sent(error):
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


async def test_a_breaker_that_opens_ends_the_attempts_too():
    backend = Backend([AWAY] * 10)
    with pytest.raises(BreakerOpen):
        await attempts(attempts=10, breaker_failures=2).run(backend, 60)
    assert len(backend.given) == 2


@pytest.mark.parametrize("error", ANSWERS, ids=repr)
async def test_a_backend_that_refuses_is_there(error):
    """Its answer even ends a row of failures."""
    under = attempts(breaker_failures=2, attempts=1)
    await fail(under, error, times=5)
    for _ in range(3):
        await fail(under, AWAY)
        await fail(under, error)
    assert under.breaker_state == "closed"


async def test_a_caller_who_leaves_is_no_failure():
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


async def test_a_caller_who_is_in_a_hurry_does_not_open_the_breaker_for_all():
    under = attempts(breaker_failures=2, fair_timeout_s=10.0)
    await fail(under, BackendTimeout("late"), times=5, timeout_s=0.5)
    assert under.breaker_state == "closed"
    await fail(under, BackendTimeout("late"), times=2, timeout_s=10.5)
    assert under.breaker_state == "open"


@pytest.mark.parametrize("answer", [None, *ANSWERS], ids=repr)
async def test_any_sensible_answer_to_the_probe_closes_the_breaker(answer):
    under = attempts(breaker_failures=1, attempts=1, cool_down_s=0.0)
    await fail(under, AWAY)
    assert under.breaker_state == "half-open"
    if answer is None:
        await under.run(Backend(), 60)
    else:
        await fail(under, answer)
    assert under.breaker_state == "closed"


async def test_a_probe_whose_caller_leaves_makes_room_for_another():
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


def test_every_error_is_one_that_these_tests_know():
    def below(kind: type) -> set[type]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    known = {type(error) for error in [*FAILURES, CRASHED, *ANSWERS]}
    assert below(BackendError) == {BackendError, BreakerOpen} | known
