"""The cache of the backend's models: freshness, background refreshes and failures."""

import asyncio

import httpx
import pytest

from gateway.errors import BackendAway
from gateway.upstream.model_list import ModelList
from gpen_client.client import GpenClient

pytestmark = pytest.mark.anyio

NAMES = ["gpen-bfr-256", "gpen-bfr-512"]


class OneModelBackend:
    """A backend with one model. It hangs while `gate` is clear, and refuses connections while `away`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False
        self.asked = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200 if NAMES[1] in request.url.path else 404, json={"platform": "echo"})


@pytest.fixture(autouse=True)
def never_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list is stale at once."""
    monkeypatch.setattr("gateway.upstream.model_list._FRESH_S", 0.0)
    monkeypatch.setattr("gateway.upstream.model_list._PAUSE_S", -1.0)


@pytest.fixture
async def backend():
    return OneModelBackend()


@pytest.fixture
async def model_list(backend):
    async with GpenClient("http://backend", transport=httpx.MockTransport(backend)) as client:
        model_list = ModelList(client, NAMES)
        yield model_list
        await model_list.close()


async def names(waiting) -> list[str]:
    return [model.name for model in await waiting]


async def test_concurrent_callers_share_one_refresh(backend, model_list):
    answers = await asyncio.gather(*(names(model_list.get()) for _ in range(20)))
    assert answers == [[NAMES[1]]] * 20
    # Two descriptions, and whether the one that exists is ready.
    assert backend.asked == 3


async def test_cancelled_caller_does_not_cancel_the_refresh(backend, model_list):
    backend.gate.clear()
    first, second = (asyncio.create_task(names(model_list.get_fresh())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    backend.gate.set()
    assert await second == [NAMES[1]]


async def test_stale_list_is_returned_while_the_backend_hangs_or_fails(backend, model_list):
    await model_list.get_fresh()
    backend.gate.clear()
    asked = backend.asked
    for _ in range(3):
        assert await names(model_list.get()) == [NAMES[1]]
        await asyncio.sleep(0)
    backend.away = True
    backend.gate.set()
    with pytest.raises(BackendAway):
        await model_list.get_fresh()
    assert await names(model_list.get()) == [NAMES[1]]
    assert backend.asked > asked


async def test_old_list_is_refreshed_first_and_used_if_that_fails(backend, model_list, monkeypatch):
    await model_list.get_fresh()
    monkeypatch.setattr("gateway.upstream.model_list._STALE_S", -1.0)
    asked = backend.asked
    await model_list.get()
    assert backend.asked == asked + 3
    backend.away = True
    assert await names(model_list.get()) == [NAMES[1]]


async def test_failure_without_a_cached_list_is_raised_and_retried(backend, model_list):
    backend.away = True
    for wait in (model_list.get_fresh, model_list.get):
        with pytest.raises(BackendAway):
            await wait()
    backend.away = False
    assert await names(model_list.get()) == [NAMES[1]]


async def test_fresh_list_is_not_refreshed(backend, model_list, monkeypatch):
    monkeypatch.setattr("gateway.upstream.model_list._FRESH_S", 600.0)
    for _ in range(3):
        await model_list.get_fresh()
        await model_list.get()
    assert backend.asked == 3


async def test_close_cancels_a_running_refresh(backend, model_list):
    backend.gate.clear()
    waiting = asyncio.create_task(model_list.get_fresh())
    await asyncio.sleep(0)
    await model_list.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
