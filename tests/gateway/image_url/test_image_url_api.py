"""`image_url` in every request format; off by default."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import httpx
import pytest

from gateway.image_url.addresses import REFUSED
from gateway.image_url.fetcher import ImageFetcher
from gateway.service.keys import make_key
from gateway.settings import AccessSettings, FetchSettings, Settings

pytestmark = pytest.mark.anyio

ROUTES = ["/v1/enhance", "/v1/preprocess", "/preprocess"]


@dataclass
class Remote:
    """A site with one picture. answered: set by a request. left: set by a disconnect."""

    url: str
    answered: asyncio.Event
    left: asyncio.Event


@asynccontextmanager
async def remote(body: bytes | None) -> AsyncIterator[Remote]:
    """body: None never answers."""
    made = Remote("", asyncio.Event(), asyncio.Event())

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        made.answered.set()
        if body is None:
            await reader.read()
            made.left.set()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    made.url = f"http://pictures.test:{server.sockets[0].getsockname()[1]}/me.jpg"
    async with server:
        yield made


def allow(client: httpx.AsyncClient, remote: Remote, **settings: object) -> None:
    """Let the gateway behind `client` download from this machine."""

    async def here(host: str, port: int) -> list[IPv4Address]:
        return [IPv4Address("127.0.0.1")]

    ports = (httpx.URL(remote.url).port,)
    chosen = FetchSettings(image_url="on", image_url_http="on", image_url_ports=ports, **settings)
    app = client._transport.app
    app.state.gateway.fetcher.close()
    fetcher = ImageFetcher(chosen, resolve=here, allowed=lambda address: True)
    app.state.gateway = replace(app.state.gateway, fetcher=fetcher)


@pytest.fixture
def on() -> Settings:
    return Settings(fetch=FetchSettings(image_url="on"))


@pytest.mark.parametrize("route", ROUTES)
async def test_image_url_gives_the_same_result_as_an_upload(serving, echo_backend, on, portrait_jpeg, route):
    async with remote(portrait_jpeg) as site, serving(echo_backend(), settings=on) as client:
        allow(client, site)
        sent = await client.post(route, content=portrait_jpeg)
        for request in (
            {"files": {"image_url": (None, site.url)}},
            {"files": {"image_url": (None, site.url), "image": ("empty", b"")}},
            {"json": {"image_url": site.url}},
            {"params": {"image_url": site.url}},
        ):
            answer = await client.post(route, **request)
            assert answer.status_code == 200, answer.text
            assert answer.content == sent.content


@pytest.mark.parametrize("route", ROUTES)
async def test_image_url_is_off_by_default(serving, echo_backend, portrait_jpeg, route):
    async with remote(portrait_jpeg) as site, serving(echo_backend()) as client:
        for request in ({"json": {"image_url": site.url}}, {"params": {"image_url": site.url}}):
            answer = await client.post(route, **request)
            assert (answer.status_code, answer.json()["type"]) == (422, "image-url-off")
        assert not site.answered.is_set()


async def test_rejects_a_picture_together_with_a_url(serving, echo_backend, on, portrait_jpeg):
    url = "https://pictures.test/"
    encoded = base64.b64encode(portrait_jpeg).decode()
    async with serving(echo_backend(), settings=on) as client:
        for request in (
            {"files": {"image": ("a.jpg", portrait_jpeg), "image_url": (None, url)}},
            {"json": {"image": encoded, "image_url": url}},
            {"content": portrait_jpeg, "params": {"image_url": url}},
        ):
            answer = await client.post("/v1/enhance", **request)
            assert (answer.status_code, answer.json()["type"]) == (422, "invalid-parameters")
            assert answer.json()["errors"][0]["parameter"] == "image_url"


async def test_empty_image_url_field_is_ignored(serving, echo_backend, portrait_jpeg):
    async with serving(echo_backend()) as client:
        files = {"image": ("a.jpg", portrait_jpeg), "image_url": (None, "")}
        assert (await client.post("/v1/preprocess", files=files)).status_code == 200
        assert (await client.post("/v1/preprocess", files=files | {"image": ("a", b"")})).status_code == 422


@pytest.mark.parametrize("url", [1, ["https://pictures.test/"], {"a": 1}, True])
async def test_rejects_an_image_url_that_is_not_a_string(serving, echo_backend, on, url):
    async with serving(echo_backend(), settings=on) as client:
        answer = await client.post("/v1/enhance", json={"image_url": url})
        assert (answer.status_code, answer.json()["type"]) == (422, "invalid-parameters")


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://0x7f.1/", "https://169.254.169.254/",
     "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://localhost/", "https://nowhere.invalid/"],
)  # fmt: skip
async def test_every_private_address_has_the_same_problem(serving, echo_backend, on, url):
    async with serving(echo_backend(), settings=on) as client:
        answer = await client.post("/v1/enhance", json={"image_url": url})
        assert (answer.status_code, answer.json()["type"]) == (422, "image-url-refused")
        assert answer.json()["detail"] == REFUSED


async def test_downloaded_file_that_is_not_a_picture_is_unsupported(serving, echo_backend, on):
    async with remote(b"<html>no picture") as site, serving(echo_backend(), settings=on) as client:
        allow(client, site)
        answer = await client.post("/v1/enhance", json={"image_url": site.url})
        assert (answer.status_code, answer.json()["type"]) == (415, "unsupported-picture")


async def test_validates_parameters_before_the_download(serving, echo_backend, on, portrait_jpeg):
    async with remote(portrait_jpeg) as site, serving(echo_backend(), settings=on) as client:
        allow(client, site)
        answer = await client.post("/v1/enhance", json={"image_url": site.url, "strength": 101})
        assert answer.status_code == 422
        assert not site.answered.is_set()


async def test_body_limit_of_an_api_key_applies_to_the_download(
    serving, echo_backend, on, portrait_jpeg, tmp_path
):
    keys = tmp_path / "keys.json"
    key = make_key(keys, "small", max_body_bytes=len(portrait_jpeg) - 1)
    settings = on.model_copy(update={"access": AccessSettings(keys_file=keys)})
    async with remote(portrait_jpeg) as site, serving(echo_backend(), settings=settings) as client:
        allow(client, site)
        answer = await client.post("/v1/enhance", json={"image_url": site.url}, headers={"X-API-Key": key})
        assert (answer.status_code, answer.json()["type"]) == (413, "too-large")


async def test_deadline_includes_the_download(serving, echo_backend, on):
    async with remote(None) as site, serving(echo_backend(), settings=on) as client:
        allow(client, site)
        started = time.monotonic()
        answer = await client.post("/v1/enhance", json={"image_url": site.url, "timeout_s": 0.2})
        assert (answer.status_code, answer.json()["type"]) == (504, "deadline-passed")
        assert time.monotonic() - started < 10
        await asyncio.wait_for(site.left.wait(), 10)


async def test_disconnect_cancels_the_download(serving, echo_backend, on):
    async with remote(None) as site, serving(echo_backend(), settings=on) as client:
        allow(client, site)
        bodies = [{"type": "http.request", "body": b'{"image_url": "%s"}' % site.url.encode()}]

        async def receive() -> dict[str, object]:
            if bodies:
                return bodies.pop()
            await site.answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            pass

        scope = {
            "type": "http", "method": "POST", "path": "/v1/enhance", "query_string": b"", "scheme": "http",
            "headers": [(b"content-type", b"application/json")], "server": ("gateway", 80),
            "client": ("192.0.2.1", 1), "http_version": "1.1",
        }  # fmt: skip
        await client._transport.app(scope, receive, send)
        await asyncio.wait_for(site.left.wait(), 10)


async def test_openapi_document_has_image_url_only_if_enabled(serving, echo_backend, on):
    async with serving(echo_backend(), settings=on) as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/openapi.json")).json() == document
    for route in ROUTES:
        operation = document["paths"][route]["post"]
        assert "image_url" in [parameter["name"] for parameter in operation["parameters"]]
        for shape in ("multipart/form-data", "application/json"):
            schema = operation["requestBody"]["content"][shape]["schema"]
            assert {"image", "image_url"} <= set(schema["properties"])
            assert schema["required"] == []
    async with serving(echo_backend()) as client:
        document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/enhance"]["post"]
    assert "image_url" not in [parameter["name"] for parameter in operation["parameters"]]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "image_url" not in schema["properties"]
    assert schema["required"] == ["image"]
