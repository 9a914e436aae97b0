"""The server as its callers meet it: embedded, and as a process of its own behind a socket."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import torch
import uvicorn
from pydantic import ValidationError

from gpen_backend.app import create_app
from gpen_backend.engines import EngineError
from gpen_backend.restoration.align import template
from gpen_backend.settings import BackendSettings
from gpen_client.client import GpenClient
from gpen_client.errors import BackendUnavailable, ModelNotFound
from gpen_client.wire.messages import InferRequest, Tensor, decode_response, encode_request
from gpen_common.types import RestoreParams

pytestmark = pytest.mark.anyio

MODEL = "gpen-bfr-256"
INFER = f"/v2/models/{MODEL}/infer"
LANDMARKS = (template(64) + 20)[None].astype(np.float32)
PHOTO = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


@asynccontextmanager
async def serving(**settings) -> AsyncIterator[tuple[httpx.AsyncClient, object]]:
    """The app embedded as a gateway embeds it; gives a client and the running service."""
    app = create_app(BackendSettings(**{"engine": "classical", "threads": 2, **settings}))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://backend") as client,
    ):
        yield client, app.state.service


def message(image: np.ndarray | None = PHOTO, landmarks: np.ndarray | None = LANDMARKS, **parameters) -> dict:
    """Arguments of `client.post` for one restoration."""
    tensors = [] if image is None else [Tensor("image", image[None])]
    if landmarks is not None:
        tensors.append(Tensor("landmarks", landmarks))
    headers, pieces = encode_request(InferRequest(tensors, parameters, id="42"))
    return {"headers": headers, "content": b"".join(pieces)}


def error_of(answer: httpx.Response) -> str:
    """The error's sentence; every answer that is no success must have this one shape."""
    body = answer.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    return body["error"]


class Gate:
    """An engine that waits until it is told to go on, or fails."""

    name = "gate"
    size = 64

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.runs = 0

    def restore(self, faces):
        self.runs += 1
        self.entered.set()
        assert self.opened.wait(20)
        if self.error:
            raise self.error
        return 255 - faces


def install(service, engine) -> None:
    service.models._engines[MODEL] = engine


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


async def test_metadata():
    async with serving() as (client, _):
        assert (await client.get("/v2")).json()["extensions"] == ["binary_tensor_data"]
        assert (await client.get("/v2/health/live")).status_code == 200
        assert (await client.get("/v2/health/ready")).status_code == 200
        assert (await client.get("/v2/models/gpen-bfr-512/ready")).status_code == 200
        model = (await client.get("/v2/models/gpen-bfr-512")).json()
        assert model["platform"] == "classical"
        assert model["parameters"] == {"size": 512, "default": True, "task": "restore"}
        assert [tensor["name"] for tensor in model["inputs"]] == ["image", "landmarks"]
        assert model["outputs"] == [{"name": "image", "datatype": "UINT8", "shape": [1, -1, -1, 3]}]


async def test_the_client_restores_through_the_embedded_app():
    app = create_app(BackendSettings(engine="classical"))
    async with app.router.lifespan_context(app):
        client = GpenClient("http://backend", transport=httpx.ASGITransport(app))
        async with client:
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
            same = await client.restore(
                PHOTO, LANDMARKS, RestoreParams(strength=0), model=MODEL, timeout_s=20
            )
            np.testing.assert_array_equal(same.pixels, PHOTO)
            with pytest.raises(ModelNotFound, match="available: gpen-bfr-256, gpen-bfr-512"):
                await client.model("gpen-bfr-9000")


