"""An embedded backend and one behind a socket behave the same."""

import sys

import cv2
import pytest

from gateway.imaging.encoder import encode
from gateway.settings import Settings, UpstreamSettings
from gateway.upstream.embedded_backend import EMBEDDED_URL, run_embedded_backend
from gpen_backend.scheduling.restoration_service import Service
from gpen_client.client import GpenClient

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("output", ["portrait", "photo"])
async def test_embedded_and_separate_backend_give_the_same_bytes(
    serving, server_process, astronaut, tmp_path, output
):
    """Also for a picture larger than one chunk."""
    photo = encode(cv2.resize(astronaut, (1800, 1800), interpolation=cv2.INTER_CUBIC), "jpeg", 90)
    fields = {"format": "png", "sharpen": "30", "output": output}
    async with serving() as client:
        inside = await client.post("/v1/enhance", params=fields, content=photo)
    environment = {"GPEN_BACKEND_ENGINE": "classical", "GPEN_MODELS_DIR": str(tmp_path)}
    with server_process([sys.executable, "-m", "gateway", "backend", "--port", "0"], environment) as url:
        settings = Settings(upstream=UpstreamSettings(backend_url=url))
        async with serving(settings=settings) as client:
            outside = await client.post("/v1/enhance", params=fields, content=photo)
            ready = (await client.get("/readyz")).json()
    assert inside.is_success
    assert inside.content == outside.content
    assert inside.headers["ETag"] == outside.headers["ETag"]
    assert ready["backend"].rstrip("/") == url


async def test_embedded_backend_is_live_and_ready(monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "classical")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    async with run_embedded_backend() as transport, GpenClient(EMBEDDED_URL, transport=transport) as client:
        assert await client.live()
        assert await client.ready()


async def test_exception_in_the_embedded_backend_is_a_502(serving, portrait_jpeg, monkeypatch):
    def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Service, "admit", broken)
    async with serving() as client:
        answer = await client.post("/v1/enhance", content=portrait_jpeg)
    assert (answer.status_code, answer.json()["type"]) == (502, "backend-broken")


async def test_backend_url_disables_the_embedded_backend(serving, monkeypatch):
    """Invalid settings of the embedded backend do not matter then."""
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "magic")
    settings = Settings(upstream=UpstreamSettings(backend_url="http://127.0.0.1:9/"))
    async with serving(settings=settings) as client:
        assert (await client.get("/healthz")).is_success
