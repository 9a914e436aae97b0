"""Pixel work runs on threads of our own, and what nobody waits for any more is not begun."""

import asyncio
import contextvars
import threading

import pytest

from gpen_common.threads import Threads

pytestmark = pytest.mark.anyio


async def test_results_and_errors_come_back():
    threads = Threads(1)
    assert await threads.run(pow, 2, exp=5) == 32
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    threads.close()


async def test_work_runs_beside_the_event_loop():
    threads = Threads(1)
    may_go_on = threading.Event()
    working = asyncio.create_task(threads.run(may_go_on.wait, 60))
    await asyncio.sleep(0)
    assert not working.done()
    may_go_on.set()
    assert await working
    threads.close()


async def test_no_more_threads_run_than_there_are_workers():
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


async def test_who_gives_up_leaves_the_queue():
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


async def test_closing_waits_for_what_runs_and_drops_what_does_not():
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


async def test_who_gives_up_is_held_until_the_thread_has_ended():
    """Whatever the caller holds is in use that long, however often it is cancelled."""
    threads = Threads(1)
    begun, may_go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_go_on.wait(60)
        raise ZeroDivisionError("nobody is told any more")

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


async def test_work_knows_whose_request_it_is_for():
    variable = contextvars.ContextVar("variable", default="nobody's")
    threads = Threads(1)

    async def one(name: str) -> str:
        variable.set(name)
        return await threads.run(variable.get)

    assert await asyncio.gather(one("mine"), one("yours")) == ["mine", "yours"]
    assert await threads.run(variable.get) == "nobody's"
    threads.close()
