"""run_all runs coroutines together; the first failure cancels the rest."""

import asyncio

import pytest

from gpen_common.run_all import run_all

pytestmark = pytest.mark.anyio


async def test_returns_results_in_the_order_of_the_work():
    async def after(steps):
        for _ in range(steps):
            await asyncio.sleep(0)
        return steps

    assert await run_all(after(steps) for steps in (3, 1, 2)) == [3, 1, 2]


async def test_a_failure_cancels_the_rest_and_is_raised_by_itself():
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def wait():
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()

    ended = asyncio.Event()
    with pytest.raises(ZeroDivisionError):
        await run_all([wait(), fail()])
    assert ended.is_set()


async def test_cancelling_the_caller_cancels_the_work():
    async def wait():
        try:
            await asyncio.sleep(20)
        finally:
            ended.set()

    ended = asyncio.Event()
    task = asyncio.create_task(run_all([wait()]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_no_work_has_no_results():
    assert await run_all([]) == []


async def test_a_failure_keeps_its_cause():
    async def fail():
        raise ValueError("outer") from ZeroDivisionError("inner")

    with pytest.raises(ValueError, match="outer") as caught:
        await run_all([fail()])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
