"""Every error response is a problem document."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator

import httpx
import numpy as np
import pytest

from gateway import errors
from gateway.faces import Pose
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, Settings, UpstreamSettings
from gateway.upstream.client_errors import map_client_errors
from gpen_client import errors as client_errors
from gpen_client.wire.messages import InferResponse, Tensor, encode_response

pytestmark = pytest.mark.anyio

PHOTO = encode(np.full((64, 64, 3), 128, np.uint8), "png", 95)
PNG = {"Content-Type": "image/png"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """Check the shape of the problem in `answer`, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(document)
    assert set(document) <= {"type", "title", "status", "detail", "request_id", "errors"}
    assert document["status"] == status
    assert document["type"] == slug
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-ID"]
    return document


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("POST", "/v1/enhance/", 404, "not-found"),
        ("GET", "/v1/models/gpen-bfr-512", 404, "not-found"),
        ("GET", "/%00%0d%0a", 404, "not-found"),
        ("GET", "/v1/enhance", 405, "method-not-allowed"),
        ("DELETE", "/v1/preprocess", 405, "method-not-allowed"),
        ("PUT", "/preprocess", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
        ("POST", "/readyz", 405, "method-not-allowed"),
        ("POST", "/v1/models", 405, "method-not-allowed"),
        ("POST", "/docs", 405, "method-not-allowed"),
        ("POST", "/openapi.json", 405, "method-not-allowed"),
        ("BREW", "/v1/enhance", 405, "method-not-allowed"),
    ],
)
async def test_errors_of_the_framework_are_problems(serving, echo_backend, method, path, status, slug):
    async with serving(echo_backend()) as client:
        answer = await client.request(method, path)
    problem(answer, status, slug)
    assert ("Allow" in answer.headers) == (status == 405)


PICTURE_ROUTES = ["/v1/enhance", "/v1/preprocess", "/preprocess"]


@pytest.mark.parametrize("path", PICTURE_ROUTES)
@pytest.mark.parametrize(
    ("headers", "body", "status", "slug"),
    [
        (JSON, b"{", 400, "malformed-request"),
        (JSON, b"[]", 400, "malformed-request"),
        (JSON, b'{"image": 7}', 400, "malformed-request"),
        (JSON, b'{"image": "no base64!"}', 400, "malformed-request"),
        (JSON, b"[" * 100_000, 400, "malformed-request"),
        (JSON, b'{"image": "\xff"}', 400, "malformed-request"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "malformed-request"),
        (MULTIPART, b"--x\r\nnot a header at all", 400, "malformed-request"),
        (PNG, PHOTO[:90], 400, "damaged-picture"),
        (
            PNG,
            b"GIF89a" + b"\xff\xff" * 2 + bytes(3) + b"," + b"\0" * 4 + b"\xff\xff" * 2 + bytes(9),
            413,
            "too-many-pixels",
        ),
        (PNG, b"no picture", 415, "unsupported-picture"),
        ({"Content-Type": "text/html"}, b"<html>", 415, "unsupported-picture"),
        (PNG, b"", 422, "missing-picture"),
        (JSON, b"{}", 422, "missing-picture"),
        (MULTIPART, b"--x--\r\n", 422, "missing-picture"),
    ],
)
async def test_rejects_unreadable_bodies(serving, echo_backend, path, headers, body, status, slug):
    async with serving(echo_backend()) as client:
        problem(await client.post(path, headers=headers, content=body), status, slug)


@pytest.mark.parametrize("path", PICTURE_ROUTES)
async def test_names_every_invalid_parameter(serving, echo_backend, path):
    async with serving(echo_backend()) as client:
        answer = await client.post(path, params={"framng": "face", "quality": "0"}, content=PHOTO)
    document = problem(answer, 422, "invalid-parameters")
    assert {error["parameter"] for error in document["errors"]} == {"framng", "quality"}
    assert "framng" in document["detail"]


PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


async def chunks(start: bytes) -> AsyncIterator[bytes]:
    """An endless body without a Content-Length."""
    yield start
    while True:
        yield bytes(1000)


