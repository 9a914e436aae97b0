"""Batches of faces, with engines that record their runs. A face is one colour."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_backend.engines import EngineError, EngineOutOfMemory
from gpen_backend.scheduling.batcher import Batcher, FaceQueueFull, TooLate

pytestmark = pytest.mark.anyio

SIZE = 2


def face(colour):
    """A face of one colour, 0 to 2**24 - 1."""
    channels = [colour >> 16, colour >> 8 & 255, colour & 255]
    return np.broadcast_to(np.array(channels, np.uint8), (SIZE, SIZE, 3)).copy()


def colour_of(pixels):
    red, green, blue = (int(value) for value in pixels[0, 0])
    return red << 16 | green << 8 | blue


class Fake:
    """Inverts faces. runs: the colours of each run. memory: most faces of a run. bad: colours that fail."""

    name = "fake"
    size = SIZE

    def __init__(self, memory=1000, bad=()):
        self.memory = memory
        self.bad = set(bad)
        self.runs = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def restore(self, faces):
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(20)
        colours = [colour_of(pixels) for pixels in faces]
        if len(faces) > self.memory:
            raise EngineOutOfMemory("no memory")
        self.runs.append(colours)
        if self.bad.intersection(colours):
            raise EngineError("a bad face")
        return 255 - faces


@asynccontextmanager
async def batching(engine, best=1, max_faces=1000, max_wait_s=0.0):
    with ThreadPoolExecutor(1) as network:
        batcher = Batcher(network, max_faces, max_wait_s)
        batcher.prepare(engine, best)
        yield batcher
        engine.gate.set()
        await batcher.close()


async def restore(batcher, engine, colours, deadline=None):
    """Restore faces of these colours and return the colours, inverted again."""
    batched = await batcher.restore(engine, [face(colour) for colour in colours], deadline)
    return [colour_of(255 - pixels) for pixels in batched.faces]


async def occupy(batcher, engine):
    """Occupy the network with a face of colour 0 until the gate opens."""
    engine.gate.clear()
    engine.entered.clear()
    first = asyncio.create_task(restore(batcher, engine, [0]))
    assert await asyncio.to_thread(engine.entered.wait, 20)
    return first


async def until_waiting(batcher, faces):
    """Wait until so many faces wait."""
    while batcher.waiting != faces:  # noqa: ASYNC110 - the batcher has no event for it
        await asyncio.sleep(0.001)


requests = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 3), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=60)
@given(asked=requests, best=st.integers(1, 8), memory=st.integers(1, 8), two_engines=st.booleans())
def test_requests_get_their_own_faces_in_any_order_of_arrival(asked, best, memory, two_engines):
    """Also if callers leave and memory is too small for a batch."""

    async def scenario():
        engines = [Fake(memory), Fake(memory)]
        async with batching(engines[0], best, max_wait_s=0.001) as batcher:
            batcher.prepare(engines[1], best)
            tasks = []
            for number, (count, pauses, leaves) in enumerate(asked):
                colours = [1 + 1000 * number + index for index in range(count)]
                engine = engines[number % 2 if two_engines else 0]
                task = asyncio.create_task(restore(batcher, engine, colours))
                tasks.append((task, colours, leaves))
                for _ in range(pauses):
                    await asyncio.sleep(0)
                if leaves:
                    task.cancel()
            for task, colours, leaves in tasks:
                if leaves:
                    await asyncio.gather(task, return_exceptions=True)
                else:
                    assert await task == colours
            assert batcher.waiting == 0
        for engine in engines:
            done = [colour for run in engine.runs for colour in run]
            assert len(done) == len(set(done))
            assert all(len(run) <= min(best, memory) for run in engine.runs)

    asyncio.run(scenario())


async def test_requests_share_a_run_and_report_its_size():
    engine = Fake()
    async with batching(engine, best=4) as batcher:
        first = await occupy(batcher, engine)
        tasks = [asyncio.create_task(batcher.restore(engine, [face(colour)])) for colour in (1, 2, 3)]
        await until_waiting(batcher, 3)
        engine.gate.set()
        answers = await asyncio.gather(*tasks)
        await first
    assert engine.runs == [[0], [1, 2, 3]]
    assert [answer.batch_size for answer in answers] == [3, 3, 3]
    assert all(answer.waited_ms >= 0 and answer.ran_ms >= 0 for answer in answers)


async def test_one_thread_makes_every_call_of_the_engine():
    engine = Fake()
    async with batching(engine, best=2) as batcher:
        await asyncio.gather(*(restore(batcher, engine, [colour]) for colour in range(20)))
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


async def test_a_request_with_many_faces_does_not_delay_single_ones():
    """Three requests that arrive after one with 29 faces are done after one round."""
    engine = Fake()
    crowd = list(range(100, 129))
    async with batching(engine) as batcher:
        first = await occupy(batcher, engine)
        tasks = [asyncio.create_task(restore(batcher, engine, crowd))]
        await until_waiting(batcher, 29)
        tasks += [asyncio.create_task(restore(batcher, engine, [colour])) for colour in (1, 2, 3)]
        await until_waiting(batcher, 32)
        engine.gate.set()
        assert await asyncio.gather(*tasks) == [crowd, [1], [2], [3]]
        await first
    assert [run[0] for run in engine.runs][:6] == [0, 100, 1, 2, 3, 101]


async def test_a_batch_takes_one_face_of_each_request_in_turn():
    engine = Fake()
    async with batching(engine, best=4) as batcher:
        first = await occupy(batcher, engine)
        tasks = [asyncio.create_task(restore(batcher, engine, colours)) for colours in ([10, 11, 12, 13, 14], [20, 21], [30])]  # fmt: skip  # noqa: E501
        await until_waiting(batcher, 8)
        engine.gate.set()
        await asyncio.gather(first, *tasks)
    assert engine.runs[1:] == [[10, 20, 30, 11], [21, 12, 13, 14]]


async def test_engines_take_turns():
    engines = [Fake(), Fake()]
    order = []
    for number, engine in enumerate(engines):
        inner = engine.restore
        engine.restore = lambda faces, number=number, inner=inner: (order.append(number), inner(faces))[1]
    async with batching(engines[0]) as batcher:
        first = await occupy(batcher, engines[0])
        tasks = [asyncio.create_task(restore(batcher, engines[0], [1, 2, 3, 4]))]
        await until_waiting(batcher, 4)
        tasks.append(asyncio.create_task(restore(batcher, engines[1], [5, 6])))
        await until_waiting(batcher, 6)
        engines[0].gate.set()
        await asyncio.gather(first, *tasks)
    assert order[:5] == [0, 0, 1, 0, 1] or order[:5] == [0, 1, 0, 1, 0]


async def test_a_batch_waits_for_more_until_it_is_full():
    """It may wait for a minute; the fourth face starts the run."""
    engine = Fake()
    async with batching(engine, best=4, max_wait_s=60) as batcher:
        tasks = [asyncio.create_task(restore(batcher, engine, [colour])) for colour in (1, 2, 3)]
        await until_waiting(batcher, 3)
        assert engine.runs == []
        tasks.append(asyncio.create_task(restore(batcher, engine, [4])))
        await asyncio.gather(*tasks)
    assert engine.runs == [[1, 2, 3, 4]]


async def test_an_incomplete_batch_runs_after_the_longest_wait():
    engine = Fake()
    async with batching(engine, best=4, max_wait_s=0.02) as batcher:
        assert await restore(batcher, engine, [7]) == [7]
    assert engine.runs == [[7]]


async def test_does_not_wait_if_one_face_is_the_best_batch():
    engine = Fake()
    async with batching(engine, best=1, max_wait_s=60) as batcher:
        assert await restore(batcher, engine, [1, 2]) == [1, 2]


async def test_does_not_run_the_faces_of_a_caller_that_left():
    engine = Fake()
    async with batching(engine, best=2) as batcher:
        first = await occupy(batcher, engine)
        leaver = asyncio.create_task(restore(batcher, engine, [1, 2, 3]))
        stays = asyncio.create_task(restore(batcher, engine, [4]))
        await until_waiting(batcher, 4)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        assert batcher.waiting == 1
        engine.gate.set()
        assert await stays == [4]
        await first
    assert engine.runs == [[0], [4]]


async def test_stops_running_the_faces_of_a_caller_that_leaves_halfway():
    engine = Fake()
    async with batching(engine) as batcher:
        leaver = await occupy(batcher, engine)
        crowd = asyncio.create_task(restore(batcher, engine, range(1, 20)))
        await until_waiting(batcher, 19)
        engine.gate.set()
        await leaver
        crowd.cancel()
        await asyncio.gather(crowd, return_exceptions=True)
        assert await restore(batcher, engine, [99]) == [99]
    assert len(engine.runs) < 19


async def test_raises_at_the_deadline_and_drops_the_work():
    """Even while another run occupies the network."""
    engine = Fake()
    async with batching(engine) as batcher:
        first = await occupy(batcher, engine)
        with pytest.raises(TooLate):
            await restore(batcher, engine, [1], deadline=time.monotonic() + 0.02)
        with pytest.raises(TooLate):
            await restore(batcher, engine, [2], deadline=time.monotonic() - 1)
        engine.gate.set()
        await first
        assert await restore(batcher, engine, [3], deadline=time.monotonic() + 60) == [3]
    assert engine.runs == [[0], [3]]


async def test_a_full_queue_rejects_at_once_and_recovers():
    engine = Fake()
    async with batching(engine, max_faces=4) as batcher:
        first = await occupy(batcher, engine)
        waits = asyncio.create_task(restore(batcher, engine, [1, 2, 3]))
        await until_waiting(batcher, 3)
        with pytest.raises(FaceQueueFull, match="3 faces are waiting"):
            await restore(batcher, engine, [4, 5])
        fits = asyncio.create_task(restore(batcher, engine, [6]))
        await until_waiting(batcher, 4)
        engine.gate.set()
        assert await asyncio.gather(first, waits, fits) == [[0], [1, 2, 3], [6]]
        assert await restore(batcher, engine, [7]) == [7]


async def test_accepts_more_faces_than_the_queue_holds_while_none_waits():
    engine = Fake()
    async with batching(engine, max_faces=2) as batcher:
        assert await restore(batcher, engine, [1, 2, 3, 4]) == [1, 2, 3, 4]


async def test_out_of_memory_halves_the_batch_and_it_grows_again():
    engine = Fake(memory=2)
    async with batching(engine, best=8) as batcher:
        assert await restore(batcher, engine, range(1, 9)) == list(range(1, 9))
        assert [len(run) for run in engine.runs] == [2, 2, 2, 2]
        engine.memory, engine.runs = 1000, []
        await restore(batcher, engine, range(1, 201))
    assert sum(len(run) for run in engine.runs) == 200
    assert max(len(run) for run in engine.runs) == 8
    assert len(engine.runs[0]) == 2


async def test_a_single_face_that_exceeds_the_memory_fails():
    engine = Fake(memory=0)
    async with batching(engine, best=4) as batcher:
        with pytest.raises(EngineOutOfMemory):
            await restore(batcher, engine, [1])
        engine.memory = 1
        assert await restore(batcher, engine, [2]) == [2]


async def test_a_bad_face_fails_only_its_own_request():
    engine = Fake(bad={2})
    async with batching(engine, best=4) as batcher:
        first = await occupy(batcher, engine)
        tasks = [asyncio.create_task(restore(batcher, engine, [colour])) for colour in (1, 2, 3)]
        await until_waiting(batcher, 3)
        engine.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await first
    assert outcomes[0] == [1]
    assert isinstance(outcomes[1], EngineError)
    assert outcomes[2] == [3]


async def test_does_not_run_the_rest_of_a_failed_request():
    engine = Fake(bad={1})
    async with batching(engine) as batcher:
        with pytest.raises(EngineError, match="a bad face"):
            await restore(batcher, engine, range(1, 9))
        assert await restore(batcher, engine, [100]) == [100]
    assert engine.runs == [[1], [100]]


async def test_a_result_of_another_shape_is_an_error():
    engine = Fake()
    engine.restore = lambda faces: faces[:, :1]
    async with batching(engine) as batcher:
        with pytest.raises(EngineError, match="the engine returned"):
            await restore(batcher, engine, [1])


async def test_closing_runs_waiting_faces_and_rejects_new_ones():
    engine = Fake()
    async with batching(engine, best=2, max_wait_s=60) as batcher:
        first = asyncio.create_task(restore(batcher, engine, [1, 2, 3]))
        await until_waiting(batcher, 1)
        closing = asyncio.create_task(batcher.close())
        assert await first == [1, 2, 3]
        await closing
        with pytest.raises(FaceQueueFull):
            await restore(batcher, engine, [4])


async def test_a_missing_thread_is_an_error():
    engine, network = Fake(), ThreadPoolExecutor(1)
    batcher = Batcher(network, 10, 0)
    network.shutdown()
    with pytest.raises(RuntimeError):
        await restore(batcher, engine, [1])
    await batcher.close()
