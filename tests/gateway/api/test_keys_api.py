"""Keys, rates and limits over HTTP."""

import asyncio
import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from gateway.service.keys import make_key, revoke_key
from gateway.settings import AccessSettings, ServerSettings, Settings

pytestmark = pytest.mark.anyio

ROUTES = [("POST", "/v1/enhance"), ("POST", "/v1/preprocess"), ("POST", "/preprocess"), ("GET", "/v1/models")]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def with_access(**access: object) -> Settings:
    return Settings(access=AccessSettings(**access))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["type"]


async def test_accepts_a_key_in_either_header(serving, echo_backend, keys, portrait_jpeg):
    key = make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        for headers in (bearer(key), {"Authorization": f"bearer  {key}"}, {"X-API-Key": key}):
            answer = await client.post("/v1/preprocess", content=portrait_jpeg, headers=headers)
            assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [*ROUTES, ("GET", "/nowhere"), ("GET", "/v1/enhance"), ("POST", "/healthz/")]
)
async def test_rejects_requests_without_a_key_on_known_and_unknown_paths(
    serving, echo_backend, keys, method, path
):
    make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        answer = await client.request(method, path)
        assert problem(answer) == (401, "missing-key")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gpen-gateway"'
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        bearer("gpen_0123456789ab_" + "0" * 64),
        bearer(""),
        bearer("é"),
        {"X-API-Key": ""},
        {"X-API-Key": "secret"},
    ],
)
async def test_rejects_a_wrong_key(serving, echo_backend, keys, headers):
    make_key(keys, "one")
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        answer = await client.get("/v1/models", headers=headers)
        assert problem(answer) == (401, "wrong-key")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_reads_x_api_key_beside_another_authorization_scheme(serving, echo_backend, keys):
    """A proxy in front may use `Authorization` for its own login."""
    key = make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        headers = {"Authorization": "Basic Zm9vOmJhcg==", "X-API-Key": key}
        assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_rejects_a_key_revoked_while_the_gateway_runs(serving, echo_backend, keys):
    key = make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 200
        revoke_key(keys, key.split("_")[1])
        assert problem(await client.get("/v1/models", headers=bearer(key))) == (403, "revoked-key")
        wrong = key[:-4] + ("0000" if key[-4:] != "0000" else "1111")
        assert problem(await client.get("/v1/models", headers=bearer(wrong))) == (401, "wrong-key")


OPEN_PATHS = [
    "/",
    "/page/app.js",
    "/healthz",
    "/readyz",
    "/docs",
    "/redoc",
    "/docs-files/swagger-ui.css",
    "/openapi.json",
]


@pytest.mark.parametrize("path", OPEN_PATHS)
async def test_probes_and_documentation_need_no_key_and_use_no_quota(serving, echo_backend, keys, path):
    make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys, rate="1/day")) as client:
        for _ in range(3):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers


async def test_a_setting_chooses_the_open_paths(serving, echo_backend, keys):
    make_key(keys, "one")
    settings = with_access(keys_file=keys, open_paths="/healthz, /some/")
    async with serving(echo_backend(), settings=settings) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/some/where")).status_code == 404
        for closed in ("/", "/some", "/something", "/healthz/", "/v1/models"):
            assert problem(await client.get(closed)) == (401, "missing-key")
        assert problem(await client.get("/openapi.json")) == (401, "missing-key")


async def test_does_not_read_the_body_of_a_request_without_a_key(serving, echo_backend, keys):
    make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        app = client._transport.app
        sent = []

        async def receive():
            pytest.fail("the gateway read the body")

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/enhance", "headers": [], "query_string": b"",
            "scheme": "http", "server": ("gateway", 80), "client": ("192.0.2.1", 1), "http_version": "1.1",
        }  # fmt: skip
        await app(scope, receive, send)
        assert sent[0]["status"] == 401


