"""Queues, deadlines and shared runs, as clients see them."""

import asyncio

import httpx
import numpy as np
import pytest

from gpen_backend.engines import EngineError
from tests.support.backend import (
    INFER,
    LANDMARKS,
    MODEL,
    PHOTO,
    Gate,
    decode,
    error_of,
    message,
    run_app,
    run_backend,
    serve_app,
    until,
)

pytestmark = pytest.mark.anyio


async def test_restores_nothing_without_landmarks():
    gate = Gate()
    async with run_backend(gate) as (client, _):
        answer = await client.post(INFER, **message(landmarks=None, brightness=50, auto_align=True))
        response = decode(answer)
        assert response.parameters["faces"] == 0
        assert response.tensor("image").mean() > PHOTO.mean()
        assert gate.runs == 0


@pytest.mark.parametrize("error", [EngineError("the device is gone"), ZeroDivisionError(), MemoryError()])
async def test_a_failing_engine_fails_its_request_but_not_the_server(error):
    gate = Gate(error)
    gate.opened.set()
    async with run_backend(gate) as (client, _):
        answer = await client.post(INFER, **message())
        assert answer.status_code == 500
        assert MODEL in error_of(answer)
        gate.error = None
        assert (await client.post(INFER, **message())).status_code == 200


async def test_drops_queued_work_after_its_deadline():
    gate = Gate()
    async with run_backend(gate) as (client, _):
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        second = asyncio.create_task(client.post(INFER, **message(timeout_ms=50)))
        await asyncio.sleep(0.2)
        gate.opened.set()
        assert (await first).status_code == 200
        answer = await second
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "deadline" in error_of(answer)
        assert gate.runs == 1


async def test_does_not_start_work_of_a_caller_that_left():
    gate = Gate()
    async with run_backend(gate) as (client, service):
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        leaver = asyncio.create_task(client.post(INFER, **message()))
        await until(lambda: service.faces_waiting > 0)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200
        assert gate.runs == 2


async def test_does_not_start_work_of_a_client_that_closed_its_socket():
    gate = Gate()
    async with run_app(gate) as app, serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        service = app.state.service
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        leaver = asyncio.create_task(client.post(INFER, **message()))
        await until(lambda: service.faces_waiting > 0)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        await until(lambda: service.admitted == 1)
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200
        assert gate.runs == 2


async def test_a_full_queue_answers_429_and_stays_healthy():
    gate = Gate()
    async with run_backend(gate, max_queue=1) as (client, _):
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        answer = await client.post(INFER, **message())
        assert answer.status_code == 429
        assert answer.headers["Retry-After"]
        error_of(answer)
        assert (await client.get("/v2/health/live")).status_code == 200
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200


async def test_a_full_queue_of_faces_answers_429():
    gate = Gate()
    async with run_backend(gate, max_faces_waiting=2) as (client, service):
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        waits = asyncio.create_task(client.post(INFER, **message(landmarks=np.repeat(LANDMARKS, 2, 0))))
        await until(lambda: service.faces_waiting == 2)
        answer = await client.post(INFER, **message())
        assert answer.status_code == 429
        assert answer.headers["Retry-After"]
        assert "2 faces are waiting" in error_of(answer)
        gate.opened.set()
        assert [(await task).status_code for task in (first, waits)] == [200, 200]


async def test_requests_share_a_run_and_report_its_size():
    gate = Gate()
    async with run_backend(gate, best=4) as (client, service):
        first = asyncio.create_task(client.post(INFER, **message()))
        await gate.until_entered()
        others = [asyncio.create_task(client.post(INFER, **message())) for _ in range(3)]
        await until(lambda: service.faces_waiting == 3)
        gate.opened.set()
        await first
        for answer in await asyncio.gather(*others):
            assert decode(answer).parameters["batch_size"] == 3
        assert gate.runs == 2


async def test_concurrent_requests_get_their_own_pixels():
    gate = Gate()
    gate.opened.set()
    async with run_backend(gate) as (client, _):
        asked = [np.full((90, 90, 3), value, np.uint8) for value in range(0, 240, 10)]
        answers = await asyncio.gather(*(client.post(INFER, **message(image, skin_protect=False, mode="strong", strength=100)) for image in asked))  # fmt: skip  # noqa: E501
        for image, answer in zip(asked, answers, strict=True):
            pixels = decode(answer).tensor("image")[0]
            assert pixels[0, 0, 0] == image[0, 0, 0]
            assert abs(int(pixels[52, 52, 0]) - (255 - image[0, 0, 0])) <= 1