@pytest.mark.parametrize("path", PICTURE_ROUTES)
@pytest.mark.parametrize("headers", [PNG, JSON, MULTIPART])
@pytest.mark.parametrize("with_length", [True, False])
async def test_rejects_bodies_over_the_limit(serving, echo_backend, path, headers, with_length):
    settings = Settings(limits=LimitSettings(max_body_bytes=10_000))
    async with serving(echo_backend(), settings=settings) as client:
        body = bytes(11_000) if with_length else chunks(PART if headers is MULTIPART else b"")
        answer = await client.post(path, headers=headers, content=body)
    assert "10,000" in problem(answer, 413, "too-large")["detail"]


async def test_rejects_a_content_length_of_thousands_of_digits(serving, echo_backend):
    async with serving(echo_backend()) as client:
        answer = await client.post("/v1/enhance", content=PHOTO, headers={"Content-Length": "9" * 5000})
    problem(answer, 413, "too-large")


async def test_rejects_a_photo_without_a_face_on_request(serving, echo_backend, fixed_finder):
    async with serving(echo_backend(), fixed_finder(faces=0)) as client:
        answer = await client.post("/v1/enhance?no_face=reject", content=PHOTO)
        problem(answer, 422, "no-face")


async def test_rejects_a_turned_head_on_request(serving, echo_backend, fixed_finder):
    async with serving(echo_backend(), fixed_finder(pose=Pose(-40, 0, 0))) as client:
        answer = await client.post("/v1/preprocess?yaw=reject", content=PHOTO)
        assert "40°" in problem(answer, 422, "head-turned")["detail"]


async def test_the_error_for_an_unknown_model_lists_the_models(serving, echo_backend):
    async with serving(echo_backend(models=("gpen-bfr-256", "gpen-bfr-1024"))) as client:
        answer = await client.post("/v1/enhance?model=gpen-bfr-512", content=PHOTO)
    assert "it has: gpen-bfr-256, gpen-bfr-1024" in problem(answer, 422, "unknown-model")["detail"]


async def test_a_backend_without_a_known_model_is_not_ready(serving, echo_backend):
    async with serving(echo_backend(models=("resnet",))) as client:
        answer = await client.post("/v1/enhance", content=PHOTO)
        problem(answer, 503, "not-ready")
        assert int(answer.headers["Retry-After"]) >= 1
        problem(await client.get("/readyz"), 503, "not-ready")
        assert (await client.get("/v1/models")).json() == {"default": None, "models": []}


def answer_with(status: int, headers: dict[str, str] | None = None, body: bytes = b'{"error": "as it is"}'):
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, content=body)

    return answer


async def answer_in_wrong_size(_: httpx.Request) -> httpx.Response:
    pixels = Tensor("image", np.zeros((1, 8, 8, 3), np.uint8))
    headers, body = encode_response(InferResponse("gpen-bfr-512", [pixels]), binary=True)
    return httpx.Response(200, headers=headers, content=body)


