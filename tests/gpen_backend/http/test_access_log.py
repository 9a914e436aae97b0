"""The access log has one line for each request, except probes that succeed."""

import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gpen_backend.http.access_log import log_request
from gpen_common.request_observer import Observer

pytestmark = pytest.mark.anyio


async def answer(request: Request) -> Response:
    return PlainTextResponse("", status_code=int(request.query_params.get("status", 200)))


async def fail(_: Request) -> Response:
    raise RuntimeError("a defect")


@pytest.fixture
async def log_of(caplog):
    """Send one request; returns its lines."""
    paths = ("/v2/health/ready", "/metrics", "/v2/models/{name}/infer")
    app = Starlette(routes=[*(Route(path, answer) for path in paths), Route("/fail", fail)])
    transport = httpx.ASGITransport(Observer(app, log_request), raise_app_exceptions=False)
    caplog.set_level(logging.INFO, "gpen_backend.http.access_log")
    async with httpx.AsyncClient(transport=transport, base_url="http://backend") as client:

        async def send(path):
            caplog.clear()
            await client.get(path)
            return [
                record.getMessage()
                for record in caplog.records
                if record.name == "gpen_backend.http.access_log"
            ]

        yield send


async def test_a_request_is_one_line_with_its_time(log_of):
    (line,) = await log_of("/v2/models/m/infer?secret=1")
    assert line.startswith("GET /v2/models/m/infer 200 ")
    assert line.endswith(" ms")


async def test_logs_only_probes_that_fail(log_of):
    assert await log_of("/v2/health/ready") == []
    assert await log_of("/metrics") == []
    (line,) = await log_of("/v2/health/ready?status=503")
    assert " 503 " in line


async def test_logs_a_defect_as_500(log_of):
    (line,) = await log_of("/fail")
    assert line.startswith("GET /fail 500 ")


async def test_a_path_cannot_inject_a_line(log_of):
    (line,) = await log_of("/x%0aINFO%20all%20is%20well")
    assert line.startswith("GET /x%0AINFO%20all%20is%20well 404 ")
