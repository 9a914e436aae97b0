"""Every route, in every way it can fail, answers a documented problem, with what browsers need to be safe."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.routing import Mount, Route

from gateway.app import create_app
from gateway.imaging.encoder import encode
from gateway.settings import LimitSettings, ServerSettings, Settings

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
PHOTO = encode(np.full((64, 64, 3), 128, np.uint8), "png", 95)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
DOCUMENTED = set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs" / "errors.md").read_text()))
SETTINGS = Settings(limits=LimitSettings(max_body_bytes=100_000))

BODIES = {
    "nothing": (None, b""),
    "no picture": ("image/png", b"no picture"),
    "too large": ("image/png", bytes(100_001)),
    "broken JSON": ("application/json", b'{"image": '),
    "JSON of another shape": ("application/json", b"[1, 2]"),
    "a form without a boundary": ("multipart/form-data", b"--x\r\n\r\n"),
    "a broken form": ("multipart/form-data; boundary=x", b"--x\r\nnonsense\r\n\r\n--x--\r\n"),
    "a form of the other kind": ("application/x-www-form-urlencoded", b"image=1&strength=2"),
    "a picture that says it is JSON": ("application/json", PHOTO),
    "text": ("text/plain; charset=nonsense", b"hello"),
    "an impossible type": ("\x01/\x02", b"x"),
    "no ZIP": ("application/zip", b"PK\3\4 nonsense"),
}


def routes() -> Iterator[tuple[str, frozenset[str]]]:
    """Every path that the app knows, with its methods."""
    app = create_app()
    for path, operations in app.openapi()["paths"].items():
        yield path, frozenset(method.upper() for method in operations)
    for route in app.routes:
        if isinstance(route, Route):
            yield route.path, frozenset(route.methods or ())
        elif isinstance(route, Mount):
            yield f"{route.path}/nothing", frozenset()
            yield f"{route.path}/..%2f..%2f..%2fetc%2fpasswd", frozenset()


ROUTES = sorted(set(routes()))
PATHS = [path for path, _ in ROUTES]


def check(answer: httpx.Response) -> None:
    """What holds of every answer whatsoever."""
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


def test_the_walk_sees_every_kind_of_route():
    assert {"/v1/enhance", "/v1/preprocess", "/preprocess", "/v1/batch", "/v1/models"} <= set(PATHS)
    assert {"/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json", "/"} <= set(PATHS)


@pytest.mark.parametrize(("path", "methods"), ROUTES, ids=PATHS)
async def test_every_method(serving, echo_backend, path, methods):
    async with serving(echo_backend(), settings=SETTINGS) as client:
        for method in METHODS:
            answer = await client.request(method, path)
            check(answer)
            assert (answer.status_code == 405) == (method not in methods) or answer.status_code == 404


@pytest.mark.parametrize(("path", "methods"), ROUTES, ids=PATHS)
async def test_every_body(serving, echo_backend, path, methods):
    async with serving(echo_backend(), settings=SETTINGS) as client:
        for name, (content_type, body) in BODIES.items():
            headers = [(b"Content-Type", content_type.encode())] if content_type else []
            for method in {"POST", *methods} - {"HEAD"}:
                answer = await client.request(method, path, content=body, headers=headers)
                check(answer)
                if method == "POST" in methods and path != "/v1/batch":
                    assert 400 <= answer.status_code < 500, name


@pytest.mark.parametrize("path", PATHS)
async def test_strange_headers(serving, echo_backend, path):
    async with serving(echo_backend(), settings=SETTINGS) as client:
        for name, value in (
            ("Range", "bytes=99999999-"),
            ("Range", "bytes=nonsense"),
            ("Range", "bytes=0-1,5-9"),
            ("Accept", "\x80, ;q=, */*;q=nan"),
            ("Content-Length", "9" * 5000),
            ("If-None-Match", '"'),
            ("If-Modified-Since", "yesterday"),
            ("X-Request-ID", "a\tb"),
            ("Transfer-Encoding", "nonsense"),
            ("Cookie", "=;=;"),
            ("Authorization", "Bearer"),
        ):
            for method in ("GET", "POST"):
                headers = [(name.encode(), value.encode("latin-1"))]
                check(await client.request(method, path, headers=headers))


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/enhance/",
        "/%2e%2e/etc/passwd",
        "/\ud7ff",
        "/a" * 2000,
    ],
)
async def test_unknown_paths(serving, echo_backend, path):
    async with serving(echo_backend()) as client:
        for method in METHODS:
            answer = await client.request(method, path)
            check(answer)
            assert answer.status_code in (404, 405)


async def test_a_defect_is_answered_with_everything_that_others_have(serving, echo_backend, fixed_finder):
    settings = Settings(server=ServerSettings(cors_origins="https://page.example"))
    async with serving(echo_backend(), fixed_finder(defect=RuntimeError("x")), settings) as client:
        headers = {"Origin": "https://page.example"}
        answer = await client.post("/v1/enhance", content=PHOTO, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (500, "internal-error")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"


async def test_no_page_of_elsewhere_may_call_by_default(serving, echo_backend):
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


async def test_pages_that_are_named_may_call_and_others_may_not(serving, echo_backend):
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
        assert refused.headers["Access-Control-Allow-Origin"] == page, "the page must be able to read why"
        for asked in (preflight(other), preflight(page, "DELETE"), preflight(page, headers="x-evil")):
            answer = await client.options("/v1/enhance", headers=asked)
            check(answer)
            assert (answer.status_code, answer.json()["type"]) == (403, "cors-refused")
            assert "Access-Control-Allow-Origin" not in answer.headers
        foreign = await client.post("/v1/enhance", content=PHOTO, headers={"Origin": other})
        assert foreign.status_code == 200
        assert "Access-Control-Allow-Origin" not in foreign.headers


async def test_any_page_where_that_is_asked_for(serving, echo_backend):
    settings = Settings(server=ServerSettings(cors_origins="*"))
    async with serving(echo_backend(), settings=settings) as client:
        answer = await client.get("/v1/models", headers={"Origin": "https://page.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc"])
async def test_pages_may_load_what_they_name(serving, echo_backend, path):
    """Every script and style is of our own, there, and allowed by the page's policy."""
    async with serving(echo_backend()) as client:
        page = await client.get(path)
        policy = page.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "style-src 'self'" in policy
        assert "connect-src 'self'" in policy
        for loaded in re.findall(r'<(?:script|link)[^>]+(?:src|href)="([^"]+)"', page.text):
            assert not re.match("[a-z]*:?//", loaded), loaded
            assert (await client.get("/" + loaded.removeprefix("/"))).status_code == 200
        # Inline scripts run only where the policy has their digest.
        inline = re.findall(r"<script>", page.text)
        assert policy.count("'sha256-") >= len(inline)
