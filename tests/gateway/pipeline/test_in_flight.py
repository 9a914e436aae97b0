"""Identical requests share one piece of work, for as long as any of them waits."""

import asyncio
import gc
import weakref

import pytest

from gateway.errors import DeadlinePassed
from gateway.pipeline.in_flight import InFlight
from gateway.timings import Timings

pytestmark = pytest.mark.anyio


class Work:
    """Waits until it may end; counts."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.may_end = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        return self.begun


async def start(flights: InFlight[int], work: Work, callers: int, key: str = "k") -> list[asyncio.Task]:
    tasks = [asyncio.create_task(flights.join(key, work, [], Timings())) for _ in range(callers)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_identical_requests_start_the_work_once():
    flights, work = InFlight(), Work()
    callers = await start(flights, work, 20)
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1] * 20
    assert work.begun == 1


async def test_a_later_request_starts_the_work_again():
    flights, work = InFlight(), Work()
    work.may_end.set()
    assert [await flights.join("k", work, [], Timings()) for _ in range(2)] == [1, 2]


async def test_other_keys_start_work_of_their_own():
    flights, work = InFlight(), Work()
    callers = [*await start(flights, work, 1, "a"), *await start(flights, work, 1, "b")]
    assert work.begun == 2
    work.may_end.set()
    await asyncio.gather(*callers)


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_cancelled_caller_does_not_cancel_the_others(leaver):
    flights, work = InFlight(), Work()
    callers = await start(flights, work, 3)
    callers.pop(leaver).cancel()
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1, 1]
    assert work.cancelled == 0


async def test_the_work_is_cancelled_when_the_last_caller_is():
    flights, work = InFlight(), Work()
    callers = await start(flights, work, 3)
    for caller in callers:
        caller.cancel()
    assert all(
        isinstance(outcome, asyncio.CancelledError)
        for outcome in await asyncio.gather(*callers, return_exceptions=True)
    )
    await flights.finish()
    assert work.cancelled == 1


async def test_a_new_request_does_not_join_work_that_is_being_cancelled():
    flights, ending, may_end = InFlight(), asyncio.Event(), asyncio.Event()

    async def end_slowly() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
        return 0

    started: list[asyncio.Task] = []
    first = asyncio.create_task(flights.join("k", end_slowly, started, Timings()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await ending.wait()
    work = Work()
    work.may_end.set()
    assert await flights.join("k", work, [], Timings()) == 1
    assert not started[0].done(), "the task holds its resources until its threads have ended"
    finishing = asyncio.create_task(flights.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    may_end.set()
    await finishing


async def test_the_deadline_of_the_first_request_is_not_the_others():
    flights, begun, may_fail = InFlight(), [], asyncio.Event()

    async def work() -> str:
        begun.append("work")
        if len(begun) == 1:
            await may_fail.wait()
            raise DeadlinePassed("the first request's")
        return "done"

    hasty, patient = (asyncio.create_task(flights.join("k", work, [], Timings())) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == ["work"]
    may_fail.set()
    with pytest.raises(DeadlinePassed):
        await hasty
    assert await patient == "done"


async def test_a_request_may_join_at_the_very_moment_at_which_the_deadline_of_the_first_passes():
    """The task is done, but its callbacks have not run: joining it again and again would block the loop."""
    flights: InFlight[int] = InFlight()
    gate = asyncio.get_running_loop().create_future()

    async def fail() -> int:
        await gate
        raise DeadlinePassed("the first request's")

    async def succeed() -> int:
        return 1

    first = asyncio.create_task(flights.join("k", fail, [], Timings()))
    await asyncio.sleep(0.01)
    gate.set_result(None)
    late = asyncio.create_task(flights.join("k", succeed, [], Timings()))
    failure, result = await asyncio.gather(first, late, return_exceptions=True)
    assert isinstance(failure, DeadlinePassed)
    assert result == 1


async def test_every_wait_for_the_work_of_another_request_is_the_stage_join():
    flights: InFlight[int] = InFlight()

    async def fail() -> int:
        await asyncio.sleep(0.03)
        raise DeadlinePassed("the first request's")

    async def succeed() -> int:
        await asyncio.sleep(0.03)
        return 1

    first_timings, timings = Timings(), Timings()
    first = asyncio.create_task(flights.join("k", fail, [], first_timings))
    await asyncio.sleep(0)
    patient = asyncio.create_task(flights.join("k", succeed, [], timings))
    assert await patient == 1
    assert isinstance(await asyncio.gather(first, return_exceptions=True), list)
    assert "join" not in first_timings.finish()
    assert 20 < timings.finish()["join"] < timings.finish()["total"] - 20


async def test_ended_work_is_not_kept_by_its_request():
    flights, work = InFlight(), Work()
    work.may_end.set()
    started: list[asyncio.Task] = []
    await flights.join("k", work, started, Timings())
    assert started == []


async def test_a_failure_is_freed_without_a_garbage_collection():
    class Body:
        """Stands for an upload."""

    async def fail(body: Body) -> int:
        raise ZeroDivisionError

    async def request() -> "weakref.ref[Body]":
        body = Body()
        with pytest.raises(ZeroDivisionError):
            await InFlight().join("k", lambda: fail(body), [], Timings())
        return weakref.ref(body)

    gc.collect()
    gc.disable()
    try:
        body = await request()
        await asyncio.sleep(0)
        assert body() is None
    finally:
        gc.enable()


async def test_a_failure_reaches_every_waiting_request():
    flights, work = InFlight(), Work()
    work.failure = ZeroDivisionError("all the same")
    callers = await start(flights, work, 3)
    work.may_end.set()
    for outcome in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(outcome, ZeroDivisionError)
    work.failure = None
    assert await flights.join("k", work, [], Timings()) == 2, "a failure is not kept"


async def test_finished_and_cancelled_work_is_forgotten():
    flights, work = InFlight(), Work()
    work.may_end.set()
    await flights.join("k", work, [], Timings())
    leaver, *_ = await start(flights, Work(), 1)
    leaver.cancel()
    await asyncio.wait({leaver})
    await flights.finish()
    assert flights._flights == {}
    assert flights._tasks == set()
