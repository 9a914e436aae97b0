"""The app, embedded and in a process."""

import asyncio

import httpx
import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import ModelNotFound
from gpen_common.types import RestoreParams
from tests.support.backend import (
    INFER,
    LANDMARKS,
    MODEL,
    PHOTO,
    decode,
    message,
    run_app,
    run_backend,
)

pytestmark = pytest.mark.anyio


async def test_an_embedded_app_restores():
    async with (
        run_app() as app,
        GpenClient("http://backend", transport=httpx.ASGITransport(app)) as client,
    ):
        assert await client.ready()
        params = RestoreParams(strength=100, brightness=30)
        restored = await client.restore(PHOTO, LANDMARKS, params, model=MODEL, timeout_s=20)
        assert restored.pixels.shape == PHOTO.shape
        assert (restored.engine, restored.model, restored.faces, restored.batch_size) == (
            "classical",
            MODEL,
            1,
            1,
        )
        assert {"decode", "align", "network", "paste", "adjust"} <= set(restored.timings_ms)
        same = await client.restore(PHOTO, LANDMARKS, RestoreParams(strength=0), model=MODEL, timeout_s=20)
        np.testing.assert_array_equal(same.pixels, PHOTO)
        with pytest.raises(ModelNotFound, match="available: gpen-bfr-256, gpen-bfr-512"):
            await client.model("gpen-bfr-9000")


@pytest.mark.parametrize("path", ["/v2", "/nowhere"])
async def test_every_response_has_the_requests_id(path):
    async with run_backend() as (client, _):
        answer = await client.get(path, headers={"X-Request-ID": "abc-123"})
    assert answer.headers["X-Request-ID"] == "abc-123"


async def test_an_unsafe_request_id_is_not_repeated():
    async with run_backend() as (client, _):
        answer = await client.get("/v2", headers={"X-Request-ID": "<script>"})
    assert "X-Request-ID" not in answer.headers


async def test_a_restoration_has_the_id_of_its_message():
    async with run_backend() as (client, _):
        assert decode(await client.post(INFER, **message())).id == "42"


async def test_a_process_restores_over_a_socket(backend_process):
    async with GpenClient(backend_process) as client:
        assert await client.live()
        assert await client.ready()
        assert [model.name for model in await client.models([MODEL, "x"])] == [MODEL]
        pictures = [np.roll(PHOTO, shift, 1) for shift in range(6)]
        params = RestoreParams(strength=100, sharpen=20)
        answers = await asyncio.gather(
            *(
                client.restore(p, LANDMARKS, params, model=MODEL, timeout_s=30, request_id="r1")
                for p in pictures
            )
        )
        for picture, answer in zip(pictures, answers, strict=True):
            assert answer.pixels.shape == picture.shape
            assert answer.faces == 1


async def test_serves_on_after_a_client_hung_up(backend_process):
    host, port = backend_process.removeprefix("http://").split(":")
    asked = message()
    head = "".join(f"{name}: {value}\r\n" for name, value in asked["headers"].items())
    for body in (asked["content"], asked["content"][:100]):
        _, writer = await asyncio.open_connection(host, int(port))
        start = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(asked['content'])}\r\n\r\n"
        writer.write(start.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with httpx.AsyncClient(base_url=backend_process) as client:
        answer = await client.post(INFER, **asked)
        assert answer.status_code == 200
        assert decode(answer).id == "42"