async def refuse_connection(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nothing listens there", request=request)


async def break_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("", request=request)


FAULTS = [
    (answer_with(500), 502, "backend-broken", None),
    (answer_with(400), 502, "backend-broken", None),
    (answer_with(200, body=b"<html>welcome</html>"), 502, "backend-broken", None),
    (answer_with(200, body=b"{}"), 502, "backend-broken", None),
    (answer_with(200, {"Inference-Header-Content-Length": "many"}), 502, "backend-broken", None),
    (answer_with(302, {"Location": "http://elsewhere/"}), 502, "backend-broken", None),
    (answer_in_wrong_size, 502, "backend-broken", None),
    (answer_with(429, {"Retry-After": "7"}), 429, "backend-busy", "7"),
    (answer_with(429), 429, "backend-busy", "1"),
    (answer_with(503, {"Retry-After": "30"}), 503, "backend-away", "30"),
    (refuse_connection, 503, "backend-away", "1"),
    (break_off, 503, "backend-away", "1"),
]


@pytest.mark.parametrize(("fault", "status", "slug", "retry_after"), FAULTS)
async def test_a_failed_restoration_is_a_problem(serving, echo_backend, fault, status, slug, retry_after):
    async with serving(echo_backend(answer=fault)) as client:
        answer = await client.post("/v1/enhance", content=PHOTO)
    problem(answer, status, slug)
    assert answer.headers.get("Retry-After") == retry_after


@pytest.mark.parametrize("path", ["/v1/enhance", "/v1/models", "/readyz"])
@pytest.mark.parametrize(
    "fault", [refuse_connection, break_off, answer_with(500), answer_with(200, body=b"not JSON")]
)
async def test_a_failed_listing_of_models_is_a_problem(serving, echo_backend, path, fault):
    async with serving(echo_backend(probe=fault)) as client:
        answer = await client.request("POST" if path == "/v1/enhance" else "GET", path, content=PHOTO)
    slugs = {502: "backend-broken", 503: "not-ready" if path == "/readyz" else "backend-away"}
    problem(answer, answer.status_code, slugs[answer.status_code])
    assert ("Retry-After" in answer.headers) == (answer.status_code == 503)


async def hang(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("fault", [{"answer": hang}, {"probe": hang}], ids=["restoration", "model list"])
async def test_a_hanging_backend_gets_504_at_the_deadline(serving, echo_backend, fault):
    settings = Settings(upstream=UpstreamSettings(timeout_s=0.3))
    # The client's timeout for model descriptions is 5 s.
    async with serving(echo_backend(**fault), settings=settings) as client, asyncio.timeout(4):
        problem(await client.post("/v1/enhance", content=PHOTO), 504, "deadline-passed")


async def test_an_unreachable_backend_gets_503_and_preprocess_still_works(serving):
    """A real socket refuses the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = Settings(upstream=UpstreamSettings(backend_url=f"http://127.0.0.1:{port}"))
    async with serving(settings=settings) as client:
        answer = await client.post("/v1/enhance", content=PHOTO)
        assert str(port) in problem(answer, 503, "backend-away")["detail"]
        assert "Retry-After" in answer.headers
        ready = await client.get("/readyz")
        problem(ready, 503, "not-ready")
        assert "Retry-After" in ready.headers
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post("/v1/preprocess", content=PHOTO)).status_code == 200


async def test_an_unexpected_error_reveals_only_its_request_id(serving, echo_backend, fixed_finder):
    finder = fixed_finder(defect=RuntimeError("secret of /etc/gateway"))
    async with serving(echo_backend(), finder) as client:
        answer = await client.post("/v1/enhance", content=PHOTO, headers={"X-Request-ID": "mine"})
    document = problem(answer, 500, "internal-error")
    assert document["request_id"] == "mine"
    for word in ("secret", "Traceback", "RuntimeError", ".py"):
        assert word not in answer.text


@pytest.mark.parametrize("text", ["torch\r\nX-Evil: yes", "мотор", "torch\0", "x" * 100_000])
async def test_text_from_the_backend_cannot_break_headers(serving, echo_backend, text):
    backend = echo_backend(engine=text, parameters={f"{text[:50]}_ms": 3.0})
    async with serving(backend) as client:
        answer = await client.post("/v1/enhance", content=PHOTO)
    assert answer.status_code == 200, answer.text
    assert "X-Evil" not in answer.headers
    for header in ("X-GPEN-Engine", "Server-Timing"):
        value = answer.headers[header]
        assert value.isprintable()
        assert value.isascii()
        assert len(value) < 2000


async def test_logs_failures_of_the_backend_but_no_client_errors(serving, echo_backend, caplog):
    caplog.set_level(logging.WARNING, "gateway")
    async with serving(echo_backend(answer=answer_with(500))) as client:
        await client.post("/v1/enhance", content=b"no picture")
        assert caplog.messages == []
        await client.post("/v1/enhance", content=PHOTO)
    assert [message.partition(":")[0] for message in caplog.messages] == ["backend-broken"]


def class_tree(kind: type) -> set[type]:
    return {kind}.union(*map(class_tree, kind.__subclasses__()))


@pytest.mark.parametrize(
    "kind", sorted(class_tree(client_errors.BackendError), key=lambda kind: kind.__name__)
)
def test_every_client_error_becomes_a_gateway_error(kind):
    error = kind("broken", 418) if issubclass(kind, client_errors.BackendRejected) else kind("broken")
    with pytest.raises(errors.GatewayError, match="broken") as raised, map_client_errors():
        raise error
    assert raised.value.status in (422, 429, 502, 503, 504)
    assert (raised.value.retry_after is not None) == (raised.value.status in (429, 503))


def test_types_are_unique_slugs_and_titles_start_with_a_capital():
    kinds = [kind for kind in class_tree(errors.GatewayError) if kind is not errors.TryLater]
    assert len({kind.type for kind in kinds}) == len(kinds)
    assert all(kind.title[0].isupper() for kind in kinds)
    assert all(json.dumps(kind.type).strip('"').replace("-", "").isalpha() for kind in kinds)
