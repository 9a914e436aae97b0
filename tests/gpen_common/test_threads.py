"""Pixel work runs on a bounded thread pool; queued work of cancelled callers does not start."""

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from gpen_common.threads import Threads

pytestmark = pytest.mark.anyio


async def test_returns_results_and_raises_errors():
    threads = Threads(1)
    assert await threads.run(pow, 2, exp=5) == 32
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    threads.close()


async def test_work_does_not_block_the_event_loop():
    threads = Threads(1)
    may_go_on = threading.Event()
    working = asyncio.create_task(threads.run(may_go_on.wait, 60))
    await asyncio.sleep(0)
    assert not working.done()
    may_go_on.set()
    assert await working
    threads.close()


async def test_runs_at_most_as_many_threads_as_workers():
    threads = Threads(2)
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(60)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(8)))
    assert most == 2
    threads.close()


async def test_a_cancelled_caller_leaves_the_queue():
    threads = Threads(1)
    begun, may_go_on, ran = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        may_go_on.wait(60)

    running = asyncio.create_task(threads.run(first))
    await asyncio.to_thread(begun.wait, 60)
    waiting = asyncio.create_task(threads.run(ran.append, "never"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_go_on.set()
    await running
    await threads.run(ran.append, "after")
    assert ran == ["after"]
    threads.close()


async def test_closing_waits_for_running_work_and_drops_queued_work():
    threads = Threads(1)
    begun, may_go_on, done = threading.Event(), threading.Event(), []

    def work(name: str) -> None:
        begun.set()
        may_go_on.wait(60)
        done.append(name)

    running, dropped = (asyncio.create_task(threads.run(work, name)) for name in ("first", "second"))
    await asyncio.to_thread(begun.wait, 60)
    closing = asyncio.create_task(asyncio.to_thread(threads.close))
    with pytest.raises(asyncio.CancelledError):
        await dropped
    may_go_on.set()
    await closing
    await running
    assert done == ["first"]


async def test_a_caller_of_running_work_is_cancelled_when_the_thread_has_ended():
    """The thread uses what the caller holds until then, however often the caller is cancelled."""
    threads = Threads(1)
    begun, may_go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_go_on.wait(60)
        raise ZeroDivisionError("the caller has left")

    caller = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0.01)
        assert not caller.done()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    threads.close()


async def test_work_has_the_context_variables_of_its_caller():
    variable = contextvars.ContextVar("variable", default="none")
    threads = Threads(1)

    async def one(name: str) -> str:
        variable.set(name)
        return await threads.run(variable.get)

    assert await asyncio.gather(one("mine"), one("yours")) == ["mine", "yours"]
    assert await threads.run(variable.get) == "none"
    threads.close()


class Body:
    """Stands for an upload."""


async def test_a_cancelled_job_in_the_queue_keeps_no_arguments():
    threads = Threads(1)
    may_go_on = threading.Event()
    running = asyncio.create_task(threads.run(may_go_on.wait, 60))
    await asyncio.sleep(0)

    async def queue_and_cancel() -> "weakref.ref[Body]":
        body = Body()
        queued = asyncio.create_task(threads.run(id, body))
        await asyncio.sleep(0)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        return weakref.ref(body)

    body = await queue_and_cancel()
    await asyncio.sleep(0)
    gc.collect()
    assert body() is None
    may_go_on.set()
    await running
    threads.close()


async def test_a_failed_job_is_freed_without_a_garbage_collection():
    threads = Threads(1)

    def fail(body: Body) -> None:
        raise ZeroDivisionError

    async def run_and_fail() -> "weakref.ref[Body]":
        body = Body()
        with pytest.raises(ZeroDivisionError):
            await threads.run(fail, body)
        return weakref.ref(body)

    gc.collect()
    gc.disable()
    try:
        body = await run_and_fail()
        threads.close()
        await asyncio.sleep(0)
        assert body() is None
    finally:
        gc.enable()
