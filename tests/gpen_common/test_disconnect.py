"""while_connected cancels its block when the client disconnects."""

import asyncio

import pytest

from gpen_common.disconnect import ClientLeft, while_connected

pytestmark = pytest.mark.anyio


def receiver(*messages):
    """An ASGI `receive` that gives these messages, then blocks."""
    queue = asyncio.Queue()
    for message in messages:
        queue.put_nowait({"type": message})
    return queue.get


async def test_cancels_the_block_when_the_client_disconnects():
    async def work():
        async with while_connected(receiver("http.request", "http.disconnect")):
            try:
                await asyncio.sleep(20)
            finally:
                ended.set()

    ended = asyncio.Event()
    with pytest.raises(ClientLeft):
        await work()
    assert ended.is_set()


async def test_a_block_that_ends_first_stops_the_watcher():
    before = asyncio.all_tasks()
    async with while_connected(receiver("http.request")):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("error", [TimeoutError("its own"), ValueError("its own"), asyncio.CancelledError()])
async def test_errors_of_the_block_pass_unchanged(error):
    with pytest.raises(type(error)) as raised:
        async with while_connected(receiver()):
            raise error
    assert raised.value is error


async def test_cancelling_the_caller_is_not_a_disconnect():
    async def work():
        async with while_connected(receiver()):
            await asyncio.sleep(20)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
