"""The client against servers that behave, that refuse, and that fail in every way a network allows."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import numpy as np
import pytest

from gpen_client.client import GpenClient
from gpen_client.errors import (
    BackendBusy,
    BackendCrashed,
    BackendError,
    BackendProtocolError,
    BackendRejected,
    BackendTimeout,
    BackendUnavailable,
    ModelNotFound,
)
from gpen_client.resilience import Resilience
from gpen_client.wire.messages import InferResponse, Tensor, decode_request, encode_response, read_header_length
from gpen_common.types import ModelInfo, Restored, RestoreParams

pytestmark = pytest.mark.anyio

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
OUR_PARAMETERS = {
    "engine": "torch", "model": "gpen-bfr-512", "faces": 2, "batch_size": 3, "align_ms": 1.5, "network_ms": 20
}  # fmt: skip
# What is tested here is one attempt; test_attempts.py has the others.
ONCE = Resilience(attempts=1)


@dataclass(frozen=True)
class Call:
    """A request as a server on a socket sees it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server on a free port that reads requests and answers them as `answer` likes; gives its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while not writer.is_closing():
                await answer(await read_call(reader), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def read_call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return Call(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def http(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def negative(request_headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """What a backend answers whose restoration is 255 - image."""
    request = decode_request(body, read_header_length(request_headers))
    image = request.tensor("image")
    assert image is not None
    answer = InferResponse("gpen", [Tensor("image", 255 - image)], OUR_PARAMETERS, request.id)
    answered, pieces = encode_response(answer, request.binary_output)
    return answered, b"".join(pieces)


async def behave(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, *negative(call.headers, call.body)))


async def restore(client: GpenClient, **changes: Any) -> Restored:
    given = {"image": IMAGE, "landmarks": None, "params": RestoreParams(), "model": "m", "timeout_s": 10.0}
    return await client.restore(**(given | changes))


async def restore_from(answer: Answer, **changes: Any) -> Restored:
    async with serving(answer) as url, GpenClient(url, resilience=ONCE) as client:
        return await restore(client, **changes)


def mocked(handler: Callable[[httpx.Request], httpx.Response]) -> GpenClient:
    return GpenClient("http://backend", transport=httpx.MockTransport(handler), resilience=ONCE)


def answering(response: InferResponse, binary: bool = True) -> GpenClient:
    headers, body = encode_response(response, binary)
    return mocked(lambda request: httpx.Response(200, headers=headers, content=body))


# What a backend that behaves gives


async def test_a_restoration_comes_back_with_all_that_the_backend_tells():
    restored = await restore_from(behave, request_id="r-1")
    np.testing.assert_array_equal(restored.pixels, 255 - IMAGE, strict=True)
    assert (restored.engine, restored.model, restored.faces, restored.batch_size) == (
        "torch",
        "gpen-bfr-512",
        2,
        3,
    )
    assert restored.timings_ms == {"align": 1.5, "network": 20.0}


async def test_the_request_carries_picture_landmarks_parameters_deadline_and_id():
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


async def test_a_backends_cookies_are_not_sent_back():
    """A load balancer's would have it send every further request to the same backend."""
    calls = []

    async def set_cookie(call: Call, writer: asyncio.StreamWriter) -> None:
        calls.append(call)
        headers, body = negative(call.headers, call.body)
        writer.write(http(200, {**headers, "Set-Cookie": "backend=1; Path=/"}, body))

    async with serving(set_cookie) as url, GpenClient(url, resilience=ONCE) as client:
        for _ in range(2):
            await restore(client)
    assert len(calls) == 2
    assert not any("cookie" in call.headers for call in calls)


async def test_concurrent_restorations_never_swap_pictures():
    """Many calls share the pool, and each gets its own picture back, whichever is answered first."""

    async def shuffle(call: Call, writer: asyncio.StreamWriter) -> None:
        image = decode_request(call.body, read_header_length(call.headers)).tensor("image")
        assert image is not None
        await asyncio.sleep(image.flat[0] % 7 / 100)
        await behave(call, writer)

    async with serving(shuffle) as url, GpenClient(url, max_connections=8) as client:
        images = [np.full((3, 3, 3), value, np.uint8) for value in range(40)]
        restored = await asyncio.gather(*(restore(client, image=image) for image in images))
    for image, answer in zip(images, restored, strict=True):
        np.testing.assert_array_equal(answer.pixels, 255 - image)


async def test_a_json_answer_is_understood():
    tensors = [Tensor("image", np.full((1, 64, 64, 3), 255, np.uint8))]
    async with answering(InferResponse("m", tensors), binary=False) as client:
        restored = await restore(client, image=np.zeros((64, 64, 3), np.uint8))
    assert (restored.pixels == 255).all()


async def test_a_foreign_server_needs_none_of_our_parameters():
    """Its platform stands for the engine, and is asked for once."""
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


async def test_a_foreign_server_that_describes_no_model_has_an_unknown_engine():
    def foreign(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404)
        headers, body = encode_response(InferResponse("", [Tensor("image", IMAGE[np.newaxis])]), True)
        return httpx.Response(200, headers=headers, content=body)

    async with mocked(foreign) as client:
        restored = await restore(client, model="mine")
    assert (restored.engine, restored.model) == ("unknown", "mine")


async def test_a_path_in_the_base_url_comes_before_the_protocols():
    paths = []
    async with GpenClient(
        "http://backend/gpen/",
        transport=httpx.MockTransport(lambda r: paths.append(r.url.path) or httpx.Response(200)),
    ) as client:
        assert await client.live()
    assert paths == ["/gpen/v2/health/live"]


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_model_name_cannot_walk_up_the_path(name):
    async with mocked(lambda request: httpx.Response(200)) as client:
        with pytest.raises(ModelNotFound):
            await restore(client, model=name)


# Health and models


@pytest.mark.parametrize(("status", "truth"), [(200, True), (400, False), (503, False), (500, False)])
async def test_health_is_a_boolean(status, truth):
    async with mocked(lambda request: httpx.Response(status, json={"error": "no"})) as client:
        assert await client.live() is truth
        assert await client.ready() is truth


async def test_a_backend_that_is_away_is_neither_live_nor_ready():
    async with serving(behave) as url:
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


async def test_a_model_is_described():
    async with mocked(described) as client:
        assert await client.model("ours") == ModelInfo(
            "ours", ready=True, engine="onnx", size=512, default=True
        )
        theirs = await client.model("theirs")
        assert (theirs.ready, theirs.engine, theirs.size) == (False, "unknown", None)
        assert "loading" in (theirs.reason or "")


async def test_an_unknown_model_is_not_found_with_the_backends_advice():
    async with mocked(described) as client:
        with pytest.raises(ModelNotFound, match="available: ours, theirs"):
            await client.model("x")


async def test_a_description_that_is_none_is_a_protocol_error():
    async with mocked(described) as client:
        with pytest.raises(BackendProtocolError, match="broken"):
            await client.model("broken")


async def test_of_many_models_those_that_exist_are_described():
    async with mocked(described) as client:
        assert [model.name for model in await client.models(["theirs", "x", "ours", ""])] == [
            "theirs",
            "ours",
        ]


# What a network does


async def hang(call: Call, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip_head(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    await drip(writer)


async def drip_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    await drip(writer)


async def drip_refusal(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\n")
    await drip(writer)


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hang, drip_head, drip_body, drip_refusal])
async def test_no_server_outlasts_the_deadline(answer):
    """Not even one that sends a byte now and then, which restarts httpx's own timeouts."""
    with pytest.raises(BackendTimeout):
        await restore_from(answer, timeout_s=0.2)


async def test_waiting_for_a_free_connection_counts_against_the_deadline():
    async with serving(hang) as url, GpenClient(url, max_connections=1) as client:
        answers = (restore(client, timeout_s=0.2) for _ in range(3))
        errors = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(error) for error in errors] == [BackendTimeout] * 3


async def test_after_a_deadline_the_pool_still_serves():
    async def hang_once(call: Call, writer: asyncio.StreamWriter) -> None:
        await (behave if call.headers.get("x-request-id") == "2" else hang)(call, writer)

    async with serving(hang_once) as url, GpenClient(url, max_connections=1) as client:
        with pytest.raises(BackendTimeout):
            await restore(client, timeout_s=0.2, request_id="1")
        assert (await restore(client, request_id="2")).faces == 2


async def test_an_app_in_this_process_is_held_to_the_deadline_and_cancelled():
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with GpenClient("http://embedded", transport=httpx.ASGITransport(app)) as client:
        with pytest.raises(BackendTimeout):
            await restore(client, timeout_s=0.2)
    assert ended.is_set()


async def test_a_caller_who_leaves_hangs_up_on_the_backend():
    """So that the backend can stop work that nobody waits for."""
    started, left = asyncio.Event(), asyncio.Event()

    async def notice(call: Call, writer: asyncio.StreamWriter) -> None:
        started.set()
        await drip(writer)

    async def watched(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            await notice(call, writer)
        except ConnectionError:
            left.set()
            raise

    async with serving(watched) as url, GpenClient(url) as client:
        task = asyncio.create_task(restore(client))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


async def reset(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def reset_in_the_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()


async def close_without_a_word(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def close_in_the_head(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    writer.close()


async def close_in_the_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    writer.write_eof()
    writer.close()


async def close_in_a_chunk(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{")
    writer.write_eof()
    writer.close()


@pytest.mark.parametrize(
    "answer",
    [reset, reset_in_the_body, close_without_a_word, close_in_the_head, close_in_the_body, close_in_a_chunk],
)
async def test_a_connection_that_breaks_means_the_backend_is_away(answer):
    with pytest.raises(BackendUnavailable):
        await restore_from(answer)


async def test_nobody_listening_means_the_backend_is_away():
    async with serving(behave) as url:
        pass
    async with GpenClient(url) as client:
        with pytest.raises(BackendUnavailable, match=url):
            await restore(client)


async def test_a_connection_that_the_backend_closed_while_idle_is_not_used_again():
    async def close_after(call: Call, writer: asyncio.StreamWriter) -> None:
        await behave(call, writer)
        await writer.drain()
        writer.close()

    async with serving(close_after) as url, GpenClient(url) as client:
        for _ in range(3):
            await restore(client)
            await asyncio.sleep(0.01)


async def garbage(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01 not HTTP at all\r\n\r\n")


async def not_a_message(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, {"Content-Type": "text/html"}, b"<html>Welcome to nginx</html>"))


async def no_body(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def lying_header(call: Call, writer: asyncio.StreamWriter) -> None:
    headers, body = negative(call.headers, call.body)
    writer.write(http(200, headers | {"Inference-Header-Content-Length": "9999999"}, body))


async def half_a_picture(call: Call, writer: asyncio.StreamWriter) -> None:
    headers, body = negative(call.headers, call.body)
    writer.write(http(200, headers, body[:-10]))


async def redirect(call: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(http(307, {"Location": "http://169.254.169.254/latest/meta-data"}, b""))


@pytest.mark.parametrize("answer", [garbage, not_a_message, no_body, lying_header, half_a_picture, redirect])
async def test_an_answer_that_is_none_is_a_protocol_error(answer):
    with pytest.raises(BackendProtocolError):
        await restore_from(answer)


# What an answer may not be


PICTURE = [Tensor("image", IMAGE[np.newaxis])]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (InferResponse("m", []), "no tensor 'image'"),
        (InferResponse("m", [Tensor("image", IMAGE)]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE[np.newaxis, :3])]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE.transpose(1, 0, 2)[np.newaxis])]), "picture is"),
        (InferResponse("m", [Tensor("image", np.stack([IMAGE, IMAGE]))]), "picture is"),
        (InferResponse("m", [Tensor("image", IMAGE[np.newaxis].astype(np.int8))]), "picture is"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS, id="another"), "another request"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"engine": 1}), "engine"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"model": True}), "model"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"faces": "two"}), "faces"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"faces": True}), "faces"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"batch_size": 1.5}), "batch_size"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"network_ms": "fast"}), "network_ms"),
        (InferResponse("m", PICTURE, OUR_PARAMETERS | {"network_ms": -1.0}), "network_ms"),
    ],
)
async def test_an_answer_to_another_question_is_refused(answer, said):
    async with answering(answer) as client:
        with pytest.raises(BackendProtocolError, match=said):
            await restore(client, request_id="mine")


