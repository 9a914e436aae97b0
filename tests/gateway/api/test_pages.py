"""Files of the page and of the documentation; tests/page runs the page in a browser."""

import base64
import hashlib
import re

import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(serving, echo_backend):
    async with serving(echo_backend()) as client:
        yield client


async def test_the_page_loads_only_its_own_files(client):
    page = await client.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    loaded = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert {"page/app.js", "page/style.css", "page/vendor/img-comparison-slider.js"} <= set(loaded)
    for path in loaded:
        assert (await client.get(f"/{path}")).status_code == 200
    assert not re.search(r"https?://\w", page.text)


async def test_serves_every_module_of_the_page(client):
    seen, ahead = set(), ["app.js"]
    while ahead:
        name = ahead.pop()
        if name not in seen:
            seen.add(name)
            module = await client.get(f"/page/{name}")
            assert module.headers["Content-Type"].startswith("text/javascript")
            ahead += re.findall(r'from "\./([\w.]+)"', module.text)
    assert len(seen) > 5


async def test_revalidates_files_of_the_page_by_etag(client):
    first = await client.get("/page/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get("/page/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/../app.py", "/page/%2e%2e/app.py", "/page/vendor"]
)
async def test_serves_no_other_files(client, path):
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "not-found"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_documentation_runs_only_its_own_scripts(client, path):
    page = await client.get(path)
    policy = page.headers["Content-Security-Policy"]
    scripts = re.search(r"script-src ([^;]*)", policy)[1].split()
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in inline]
    assert scripts == ["'self'", *(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)]
    for script in re.findall(r'src="([^"]+)"', page.text):
        assert script.startswith("/")
        assert (await client.get(script)).status_code == 200
