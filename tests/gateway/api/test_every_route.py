"""Every route answers every failure with a documented problem and with security headers."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.routing import Mount, Route

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, ServerSettings, Settings
from tests.support.echo_backend import EchoBackend
from tests.support.gateways import run_gateway

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
PHOTO = encode(np.full((64, 64, 3), 128, np.uint8), "png", 95)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
DOCUMENTED = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "errors.md").read_text()))

BODIES = {
    "no body": (None, b""),
    "no picture": ("image/png", b"no picture"),
    "too large": ("image/png", bytes(100_001)),
    "broken JSON": ("application/json", b'{"image": '),
    "a JSON array": ("application/json", b"[1, 2]"),
    "a form without a boundary": ("multipart/form-data", b"--x\r\n\r\n"),
    "a broken form": ("multipart/form-data; boundary=x", b"--x\r\nnonsense\r\n\r\n--x--\r\n"),
    "a URL-encoded form": ("application/x-www-form-urlencoded", b"image=1&strength=2"),
    "a picture as JSON": ("application/json", PHOTO),
    "text": ("text/plain; charset=nonsense", b"hello"),
    "an invalid type": ("\x01/\x02", b"x"),
    "a broken ZIP": ("application/zip", b"PK\3\4 nonsense"),
}

HEADERS = {
    "a range beyond the end": ("Range", "bytes=99999999-"),
    "a malformed range": ("Range", "bytes=nonsense"),
    "two ranges": ("Range", "bytes=0-1,5-9"),
    "a malformed Accept": ("Accept", "\x80, ;q=, */*;q=nan"),
    "a Content-Length of 5000 digits": ("Content-Length", "9" * 5000),
    "half an ETag": ("If-None-Match", '"'),
    "a malformed date": ("If-Modified-Since", "yesterday"),
    "a tab in the request id": ("X-Request-ID", "a\tb"),
    "an unknown Transfer-Encoding": ("Transfer-Encoding", "nonsense"),
    "an empty cookie": ("Cookie", "=;=;"),
    "an empty bearer token": ("Authorization", "Bearer"),
}


def routes() -> Iterator[tuple[str, frozenset[str]]]:
    """Yield every path of the app with its methods."""
    app = create_app()
    for path, operations in app.openapi()["paths"].items():
        yield path, frozenset(method.upper() for method in operations)
    for route in app.routes:
        if isinstance(route, Route):
            yield route.path, frozenset(route.methods or ())
        elif isinstance(route, Mount):
            yield f"{route.path}/nothing", frozenset()
            yield f"{route.path}/..%2f..%2f..%2fetc%2fpasswd", frozenset()


ROUTES = sorted(set(routes()), key=lambda route: (route[0], sorted(route[1])))
PATHS = [path for path, _ in ROUTES]
BODY_ROUTES = [
    pytest.param(method, path, methods, id=f"{method} {path}")
    for path, methods in ROUTES
    for method in sorted({"POST", *methods} - {"HEAD"})
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Override the fixture of the tests: `client` has module scope."""
    return "asyncio"


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of one gateway for all routes; its bodies may have 100,000 bytes."""
    settings = Settings(limits=LimitSettings(max_body_bytes=100_000))
    async with run_gateway(EchoBackend(), settings=settings) as client:
        yield client


def check(answer: httpx.Response) -> None:
    """Check what holds for every response."""
    assert re.fullmatch(r"[\w.-]+", answer.headers["X-Request-ID"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Server" not in answer.headers
    if answer.status_code < 400:
        return
    assert answer.status_code not in (500, 501)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    if answer.request.method != "HEAD":
        problem = answer.json()
        assert problem["type"] in DOCUMENTED
        assert problem["status"] == answer.status_code
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == answer.headers["X-Request-ID"]
    if answer.status_code in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1
    if answer.status_code == 405:
        assert answer.headers["Allow"]


def test_the_routes_are_complete():
    assert {"/v1/enhance", "/v1/preprocess", "/preprocess", "/v1/batch", "/v1/models"} <= set(PATHS)
    assert {"/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json", "/"} <= set(PATHS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("path", "methods"), ROUTES, ids=PATHS)
async def test_a_method_that_a_route_lacks_gets_405(client, path, methods, method):
    answer = await client.request(method, path)
    check(answer)
    assert (answer.status_code == 405) == (method not in methods) or answer.status_code == 404


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("method", "path", "methods"), BODY_ROUTES)
async def test_an_invalid_body_is_a_problem(client, method, path, methods, body):
    content_type, content = BODIES[body]
    headers = [(b"Content-Type", content_type.encode())] if content_type else []
    answer = await client.request(method, path, content=content, headers=headers)
    check(answer)
    if "POST" in methods and path != "/v1/batch":
        assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("path", PATHS)
async def test_an_unusual_header_is_no_unexpected_error(client, path, header, method):
    name, value = HEADERS[header]
    check(await client.request(method, path, headers=[(name.encode(), value.encode("latin-1"))]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/enhance/",
        "/%2e%2e/etc/passwd",
        "/\ud7ff",
        pytest.param("/a" * 2000, id="a long path"),
    ],
)
async def test_an_unknown_path_gets_404_or_405(client, path, method):
    answer = await client.request(method, path)
    check(answer)
    assert answer.status_code in (404, 405)


async def test_an_unexpected_error_has_security_and_cors_headers(serving, echo_backend, fixed_finder):
    settings = Settings(server=ServerSettings(cors_origins="https://page.example"))
    async with serving(echo_backend(), fixed_finder(defect=RuntimeError("x")), settings) as client:
        headers = {"Origin": "https://page.example"}
        answer = await client.post("/v1/enhance", content=PHOTO, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (500, "internal-error")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"


async def test_other_origins_get_no_cors_headers_by_default(serving, echo_backend):
    async with serving(echo_backend()) as client:
        origin = {"Origin": "https://page.example"}
        for answer in (
            await client.get("/v1/models", headers=origin),
            await client.post("/v1/enhance", content=PHOTO, headers=origin),
            await client.options("/v1/enhance", headers={**origin, "Access-Control-Request-Method": "POST"}),
        ):
            check(answer)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def preflight(origin: str, method: str = "POST", headers: str = "content-type") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }


async def test_only_configured_origins_get_cors_headers(serving, echo_backend):
    page, other = "https://page.example", "https://page.example.evil"
    settings = Settings(server=ServerSettings(cors_origins=f"{page}, http://localhost:3000"))
    async with serving(echo_backend(), settings=settings) as client:
        for origin in (page, "http://localhost:3000"):
            answer = await client.post("/v1/enhance", content=PHOTO, headers={"Origin": origin})
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Origin" in answer.headers["Vary"]
            assert "Accept" in answer.headers["Vary"]
            exposed = answer.headers["Access-Control-Expose-Headers"]
            assert {"ETag", "X-Request-ID", "X-Cache", "Retry-After"} <= set(exposed.split(", "))
            asked = preflight(origin, headers="content-type, x-api-key, authorization, x-request-id")
            allowed = await client.options("/v1/enhance", headers=asked)
            check(allowed)
            assert allowed.status_code == 200
            assert allowed.headers["Access-Control-Allow-Origin"] == origin
        refused = await client.post("/v1/enhance", content=b"", headers={"Origin": page})
        check(refused)
        assert refused.headers["Access-Control-Allow-Origin"] == page, "the page must see the error"
        for asked in (preflight(other), preflight(page, "DELETE"), preflight(page, headers="x-evil")):
            answer = await client.options("/v1/enhance", headers=asked)
            check(answer)
            assert (answer.status_code, answer.json()["type"]) == (403, "cors-refused")
            assert "Access-Control-Allow-Origin" not in answer.headers
        foreign = await client.post("/v1/enhance", content=PHOTO, headers={"Origin": other})
        assert foreign.status_code == 200
        assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_an_asterisk_allows_every_origin_without_credentials(serving, echo_backend):
    settings = Settings(server=ServerSettings(cors_origins="*"))
    async with serving(echo_backend(), settings=settings) as client:
        answer = await client.get("/v1/models", headers={"Origin": "https://page.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
async def test_pages_load_only_files_that_their_policy_allows(serving, echo_backend, path):
    """Every script and stylesheet is served by the gateway and allowed by the page's policy."""
    async with serving(echo_backend()) as client:
        page = await client.get(path)
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "connect-src 'self'" in policy
        for loaded in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page.text):
            assert not re.match("[a-z]*:?//", loaded), loaded
            assert (await client.get("/" + loaded.removeprefix("/"))).status_code == 200
        # Inline scripts run only if the policy has their digest.
        inline = re.findall(r"<script>", page.text)
        assert policy.count("'sha256-") >= len(inline)