async def test_a_preflight_needs_no_key_and_the_page_can_read_the_error(serving, echo_backend, keys):
    make_key(keys, "one")
    settings = with_access(keys_file=keys).model_copy(
        update={"server": ServerSettings(cors_origins="https://page.example")}
    )
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST",
              "Access-Control-Request-Headers": "Authorization"}  # fmt: skip
    async with serving(echo_backend(), settings=settings) as client:
        assert (await client.options("/v1/enhance", headers=preflight)).status_code == 200
        answer = await client.post("/v1/enhance", headers={"Origin": "https://page.example"})
        assert problem(answer) == (401, "missing-key")
        assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"


async def test_each_key_has_its_own_rate_and_responses_report_the_quota(serving, echo_backend, keys):
    one, other = make_key(keys, "one", rate="2/day"), make_key(keys, "other")
    settings = with_access(keys_file=keys, rate="5/day")
    async with serving(echo_backend(), settings=settings) as client:
        for left in ("1", "0"):
            answer = await client.get("/v1/models", headers=bearer(one))
            assert answer.headers["RateLimit-Policy"] == '"default";q=2;w=86400'
            assert re.fullmatch(rf'"default";r={left};t=[1-9]\d*', answer.headers["RateLimit"])
        answer = await client.get("/v1/models", headers=bearer(one))
        assert problem(answer) == (429, "rate-limited")
        assert answer.headers["RateLimit"] == f'"default";r=0;t={answer.headers["Retry-After"]}'
        answer = await client.get("/v1/models", headers=bearer(other))
        assert (answer.status_code, answer.headers["RateLimit"][:13]) == (200, '"default";r=4')


async def test_error_responses_report_the_quota(serving, echo_backend):
    async with serving(echo_backend(), settings=with_access(rate="9/day")) as client:
        answer = await client.post("/v1/enhance", content=b"no picture")
        assert problem(answer) == (415, "unsupported-picture")
        assert answer.headers["RateLimit"].startswith('"default";r=8')


