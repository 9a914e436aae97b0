"""Backoff, retry budget and circuit breaker, with a clock of the test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpen_client.errors import BreakerOpen
from gpen_client.resilience import Backoff, Breaker, RetryBudget

# Backoff


@given(attempt=st.integers(1, 100), share=st.floats(0, 1))
def test_waits_below_a_bound_that_doubles_up_to_the_largest(attempt, share):
    wait = Backoff(lambda low, high: low + share * (high - low)).wait_s(attempt, None)
    assert wait == pytest.approx(share * min(0.1 * 2 ** (attempt - 1), 2.0))


@given(retry_after=st.floats(0, 2), attempt=st.integers(1, 20))
def test_waits_at_least_as_long_as_the_backend_asks(retry_after, attempt):
    wait = Backoff().wait_s(attempt, retry_after)
    assert wait is not None
    assert wait >= retry_after


def test_callers_with_the_same_retry_after_wait_differently():
    assert len({Backoff().wait_s(1, 1.0) for _ in range(20)}) > 1


@pytest.mark.parametrize("retry_after", [2.1, 86_400.0])
def test_does_not_wait_if_the_backend_asks_for_more_than_the_largest_bound(retry_after):
    assert Backoff().wait_s(1, retry_after) is None


# Retry budget


@given(
    ratio=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    reserve=st.integers(0, 20),
    events=st.lists(st.booleans(), max_size=300),
    start=st.integers(0, 300),
)
def test_retries_in_any_stretch_are_at_most_their_share_of_calls_and_the_reserve(
    ratio, reserve, events, start
):
    """events: True is a call, False a wish to retry. start: index of the stretch's first event."""
    budget = RetryBudget(ratio, reserve)
    calls = retries = 0
    for place, is_call in enumerate(events):
        spent = False
        if is_call:
            budget.earn()
        else:
            spent = budget.spend()
        if place >= start:
            calls += is_call
            retries += spent
    assert retries <= ratio * calls + reserve


def test_the_reserve_can_be_spent_once():
    budget = RetryBudget(0.2, 10)
    assert [budget.spend() for _ in range(12)] == [True] * 10 + [False] * 2


@pytest.mark.parametrize(("ratio", "calls"), [(0.1, 10), (0.2, 5), (1.0, 1)])
def test_a_number_of_calls_earns_one_retry(ratio, calls):
    budget = RetryBudget(ratio, 1)
    assert budget.spend()
    for _ in range(calls - 1):
        budget.earn()
        assert not budget.spend()
    budget.earn()
    assert budget.spend()


def test_without_reserve_there_are_no_retries():
    budget = RetryBudget(1.0, 0)
    budget.earn()
    assert not budget.spend()


# Breaker

FAILURES, COOL_DOWN_S = 3, 10.0


class BreakerMachine(RuleBasedStateMachine):
    """A breaker, and a plain model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(FAILURES, COOL_DOWN_S, clock=lambda: self.now)
        # Open permits, of the present state and of earlier ones.
        self.current: set[int] = set()
        self.stale: set[int] = set()
        self.in_a_row = 0
        self.opened_at: float | None = None
        self.last_probe: tuple[int, float] | None = None

    @rule(seconds=st.sampled_from([0.5, 3.0, COOL_DOWN_S - 0.5, COOL_DOWN_S, 100.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def a_call_comes(self):
        expected_wait = self._wait()
        if expected_wait > 0:
            with pytest.raises(BreakerOpen) as refused:
                self.breaker.admit()
            assert refused.value.retry_after == expected_wait
            return
        permit = self.breaker.admit()
        assert permit not in self.current | self.stale
        self.current.add(permit)
        if self.opened_at is not None:
            self.last_probe = (permit, self.now + COOL_DOWN_S)

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def one_succeeds(self, data):
        self.breaker.record_success(self._finish(data))
        self.in_a_row = 0
        if self.opened_at is not None:
            self._change(None)

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def one_fails(self, data):
        self.breaker.record_failure(self._finish(data))
        self.in_a_row += 1
        if self.opened_at is not None or self.in_a_row == FAILURES:
            self._change(self.now)

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def one_is_abandoned(self, data):
        permit = self._finish(data)
        self.breaker.release(permit)
        if self.last_probe is not None and permit == self.last_probe[0]:
            self.last_probe = (permit, self.now)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), outcome=st.sampled_from(["record_success", "record_failure", "release"]))
    def one_from_before_ends(self, data, outcome):
        permit = data.draw(st.sampled_from(sorted(self.stale)))
        self.stale.discard(permit)
        before = self.breaker.state
        getattr(self.breaker, outcome)(permit)
        assert self.breaker.state == before

    @invariant()
    def the_state_is_as_in_the_model(self):
        if self.opened_at is None:
            expected = "closed"
        elif self.last_probe is not None or self.now >= self.opened_at + COOL_DOWN_S:
            expected = "half-open"
        else:
            expected = "open"
        assert self.breaker.state == expected

    def _wait(self) -> float:
        if self.opened_at is None:
            return 0.0
        due = self.last_probe[1] if self.last_probe is not None else self.opened_at + COOL_DOWN_S
        return due - self.now

    def _finish(self, data) -> int:
        permit = data.draw(st.sampled_from(sorted(self.current)))
        self.current.discard(permit)
        return permit

    def _change(self, opened_at: float | None) -> None:
        self.opened_at, self.last_probe, self.in_a_row = opened_at, None, 0
        self.stale |= self.current
        self.current = set()


TestBreaker = BreakerMachine.TestCase


def open_breaker(clock) -> Breaker:
    breaker = Breaker(FAILURES, COOL_DOWN_S, clock)
    for _ in range(FAILURES):
        breaker.record_failure(breaker.admit())
    return breaker


def test_a_breaker_opens_probes_and_closes():
    now = 0.0
    breaker = open_breaker(lambda: now)
    assert breaker.state == "open"
    now = 4.0
    with pytest.raises(BreakerOpen, match="3 calls in a row") as refused:
        breaker.admit()
    assert refused.value.retry_after == 6.0
    now = COOL_DOWN_S
    assert breaker.state == "half-open"
    probe = breaker.admit()
    with pytest.raises(BreakerOpen):
        breaker.admit()
    breaker.record_success(probe)
    assert breaker.state == "closed"


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(FAILURES, COOL_DOWN_S, lambda: 0.0)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.record_failure(breaker.admit())
        breaker.record_success(breaker.admit())
    assert breaker.state == "closed"


def test_a_slow_probe_closes_it_after_another_has_started():
    """Else the breaker of a backend slower than the cool-down would never close."""
    now = 0.0
    breaker = open_breaker(lambda: now)
    now = COOL_DOWN_S
    first = breaker.admit()
    now = 2 * COOL_DOWN_S
    breaker.admit()
    breaker.record_success(first)
    assert breaker.state == "closed"