async def test_json_tensors_work_as_bytes_do():
    small, landmarks = PHOTO[:40, :48], LANDMARKS / 2
    asked = {
        "id": "7",
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [1, 40, 48, 3], "data": small.ravel().tolist()},
            {"name": "landmarks", "datatype": "FP32", "shape": [1, 5, 2], "data": landmarks.ravel().tolist()},
        ],
    }
    async with serving() as (client, _):
        answer = await client.post(INFER, json=asked)
        assert answer.status_code == 200
        body = answer.json()
        assert body["id"] == "7"
        assert body["parameters"]["faces"] == 1
        in_json = np.array(body["outputs"][0]["data"], np.uint8).reshape(body["outputs"][0]["shape"])
        answer = await client.post(INFER, **message(small, landmarks))
        in_bytes = decode_response(answer.content, int(answer.headers["Inference-Header-Content-Length"]))
        np.testing.assert_array_equal(in_json, in_bytes.tensor("image"))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (message(strength=101), "strength.*less than or equal to 100"),
        (message(stregth=10), "unknown parameter 'stregth'; the parameters are strength,"),
        (message(mode="wild"), "mode"),
        (message(timeout_ms=-1), "timeout_ms"),
        (message(timeout_ms=True), "timeout_ms"),
        (message(inference_size=512), "inference_size.*256"),
        (message(image=None), "image is missing"),
        (message(PHOTO[..., 0]), r"image must be UINT8 \[1, H, W, 3\]"),
        (message(PHOTO.astype(np.float32)), "image must be UINT8"),
        (message(PHOTO[:0]), "no pixels"),
        (message(np.zeros((200, 200, 3), np.uint8)), "40000 pixels.*20000"),
        (message(landmarks=LANDMARKS[0]), r"landmarks must be FP32 \[F, 5, 2\]"),
        (message(landmarks=LANDMARKS.astype(np.float64)), "landmarks must be FP32"),
        (message(landmarks=np.repeat(LANDMARKS, 9, 0)), "9 faces.*8"),
        ({"json": {"inputs": [{"name": "imago", "shape": [1], "datatype": "UINT8", "data": [1]}]}}, "imago"),
        ({"json": {"inputs": [], "outputs": [{"name": "mask"}]}}, "only output is image"),
        ({"content": b"\xff\xd8\xff not a message"}, "."),
        ({"content": b"{}", "headers": {"Inference-Header-Content-Length": "minus one"}}, "no length"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_sentence(asked, sentence):
    async with serving(max_pixels=20_000, max_faces=8) as (client, _):
        answer = await client.post(INFER, **asked)
        assert answer.status_code == 400
        assert re.search(sentence, error_of(answer))


async def test_unknown_models_routes_and_methods_have_the_protocols_error():
    async with serving() as (client, _):
        for path in ("/v2/models/x", "/v2/models/x/ready"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert "available: gpen-bfr-256," in error_of(answer)
        assert (await client.post("/v2/models/x/infer", **message())).status_code == 404
        for path in ("/", "/v2/", "/v3", "/v2/models"):
            answer = await client.get(path)
            assert answer.status_code == 404
            error_of(answer)
        answer = await client.get(INFER)
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]
        error_of(answer)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused_before_it_is_read(declared):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(1000)

    headers = {"Content-Length": "1000000"} if declared else {}
    async with serving(max_body_bytes=10_000) as (client, _):
        answer = await client.post(INFER, content=endless(), headers=headers)
        assert answer.status_code == 413
        assert "10000 bytes" in error_of(answer)


async def test_the_request_id_comes_back_on_every_answer():
    async with serving() as (client, _):
        for path in ("/v2", "/nowhere"):
            answer = await client.get(path, headers={"X-Request-ID": "abc-123"})
            assert answer.headers["X-Request-ID"] == "abc-123"
        answer = await client.get("/v2", headers={"X-Request-ID": "<script>" + "x" * 500})
        assert "X-Request-ID" not in answer.headers
        asked = message()
        answer = await client.post(INFER, **asked)
        length = int(answer.headers["Inference-Header-Content-Length"])
        assert decode_response(answer.content, length).id == "42"


async def test_without_landmarks_nothing_is_restored():
    async with serving() as (client, service):
        gate = Gate()
        install(service, gate)
        answer = await client.post(INFER, **message(landmarks=None, brightness=50, auto_align=True))
        response = decode_response(answer.content, int(answer.headers["Inference-Header-Content-Length"]))
        assert response.parameters["faces"] == 0
        assert response.tensor("image").mean() > PHOTO.mean()
        assert gate.runs == 0


@pytest.mark.parametrize("error", [EngineError("the device is gone"), ZeroDivisionError(), MemoryError()])
async def test_a_failing_engine_costs_its_request_and_not_the_server(error):
    async with serving() as (client, service):
        gate = Gate(error)
        gate.opened.set()
        install(service, gate)
        answer = await client.post(INFER, **message())
        assert answer.status_code == 500
        assert MODEL in error_of(answer)
        gate.error = None
        assert (await client.post(INFER, **message())).status_code == 200


async def test_work_whose_deadline_passed_in_the_queue_is_dropped():
    async with serving() as (client, service):
        gate = Gate()
        install(service, gate)
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        second = asyncio.create_task(client.post(INFER, **message(timeout_ms=50)))
        await asyncio.sleep(0.2)
        gate.opened.set()
        assert (await first).status_code == 200
        answer = await second
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "deadline" in error_of(answer)
        assert gate.runs == 1


async def test_queued_work_of_a_caller_who_left_is_not_started():
    async with serving() as (client, service):
        gate = Gate()
        install(service, gate)
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        leaver = asyncio.create_task(client.post(INFER, **message()))
        while service._batcher.waiting == 0:  # noqa: ASYNC110 - the queue tells nobody
            await asyncio.sleep(0.01)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200
        assert gate.runs == 2


async def test_queued_work_of_a_caller_who_hung_up_a_socket_is_not_started():
    app = create_app(BackendSettings(engine="classical"))
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    service, gate = app.state.service, Gate()
    install(service, gate)
    port = running.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        leaver = asyncio.create_task(client.post(INFER, **message()))
        while service._batcher.waiting == 0:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        leaver.cancel()
        await asyncio.gather(leaver, return_exceptions=True)
        while service._taken > 1:  # noqa: ASYNC110 - until the server has noticed
            await asyncio.sleep(0.01)
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200
    assert gate.runs == 2
    running.should_exit = True
    await task


async def test_a_full_queue_answers_429_while_health_stays_green():
    async with serving(max_queue=1) as (client, service):
        gate = Gate()
        install(service, gate)
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        answer = await client.post(INFER, **message())
        assert answer.status_code == 429
        assert answer.headers["Retry-After"]
        error_of(answer)
        assert (await client.get("/v2/health/live")).status_code == 200
        gate.opened.set()
        assert (await first).status_code == 200
        assert (await client.post(INFER, **message())).status_code == 200


async def test_more_faces_than_may_wait_get_429():
    async with serving(max_faces_waiting=2) as (client, service):
        gate = Gate()
        install(service, gate)
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        waits = asyncio.create_task(client.post(INFER, **message(landmarks=np.repeat(LANDMARKS, 2, 0))))
        while service._batcher.waiting != 2:  # noqa: ASYNC110 - the queue tells nobody
            await asyncio.sleep(0.01)
        answer = await client.post(INFER, **message())
        assert answer.status_code == 429
        assert answer.headers["Retry-After"]
        assert "2 faces are waiting" in error_of(answer)
        gate.opened.set()
        assert [(await task).status_code for task in (first, waits)] == [200, 200]


async def test_requests_share_a_run_of_the_network_and_are_told_its_size():
    async with serving() as (client, service):
        gate = Gate()
        install(service, gate)
        service._batcher.prepare(gate, 4)
        first = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        others = [asyncio.create_task(client.post(INFER, **message())) for _ in range(3)]
        while service._batcher.waiting != 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        gate.opened.set()
        await first
        for answer in await asyncio.gather(*others):
            length = int(answer.headers["Inference-Header-Content-Length"])
            assert decode_response(answer.content, length).parameters["batch_size"] == 3
        assert gate.runs == 2


async def test_a_face_alone_needs_no_queue_where_any_thread_may_restore_it():
    """A crowd waits its turn all the same, so that it keeps no thread from the others."""
    async with serving() as (client, service):
        gate = Gate()
        gate.concurrent = True
        install(service, gate)
        crowd = asyncio.create_task(client.post(INFER, **message(landmarks=np.repeat(LANDMARKS, 3, 0))))
        await until(gate.entered)
        gate.entered.clear()
        alone = asyncio.create_task(client.post(INFER, **message()))
        await until(gate.entered)
        assert service._batcher.waiting == 2
        gate.opened.set()
        for answer, waited in ((await crowd, True), (await alone, False)):
            length = int(answer.headers["Inference-Header-Content-Length"])
            told = decode_response(answer.content, length).parameters
            assert (told["batch_size"], "queue_ms" in told) == (1, waited)


async def test_concurrent_callers_get_their_own_pixels():
    async with serving() as (client, service):
        gate = Gate()
        gate.opened.set()
        install(service, gate)
        asked = [np.full((90, 90, 3), value, np.uint8) for value in range(0, 240, 10)]
        answers = await asyncio.gather(*(client.post(INFER, **message(image, skin_protect=False, mode="strong", strength=100)) for image in asked))  # fmt: skip  # noqa: E501
        for image, answer in zip(asked, answers, strict=True):
            length = int(answer.headers["Inference-Header-Content-Length"])
            pixels = decode_response(answer.content, length).tensor("image")[0]
            assert pixels[0, 0, 0] == image[0, 0, 0]
            assert abs(int(pixels[52, 52, 0]) - (255 - image[0, 0, 0])) <= 1


async def test_torch_without_its_checkpoint_is_not_ready_and_says_why(tmp_path):
    async with serving(engine="torch", models_dir=tmp_path) as (client, _):
        for path in ("/v2/health/ready", "/v2/models/gpen-bfr-512/ready"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert f"put GPEN-BFR-512.pth into {tmp_path}" in error_of(answer)
        answer = await client.post("/v2/models/gpen-bfr-512/infer", **message())
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert (await client.get("/v2/health/live")).status_code == 200
        async with GpenClient("http://b", transport=client._transport) as gpen:
            with pytest.raises(BackendUnavailable, match="no checkpoint"):
                await gpen.restore(PHOTO, None, RestoreParams(), model="gpen-bfr-512", timeout_s=5)


async def test_torch_with_a_broken_checkpoint_is_not_ready_and_says_why(tmp_path):
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"<html>not found</html>")
    async with serving(engine="torch", models_dir=tmp_path) as (client, _):
        answer = await client.post("/v2/models/gpen-bfr-512/infer", **message())
        assert answer.status_code == 503
        assert "cannot be loaded" in error_of(answer)
        assert "cannot be loaded" in error_of(await client.get("/v2/health/ready"))


async def test_auto_takes_torch_where_there_is_a_checkpoint(tmp_path, tiny_state):
    torch.save(dict(tiny_state), tmp_path / "GPEN-BFR-256.pth")
    async with serving(engine="auto", models_dir=tmp_path) as (client, _):
        answer = await client.post(INFER, **message(strength=100))
        assert answer.status_code == 200
        response = decode_response(answer.content, int(answer.headers["Inference-Header-Content-Length"]))
        assert (response.parameters["engine"], response.parameters["faces"]) == ("torch", 1)
        assert (await client.get("/v2/health/ready")).status_code == 200
        model = (await client.get(f"/v2/models/{MODEL}")).json()
        assert model["parameters"] == {"size": 16, "default": True, "task": "restore"}
        assert "available: gpen-bfr-256" in error_of(await client.get("/v2/models/gpen-bfr-512"))


async def test_auto_without_checkpoints_says_loudly_that_it_is_classical(tmp_path, caplog):
    async with serving(engine="auto", models_dir=tmp_path) as (client, _):
        assert f"put GPEN-BFR-512.pth into {tmp_path}" in caplog.text
        answer = await client.post(INFER, **message())
        response = decode_response(answer.content, int(answer.headers["Inference-Header-Content-Length"]))
        assert response.parameters["engine"] == "classical"


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_BACKEND_PORT", "9009")
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    settings = BackendSettings()
    assert (settings.port, settings.engine, settings.models_dir) == (9009, "auto", tmp_path)
    monkeypatch.delenv("GPEN_MODELS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(BackendSettings().models_dir) == "/somewhere/gpen-gateway/models"
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"models_mirror": "/srv/models"}, "starts with http"),
        ({"default_model": "gpen-inpainting-1024"}, "no such model that restores"),
        ({"default_model": "gpen"}, "no such model"),
        ({"port": -1}, "port"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        BackendSettings(**settings)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A backend in a process of its own; gives its URL."""
    env = os.environ | {"GPEN_BACKEND_ENGINE": "classical", "GPEN_BACKEND_MAX_BODY_BYTES": "200000"}
    command = [sys.executable, "-m", "uvicorn", "--factory", "gpen_backend.app:create_app", "--port", "0"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"running on (http://\S+)", line):
                    break
            else:
                pytest.fail("the server did not start")
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (0, -signal.SIGTERM)


async def test_a_process_of_its_own_restores_over_a_socket(server):
    async with GpenClient(server) as client:
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


async def test_a_socket_gets_413_with_and_without_a_declared_length(server):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(100_000)

    async with httpx.AsyncClient(base_url=server) as client:
        for content in (bytes(300_000), chunks()):
            answer = await client.post(INFER, content=content)
            assert answer.status_code == 413
            error_of(answer)


async def test_a_caller_who_hangs_up_does_no_harm(server):
    host, port = server.removeprefix("http://").split(":")
    asked = message()
    head = "".join(f"{name}: {value}\r\n" for name, value in asked["headers"].items())
    for body in (asked["content"], asked["content"][:100]):
        _, writer = await asyncio.open_connection(host, int(port))
        start = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(asked['content'])}\r\n\r\n"
        writer.write(start.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with httpx.AsyncClient(base_url=server) as client:
        answer = await client.post(INFER, **asked)
        assert answer.status_code == 200
        assert (
            json.loads(answer.content[: int(answer.headers["Inference-Header-Content-Length"])])["id"] == "42"
        )
