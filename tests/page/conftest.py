"""A gateway, and a browser that records every error of a page."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from gateway.imaging.encoder import encode
from gpen_common.types import Pixels

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = "axe-core@4.14.1"
# Some tests expect a 4xx, which browsers report as an error.
_REFUSED = "Failed to load resource: the server responded with a status of 4"
# Redoc loads its logo from another host, which cannot be disabled: the Content Security Policy blocks it.
_REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def finder() -> dict[str, str]:
    """Settings of the best face finder whose files are present."""
    models = Path(os.environ.get("GPEN_GATEWAY_SHARED", "")) / "models"
    if (models / "face_detection_yunet_2023mar.onnx").is_file():
        return {"GATEWAY_FACE_FINDER": "yunet", "GPEN_MODELS_DIR": str(models)}
    return {"GATEWAY_FACE_FINDER": "haar"}


@pytest.fixture(scope="module")
def start(
    server_process: Callable[..., AbstractContextManager[str]],
    finder: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., AbstractContextManager[str]]:
    """`start(**settings)`: a context manager that runs a gateway and returns its URL."""

    def run_gateway(**settings: str) -> AbstractContextManager[str]:
        folder = tmp_path_factory.mktemp("gateway")
        environment = {
            "GPEN_MODELS_DIR": str(folder),
            "GPEN_BACKEND_ENGINE": "classical",
            **finder,
            **settings,
        }
        return server_process([sys.executable, "-m", "gateway", "serve", "--port", "0"], environment, folder)

    return run_gateway


@pytest.fixture(scope="module")
def url(start: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The URL of a running gateway."""
    with start() as url:
        yield url


@dataclass
class PageLog:
    """The errors and requests of pages."""

    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._message)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => "
            "console.error('policy', e.violatedDirective, e.blockedURI, e.sourceFile))"
        )

    def _message(self, message: ConsoleMessage) -> None:
        expected = message.text.startswith(_REFUSED) or _REDOC_LOGO in message.text
        if message.type in ("error", "warning") and not expected:
            self.errors.append(message.text)


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Open a URL in a new browser profile. Fails on errors and on requests to other hosts."""
    contexts, log, hosts = [], PageLog(), set()

    def open_url(url: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        hosts.add(urlsplit(url).netloc)
        page = context.new_page()
        page.set_default_timeout(15_000)
        log.watch(page)
        page.goto(url)
        return page

    yield open_url
    for context in contexts:
        context.close()
    assert log.errors == []
    requested = {urlsplit(url).netloc for url in log.requested if url != _REDOC_LOGO}
    assert requested <= {*hosts, ""}


@pytest.fixture(scope="session")
def photo(astronaut: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with a face that every finder detects."""
    path = tmp_path_factory.mktemp("photo") / "eileen.jpg"
    path.write_bytes(encode(np.ascontiguousarray(astronaut[:400, :450]), "jpeg", 90))
    return path


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker's script."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which downloads axe-core, is not installed")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run([npm, "pack", AXE], cwd=folder, capture_output=True, timeout=120, check=False)
    if packed.returncode:
        pytest.skip("npm cannot download axe-core")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text()
