"""Places and workers are freed after results, failures, deadlines, disconnects and cancellation."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from starlette.requests import Request

from gateway.api.disconnect import cancel_on_disconnect
from gateway.errors import CallerLeft, DeadlinePassed, QueueFull
from gateway.params import PreprocessParams
from gateway.pipeline.in_flight import InFlight
from gateway.pipeline.picture_bytes import Picture
from gateway.pipeline.picture_request import PictureRequest
from gateway.service.admission import Admission
from gateway.timings import Timings
from gpen_common.threads import Threads

pytestmark = pytest.mark.anyio


class Caller:
    """A request whose body has been read, run as the handler runs it."""

    def __init__(self, flights: InFlight[object] | None = None) -> None:
        self._left = asyncio.Event()
        self._flights = flights or InFlight()
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> dict[str, str]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self._left.set()

    async def run(
        self, admission: Admission, work: Callable[[], Awaitable[object]], allowed_s: float = 60
    ) -> object:
        asked = PictureRequest(Picture(b"", ""), PreprocessParams(), "id", allowed_s, Timings())

        async def make() -> object:
            async with asked.worker(admission):
                return await work()

        async with asked.until_deadline(), cancel_on_disconnect(self.request):
            return await self._flights.join(str(id(self)), make, asked.work, Timings())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - threads set no asyncio event
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Run everything that is ready."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_rejects_a_request_when_every_place_is_taken():
    admission = Admission(workers=1, queue=1)
    with admission.place(), admission.place():
        assert admission.taken == 2
        with pytest.raises(QueueFull) as raised, admission.place():
            pass
        assert raised.value.retry_after >= 1
    assert admission.taken == 0
    with admission.place():
        assert admission.taken == 1


async def test_sixteen_uploads_are_received_beside_a_full_queue():
    admission = Admission(workers=1, queue=1)
    with admission.place(), admission.place(), ExitStack() as held:
        for _ in range(16):
            held.enter_context(admission.upload())
        with pytest.raises(QueueFull), admission.upload():
            pass
        assert (admission.uploads, admission.taken) == (16, 2)
    assert admission.uploads == admission.taken == 0


async def test_workers_bound_concurrent_work_in_order_of_arrival():
    admission = Admission(workers=2, queue=10)
    running, most, order = 0, 0, []
    steps = asyncio.Semaphore(0)

    async def work(number: int) -> int:
        nonlocal running, most
        order.append(number)
        running += 1
        most = max(most, running)
        await steps.acquire()
        running -= 1
        return number

    callers = [
        asyncio.create_task(Caller().run(admission, lambda number=number: work(number)))
        for number in range(12)
    ]
    await settle()
    assert (admission.taken, order) == (12, [0, 1])
    for _ in callers:
        steps.release()
        await settle()
    assert await asyncio.gather(*callers) == list(range(12))
    assert (most, order) == (2, list(range(12)))
    assert admission.taken == 0


async def test_a_failure_reaches_the_caller_and_frees_the_place():
    admission = Admission(workers=1, queue=0)

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Caller().run(admission, fail)
    assert admission.taken == 0


async def test_an_expired_deadline_fails_at_once_and_the_place_stays_taken_until_the_thread_ends():
    admission, threads, flights = Admission(workers=1, queue=1), Threads(1), InFlight()
    begun, may_end, never = threading.Event(), threading.Event(), []

    def block() -> None:
        begun.set()
        may_end.wait(60)

    async def not_started() -> None:
        never.append("started")

    blocked = asyncio.create_task(Caller(flights).run(admission, lambda: threads.run(block), allowed_s=0.2))
    await until(begun.is_set)
    with pytest.raises(DeadlinePassed):
        await blocked
    assert not may_end.is_set()
    assert admission.taken == 1, "its thread is still at work"
    with pytest.raises(DeadlinePassed):
        await Caller().run(admission, not_started, allowed_s=0.05)
    assert never == [], "the one worker is busy"
    await settle()
    assert admission.taken == 1
    finishing = asyncio.create_task(flights.finish())
    await settle()
    assert not finishing.done()
    may_end.set()
    await finishing
    await settle()
    assert admission.taken == 0
    threads.close()


@pytest.mark.parametrize("allowed_s", [0, -1])
async def test_a_deadline_in_the_past_fails_at_once(allowed_s):
    admission = Admission(workers=1, queue=0)
    with pytest.raises(DeadlinePassed):
        await Caller().run(admission, asyncio.Event().wait, allowed_s)
    await settle()
    assert admission.taken == 0


async def test_a_disconnect_in_the_queue_never_starts_the_work():
    admission, gate, ran = Admission(workers=1, queue=2), asyncio.Event(), []

    async def work(name: str) -> str:
        ran.append(name)
        await gate.wait()
        return name

    first, leaver, last = Caller(), Caller(), Caller()
    running = [
        asyncio.create_task(caller.run(admission, lambda name=name: work(name)))
        for caller, name in ((first, "first"), (leaver, "leaver"), (last, "last"))
    ]
    await settle()
    leaver.leave()
    with pytest.raises(CallerLeft):
        await running[1]
    await settle()
    assert admission.taken == 2
    gate.set()
    assert await running[0] == "first"
    assert await running[2] == "last"
    assert ran == ["first", "last"]
    assert admission.taken == 0


async def test_a_disconnect_cancels_work_in_progress():
    admission, caller = Admission(workers=1, queue=0), Caller()
    seen = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    running = asyncio.create_task(caller.run(admission, work))
    await settle()
    caller.leave()
    with pytest.raises(CallerLeft):
        await running
    await settle()
    assert seen == ["begun", "cancelled"]
    assert admission.taken == 0


async def test_cancelling_the_handler_cancels_its_work():
    """The server cancels handlers at the end of its grace period."""
    admission, cancelled = Admission(workers=1, queue=0), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    handler = asyncio.create_task(Caller().run(admission, work))
    await settle()
    handler.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handler
    await settle()
    assert cancelled.is_set()
    assert admission.taken == 0


class AdmissionMachine(RuleBasedStateMachine):
    """Requests arrive, finish, fail and leave in any order: places and workers never exceed their limits."""

    @initialize(workers=st.integers(1, 3), queue=st.integers(0, 3))
    def begin(self, workers: int, queue: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.workers, self.most = workers, workers + queue
        self.admission = Admission(workers, queue)
        self.inside: list[tuple[Caller, asyncio.Task[object], asyncio.Future[str]]] = []
        self.at_work: list[asyncio.Future[str]] = []

    def turn(self) -> None:
        self.loop.run_until_complete(settle())

    @rule()
    def arrive(self) -> None:
        outcome: asyncio.Future[str] = self.loop.create_future()

        async def work() -> str:
            self.at_work.append(outcome)
            try:
                return await outcome
            finally:
                self.at_work.remove(outcome)

        async def enter() -> None:
            caller = Caller()
            task = asyncio.create_task(caller.run(self.admission, work))
            await settle()
            if len(self.inside) < self.most:
                self.inside.append((caller, task, outcome))
            else:
                with pytest.raises(QueueFull):
                    await task

        self.loop.run_until_complete(enter())

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data: st.DataObject, fails: bool) -> None:
        outcome = data.draw(st.sampled_from(self.at_work))
        place = next(i for i, (_, _, own) in enumerate(self.inside) if own is outcome)
        _, task, _ = self.inside.pop(place)
        if fails:
            outcome.set_exception(ZeroDivisionError())
        else:
            outcome.set_result("done")
        self.turn()
        assert task.done()
        assert isinstance(task.exception(), ZeroDivisionError) if fails else task.result() == "done"

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        caller, task, outcome = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        caller.leave()
        self.turn()
        assert isinstance(task.exception(), CallerLeft)
        assert outcome not in self.at_work

    @invariant()
    def places_are_used_and_not_exceeded(self) -> None:
        if hasattr(self, "loop"):
            self.turn()
            assert self.admission.taken == len(self.inside) <= self.most
            assert len(self.at_work) == min(self.workers, len(self.inside))
            # In order of arrival.
            assert set(self.at_work) == {own for *_, own in self.inside[: self.workers]}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for caller, _, _ in self.inside:
                caller.leave()
            self.turn()
            assert self.admission.taken == 0
            for _, task, _ in self.inside:
                task.exception()
            self.loop.close()


AdmissionMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAdmissionMachine = AdmissionMachine.TestCase
