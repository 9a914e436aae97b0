"""The client's requests, and what it reads from answers."""

import asyncio

import httpx
import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import (
    BackendProtocolError,
    ModelNotFound,
)
from gpen_client.wire.messages import (
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    read_header_length,
)
from gpen_common.types import ModelInfo, RestoreParams
from tests.support.negative_backend import (
    IMAGE,
    answering,
    behave,
    mocked,
    negative,
    restore,
    restore_from,
)
from tests.support.sockets import Call, http, run_server

pytestmark = pytest.mark.anyio


async def test_returns_the_pixels_and_what_the_backend_reports():
    restored = await restore_from(behave, request_id="r-1")
    np.testing.assert_array_equal(restored.pixels, 255 - IMAGE, strict=True)
    assert (restored.engine, restored.model, restored.faces, restored.batch_size) == (
        "torch",
        "gpen-bfr-512",
        2,
        3,
    )
    assert restored.timings_ms == {"align": 1.5, "network": 20.0}


async def test_sends_picture_landmarks_parameters_deadline_and_id():
    calls = []

    async def record(call: Call, writer: asyncio.StreamWriter) -> None:
        calls.append(call)
        await behave(call, writer)

    landmarks = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    params = RestoreParams(strength=55, mode="strong", auto_align=False)
    await restore_from(
        record, landmarks=landmarks, params=params, model="gpen/x y", request_id="r-1", timeout_s=9.5
    )

    (call,) = calls
    assert (call.method, call.path) == ("POST", "/v2/models/gpen%2Fx%20y/infer")
    assert call.headers["x-request-id"] == "r-1"
    request = decode_request(call.body, read_header_length(call.headers))
    np.testing.assert_array_equal(request.tensor("image"), IMAGE[np.newaxis], strict=True)
    np.testing.assert_array_equal(request.tensor("landmarks"), landmarks, strict=True)
    assert request.parameters == params.model_dump(exclude_none=True) | {"timeout_ms": 9500}
    assert "inference_size" not in request.parameters
    assert (request.id, request.outputs, request.binary_output) == ("r-1", ["image"], True)


async def test_sends_no_cookies_back():
    """A load balancer's cookie would send all further requests to one backend."""
    calls = []

    async def set_cookie(call: Call, writer: asyncio.StreamWriter) -> None:
        calls.append(call)
        headers, body = negative(call.headers, call.body)
        writer.write(http(200, {**headers, "Set-Cookie": "backend=1; Path=/"}, body))

    async with run_server(set_cookie) as url, GpenClient(url) as client:
        for _ in range(2):
            await restore(client)
    assert len(calls) == 2
    assert not any("cookie" in call.headers for call in calls)


async def test_concurrent_restorations_get_their_own_pictures():
    """Calls share the pool and are answered in any order."""

    async def shuffle(call: Call, writer: asyncio.StreamWriter) -> None:
        image = decode_request(call.body, read_header_length(call.headers)).tensor("image")
        assert image is not None
        await asyncio.sleep(image.flat[0] % 7 / 100)
        await behave(call, writer)

    async with run_server(shuffle) as url, GpenClient(url, max_connections=8) as client:
        images = [np.full((3, 3, 3), value, np.uint8) for value in range(40)]
        restored = await asyncio.gather(*(restore(client, image=image) for image in images))
    for image, answer in zip(images, restored, strict=True):
        np.testing.assert_array_equal(answer.pixels, 255 - image)


async def test_reads_a_json_answer():
    tensors = [Tensor("image", np.full((1, 64, 64, 3), 255, np.uint8))]
    async with answering(InferResponse("m", tensors), binary=False) as client:
        restored = await restore(client, image=np.zeros((64, 64, 3), np.uint8))
    assert (restored.pixels == 255).all()


async def test_a_foreign_server_needs_none_of_our_parameters():
    """Its platform is the engine, and is looked up once."""
    asked = []

    def foreign(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method == "GET":
            return httpx.Response(
                200, json={"name": "m", "platform": "tensorrt_plan", "inputs": [], "outputs": []}
            )
        headers, body = encode_response(InferResponse("theirs", [Tensor("image", IMAGE[np.newaxis])]), True)
        return httpx.Response(200, headers=headers, content=body)

    async with mocked(foreign) as client:
        restored = [await restore(client) for _ in range(2)]
    for answer in restored:
        assert (answer.engine, answer.model, answer.faces, answer.batch_size) == (
            "tensorrt_plan",
            "theirs",
            0,
            0,
        )
        assert answer.timings_ms == {}
    assert asked == ["POST", "GET", "POST"]


async def test_the_engine_of_a_foreign_server_without_descriptions_is_unknown():
    def foreign(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404)
        headers, body = encode_response(InferResponse("", [Tensor("image", IMAGE[np.newaxis])]), True)
        return httpx.Response(200, headers=headers, content=body)

    async with mocked(foreign) as client:
        restored = await restore(client, model="mine")
    assert (restored.engine, restored.model) == ("unknown", "mine")


async def test_puts_the_path_of_the_base_url_first():
    paths = []
    async with GpenClient(
        "http://backend/gpen/",
        transport=httpx.MockTransport(lambda r: paths.append(r.url.path) or httpx.Response(200)),
    ) as client:
        assert await client.live()
    assert paths == ["/gpen/v2/health/live"]


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_rejects_a_model_name_that_would_leave_the_path(name):
    async with mocked(lambda request: httpx.Response(200)) as client:
        with pytest.raises(ModelNotFound):
            await restore(client, model=name)


@pytest.mark.parametrize(("status", "truth"), [(200, True), (400, False), (503, False), (500, False)])
async def test_health_is_true_for_2xx_only(status, truth):
    async with mocked(lambda request: httpx.Response(status, json={"error": "no"})) as client:
        assert await client.live() is truth
        assert await client.ready() is truth


async def test_an_unreachable_backend_is_neither_live_nor_ready():
    async with run_server(behave) as url:
        pass
    async with GpenClient(url) as client:
        assert not await client.live()
        assert not await client.ready()


def described(request: httpx.Request) -> httpx.Response:
    match request.url.path.removeprefix("/v2/models/"):
        case "ours":
            parameters = {"size": 512, "default": True}
            return httpx.Response(200, json={"name": "ours", "platform": "onnx", "parameters": parameters})
        case "ours/ready" | "theirs":
            return httpx.Response(200, json={"name": "theirs", "versions": None, "inputs": []})
        case "theirs/ready":
            return httpx.Response(503, json={"error": "loading"})
        case "broken":
            return httpx.Response(200, json={"platform": 7})
        case _:
            return httpx.Response(404, json={"error": "no such model; available: ours, theirs"})


async def test_describes_a_model():
    async with mocked(described) as client:
        assert await client.model("ours") == ModelInfo(
            "ours", ready=True, engine="onnx", size=512, default=True
        )
        theirs = await client.model("theirs")
        assert (theirs.ready, theirs.engine, theirs.size) == (False, "unknown", None)
        assert "loading" in (theirs.reason or "")


async def test_an_unknown_model_is_not_found_and_the_error_lists_the_others():
    async with mocked(described) as client:
        with pytest.raises(ModelNotFound, match="available: ours, theirs"):
            await client.model("x")


async def test_an_invalid_description_is_a_protocol_error():
    async with mocked(described) as client:
        with pytest.raises(BackendProtocolError, match="broken"):
            await client.model("broken")


async def test_describes_those_models_that_exist():
    async with mocked(described) as client:
        assert [model.name for model in await client.models(["theirs", "x", "ours", ""])] == [
            "theirs",
            "ours",
        ]
