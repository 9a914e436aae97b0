"""What several ask for at once is done once, for as long as anybody waits."""

import asyncio

import pytest

from gateway.cache import SingleFlight

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


async def start(flights: SingleFlight[int], work: Work, callers: int, key: str = "k") -> list[asyncio.Task]:
    tasks = [asyncio.create_task(flights.run(key, work)) for _ in range(callers)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_the_same_is_done_once():
    flights, work = SingleFlight(), Work()
    callers = await start(flights, work, 20)
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1] * 20
    assert work.begun == 1


async def test_it_is_done_again_when_it_is_asked_for_again():
    flights, work = SingleFlight(), Work()
    work.may_end.set()
    assert [await flights.run("k", work) for _ in range(2)] == [1, 2]


async def test_different_things_are_done_each():
    flights, work = SingleFlight(), Work()
    callers = [*await start(flights, work, 1, "a"), *await start(flights, work, 1, "b")]
    assert work.begun == 2
    work.may_end.set()
    await asyncio.gather(*callers)


@pytest.mark.parametrize("leaver", [0, 1])
async def test_who_leaves_leaves_the_others_alone(leaver):
    flights, work = SingleFlight(), Work()
    callers = await start(flights, work, 3)
    callers.pop(leaver).cancel()
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*callers) == [1, 1]
    assert work.cancelled == 0


async def test_when_all_have_left_it_is_cancelled_and_has_ended_when_the_last_is_told():
    flights, work = SingleFlight(), Work()
    callers = await start(flights, work, 3)
    for caller in callers:
        caller.cancel()
    assert all(
        isinstance(outcome, asyncio.CancelledError)
        for outcome in await asyncio.gather(*callers, return_exceptions=True)
    )
    assert work.cancelled == 1


async def test_nobody_joins_what_is_being_cancelled():
    flights, ending, may_end = SingleFlight(), asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()
        return 0

    first = asyncio.create_task(flights.run("k", slow_to_end))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await ending.wait()
    work = Work()
    work.may_end.set()
    assert await flights.run("k", work) == 1
    assert not first.done(), "it holds what it uses until that has ended"
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_failure_is_everybodys():
    flights, work = SingleFlight(), Work()
    work.failure = ZeroDivisionError("all the same")
    callers = await start(flights, work, 3)
    work.may_end.set()
    for outcome in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(outcome, ZeroDivisionError)
    work.failure = None
    assert await flights.run("k", work) == 2, "a failure is not kept"


async def test_nothing_of_a_flight_is_left():
    flights, work = SingleFlight(), Work()
    work.may_end.set()
    await flights.run("k", work)
    leaver, *_ = await start(flights, Work(), 1)
    leaver.cancel()
    await asyncio.wait({leaver})
    assert flights._flights == {}