async def test_without_keys_the_rate_is_per_ipv4_address_or_ipv6_network(serving, echo_backend):
    async with serving(echo_backend(), settings=with_access(rate="1/day")) as client:
        app = client._transport.app

        async def status(address: str) -> int:
            transport = httpx.ASGITransport(app, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as caller:
                return (await caller.get("/v1/models")).status_code

        assert [await status("192.0.2.1"), await status("192.0.2.1"), await status("192.0.2.2")] == [
            200,
            429,
            200,
        ]
        assert await status("::ffff:192.0.2.1") == 429
        assert [await status("2001:db8::1"), await status("2001:db8::2"), await status("2001:db8:0:1::")] == [
            200,
            429,
            200,
        ]


async def test_the_concurrency_limit_counts_a_request_until_its_thread_ends(
    serving, echo_backend, fixed_finder, keys, portrait_jpeg
):
    """A request past its deadline still counts, because its thread still works."""
    finder = fixed_finder(may_go_on=threading.Event())
    one, other = make_key(keys, "one", concurrency=1), make_key(keys, "other")
    settings = with_access(keys_file=keys)
    async with serving(echo_backend(), finder, settings) as client:

        async def send(key: str, **options: object) -> httpx.Response:
            return await client.post("/v1/preprocess", content=portrait_jpeg, headers=bearer(key), **options)

        assert (await send(one, params={"timeout_s": 0.05})).status_code == 504
        assert finder.entered.is_set()
        answer = await send(one)
        assert problem(answer) == (429, "too-many-at-once")
        assert int(answer.headers["Retry-After"]) >= 1
        second = asyncio.create_task(send(other))
        finder.may_go_on.set()
        assert (await second).status_code == 200
        for _ in range(1000):
            if (answer := await send(one)).status_code != 429:
                break
            await asyncio.sleep(0.01)
        assert answer.status_code == 200


async def test_a_request_over_the_concurrency_limit_uses_no_quota(
    serving, echo_backend, fixed_finder, portrait_jpeg
):
    finder = fixed_finder(may_go_on=threading.Event())
    async with serving(echo_backend(), finder, with_access(rate="2/day", concurrency=1)) as client:
        first = asyncio.create_task(client.post("/v1/preprocess", content=portrait_jpeg))
        await asyncio.to_thread(finder.entered.wait, 30)
        for _ in range(3):
            assert problem(await client.get("/v1/models")) == (429, "too-many-at-once")
        finder.may_go_on.set()
        assert (await first).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize("with_length", [True, False])
async def test_a_keys_body_limit_holds_with_and_without_content_length(
    serving, echo_backend, keys, portrait_jpeg, with_length
):
    small = make_key(keys, "small", max_body_bytes=len(portrait_jpeg) - 1)
    large = make_key(keys, "large", max_body_bytes=10**12)

    async def chunks():
        yield portrait_jpeg

    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        for key, expected in ((small, 413), (large, 200)):
            content = portrait_jpeg if with_length else chunks()
            answer = await client.post("/v1/preprocess", content=content, headers=bearer(key))
            assert answer.status_code == expected


async def test_a_key_cannot_raise_the_gateways_body_limit(serving, echo_backend, keys, portrait_jpeg):
    key = make_key(keys, "large", max_body_bytes=10**12)
    settings = with_access(keys_file=keys)
    limits = settings.limits.model_copy(update={"max_body_bytes": 1000})
    async with serving(echo_backend(), settings=settings.model_copy(update={"limits": limits})) as client:
        answer = await client.post("/v1/preprocess", content=portrait_jpeg, headers=bearer(key))
        assert problem(answer) == (413, "too-large")


async def test_logs_key_ids_but_no_secrets(serving, echo_backend, keys, caplog, portrait_jpeg):
    key = make_key(keys, "one")
    with caplog.at_level(logging.DEBUG):
        async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
            await client.post("/v1/preprocess", content=portrait_jpeg, headers=bearer(key))
            await client.get("/v1/models", headers={"X-API-Key": f"{key}0"})
            revoke_key(keys, key.split("_")[1])
            await client.get("/v1/models", headers=bearer(key))
    _, key_id, secret = key.split("_")
    logged = [record.fields for record in caplog.records if hasattr(record, "fields")]
    assert [(line["status"], line.get("key_id")) for line in logged] == [
        (200, key_id),
        (401, None),
        (403, key_id),
    ]
    assert secret not in caplog.text + str(logged)


async def test_the_openapi_document_requires_a_key_only_where_the_gateway_does(serving, echo_backend, keys):
    make_key(keys, "one")
    async with serving(echo_backend(), settings=with_access(keys_file=keys)) as client:
        document = (await client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    for method, path in ROUTES:
        operation = document["paths"][path][method.lower()]
        assert sorted(name for way in operation["security"] for name in way) == sorted(schemes)
        assert all(len(way) == 1 for way in operation["security"])
        assert {"401", "403", "429"} <= set(operation["responses"])
    assert "security" not in document["paths"]["/healthz"]["get"]
    async with serving(echo_backend()) as client:
        assert "security" not in json.dumps((await client.get("/openapi.json")).json())


# The command with a server that returns at once.
_SERVE = """
from gateway.cli import main
from gateway.service.server import DrainingServer

DrainingServer.run = lambda self, sockets=None: None
main()
"""


@pytest.mark.parametrize(
    ("host", "with_keys", "warns"),
    [("0.0.0.0", False, True), ("0.0.0.0", True, False), ("localhost", False, False)],
)
def test_warns_when_it_serves_a_public_address_without_keys(tmp_path, keys, host, with_keys, warns):
    make_key(keys, "one")
    environment = {"GATEWAY_KEYS_FILE": str(keys)} if with_keys else {}
    started = subprocess.run(
        [sys.executable, "-c", _SERVE, "serve", "--host", host], env={"HOME": str(tmp_path), **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    assert ("NO API KEYS" in started.stderr) == warns
    assert ("GATEWAY_KEYS_FILE" in started.stderr) == warns


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1", [200, 200, 429]), ("", [200, 429, 429])])
def test_only_a_trusted_proxy_can_name_the_callers_address(server_process, tmp_path, trusted, expected):
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(tmp_path),
        "GATEWAY_RATE": "1/day",
        "GATEWAY_TRUSTED_PROXIES": trusted,
    }
    with server_process([sys.executable, "-m", "gateway", "serve", "--port", "0"], environment) as url:
        statuses = [
            httpx.get(f"{url}/v1/models", headers={"X-Forwarded-For": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
    assert statuses == expected
