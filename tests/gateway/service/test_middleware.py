"""Every request has an id, and no body is read beyond the limit."""

import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.errors import TooLarge
from gateway.service.middleware import BodyLimit, RequestId, request_id

pytestmark = pytest.mark.anyio


async def return_id(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request_id(request.scope))


async def return_length(request: Request) -> PlainTextResponse:
    try:
        return PlainTextResponse(str(len(await request.body())))
    except TooLarge:
        return PlainTextResponse("too large", 413)


async def ignore_body(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ignored")


APP = Starlette(
    routes=[
        Route("/id", return_id),
        Route("/length", return_length, methods=["POST"]),
        Route("/ignore", ignore_body),
    ]
)


def client_of(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


@pytest.mark.parametrize("sent", ["a", "7f3c-11", "trace.span_1", "A" * 128])
async def test_keeps_a_valid_id_of_the_caller(sent):
    async with client_of(RequestId(APP)) as client:
        answer = await client.get("/id", headers={"X-Request-ID": sent})
    assert answer.text == answer.headers["X-Request-ID"] == sent


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"a b",
        b"A" * 129,
        b"a\r\nSet-Cookie: x=1",
        b"a\n",
        b"\xff",
        "é".encode(),
        b"<script>",
        b"a;b",
        b"\0",
    ],
)
async def test_replaces_an_invalid_id(sent):
    """uvicorn rejects most of these earlier; another server may let them through."""
    async with client_of(RequestId(APP)) as client:
        answer = await client.get("/id", headers=[(b"X-Request-ID", sent)])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.text == answer.headers["X-Request-ID"]
    assert "Set-Cookie" not in answer.headers


async def test_generated_ids_are_unique():
    async with client_of(RequestId(APP)) as client:
        ids = {(await client.get("/id")).text for _ in range(20)}
    assert len(ids) == 20


async def chunked(size: int):
    for _ in range(size):
        yield b"x"


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0"), (9, "9"), (10, "10"), (11, "too large"), (1000, "too large")]
)
@pytest.mark.parametrize("with_length", [True, False])
async def test_the_body_limit_is_inclusive(size, expected, with_length):
    async with client_of(BodyLimit(APP, 10)) as client:
        answer = await client.post("/length", content=b"x" * size if with_length else chunked(size))
    assert answer.text == expected


@pytest.mark.parametrize("length", [b"9" * 19, b"9" * 5000, b"11"])
async def test_rejects_by_content_length_alone(length):
    async with client_of(BodyLimit(APP, 10)) as client:
        answer = await client.post("/length", headers=[(b"Content-Length", length)], content=b"x")
    assert answer.status_code == 413


async def test_does_not_reject_a_body_that_the_app_ignores():
    async with client_of(BodyLimit(APP, 10)) as client:
        assert (await client.request("GET", "/ignore", content=b"x" * 1000)).text == "ignored"


@pytest.mark.parametrize("make", [RequestId, lambda app: BodyLimit(app, 10)])
async def test_passes_other_protocols_through_unchanged(make):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    connection = ({"type": "lifespan"}, object(), object())
    await make(app)(*connection)
    assert seen == [connection]