async def test_an_answer_that_is_too_long_is_not_read_to_its_end():
    """A lying server fills no memory: reading stops a little past what the picture can take."""
    written = 0

    async def flood(call: Call, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()
            written += 0x10000

    with pytest.raises(BackendProtocolError, match="more than"):
        await restore_from(flood)
    assert written < 50_000_000


async def test_a_refusal_that_is_too_long_is_cut():
    async def flood(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            await writer.drain()

    with pytest.raises(BackendRejected):
        await restore_from(flood)


@pytest.mark.parametrize(("status", "kind"), [(200, BackendProtocolError), (429, BackendBusy)])
async def test_a_compressed_answer_is_not_unpacked(status, kind):
    """It could unpack to any size, and we ask for none; its status still counts."""

    async def compressed(call: Call, writer: asyncio.StreamWriter) -> None:
        assert call.headers["accept-encoding"] == "identity"
        writer.write(http(status, {"Content-Encoding": "gzip"}, gzip.compress(b'{"error": "x"}')))

    with pytest.raises(kind):
        await restore_from(compressed)


# What a backend refuses

STATUSES = [
    (400, BackendRejected),
    (401, BackendRejected),
    (404, ModelNotFound),
    (413, BackendRejected),
    (422, BackendRejected),
    (429, BackendBusy),
    (500, BackendProtocolError),
    (502, BackendUnavailable),
    (503, BackendUnavailable),
    (504, BackendProtocolError),
    (302, BackendProtocolError),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
async def test_a_status_is_one_error_with_the_backends_own_words(status, kind):
    async def refuse(call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(http(status, {}, json.dumps({"error": "the\nreason \u00e9"}).encode()))

    with pytest.raises(BackendError, match=f"answered {status}: the reason é") as caught:
        await restore_from(refuse)
    assert type(caught.value) is kind
    assert getattr(caught.value, "status", status) == status


async def test_a_500_of_what_stands_before_the_backend_is_tried_again_and_then_told_as_one():
    """Ray Serve's proxy says so for a replica that died: another one may answer."""
    asked = []

    def crash(request):
        asked.append(request)
        return httpx.Response(500, text="Internal Server Error")

    transport = httpx.MockTransport(crash)
    async with GpenClient("http://backend", transport=transport, resilience=Resilience(attempts=2)) as client:
        with pytest.raises(BackendCrashed, match=r"answered 500$"):
            await restore(client)
    assert len(asked) == 2


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 7}', b'{"detail": "x"}', b"\xff" * 100])
async def test_a_refusal_without_the_protocols_words_is_still_told(body):
    async with mocked(lambda request: httpx.Response(400, content=body)) as client:
        with pytest.raises(BackendRejected, match=r"answered 400$"):
            await restore(client)


async def test_a_long_reason_is_shortened():
    async with mocked(lambda request: httpx.Response(400, json={"error": "x" * 100_000})) as client:
        with pytest.raises(BackendRejected, match=r"xxx…$") as caught:
            await restore(client)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 500, 86_400.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 32 Dec 9999 99:99:99 GMT", None),
    ],
)
async def test_retry_after_is_read_where_it_makes_sense(status, value, seconds):
    headers = {} if value is None else {"Retry-After": value}
    async with mocked(lambda request: httpx.Response(status, headers=headers)) as client:
        with pytest.raises(BackendUnavailable) as caught:
            await restore(client)
    assert caught.value.retry_after == seconds


async def test_retry_after_may_be_a_date():
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    async with mocked(lambda request: httpx.Response(429, headers={"Retry-After": date})) as client:
        with pytest.raises(BackendBusy) as caught:
            await restore(client)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 3600


# What httpx raises

HTTPX_ERRORS = [
    kind
    for kind in map(httpx.__dict__.get, httpx.__all__)
    if isinstance(kind, type) and issubclass(kind, Exception)
]


def raised(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("GET", "http://backend")
        return kind("no", request=request, response=httpx.Response(500))
    try:
        return kind("no")
    except TypeError:
        return kind()


def test_httpx_has_the_errors_we_know():
    """So that the next test cannot pass by testing nothing."""
    assert {httpx.ConnectError, httpx.ReadTimeout, httpx.InvalidURL, httpx.StreamClosed} < set(HTTPX_ERRORS)


@pytest.mark.parametrize("kind", HTTPX_ERRORS)
@pytest.mark.parametrize("in_the_body", [False, True])
async def test_every_error_of_httpx_becomes_one_of_ours(kind, in_the_body):
    class Failing(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise raised(kind)

    def fail(request: httpx.Request) -> httpx.Response:
        if in_the_body:
            return httpx.Response(200, stream=Failing())
        raise raised(kind)

    async with mocked(fail) as client:
        with pytest.raises(BackendError) as caught:
            await restore(client)
    assert isinstance(caught.value.__cause__, kind)
    assert kind.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (httpx.ConnectTimeout, BackendUnavailable),
        (httpx.ConnectError, BackendUnavailable),
        (httpx.WriteError, BackendUnavailable),
        (httpx.ReadTimeout, BackendTimeout),
        (httpx.PoolTimeout, BackendTimeout),
        (httpx.RemoteProtocolError, BackendProtocolError),
        (httpx.DecodingError, BackendProtocolError),
        (TimeoutError, BackendTimeout),
    ],
)
async def test_the_kind_of_an_error_is_kept(kind, ours):
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised(kind)

    async with mocked(fail) as client:
        with pytest.raises(BackendError) as caught:
            await restore(client)
    assert type(caught.value) is ours


@pytest.mark.parametrize("request_id", ["two\r\nlines", "é", "\ud800"])
async def test_an_id_that_no_header_can_carry_is_one_of_our_errors(request_id):
    async with serving(behave) as url, GpenClient(url) as client:
        with pytest.raises(BackendProtocolError):
            await restore(client, request_id=request_id)


@pytest.mark.parametrize("url", ["http://[", "http://backend:port", "gopher://backend", "backend"])
async def test_an_address_that_is_none_means_the_backend_is_away(url):
    async def call() -> None:
        async with GpenClient(url) as client:
            await restore(client)

    with pytest.raises(BackendUnavailable):
        await call()
