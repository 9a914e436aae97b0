"""A gateway and a browser that tells everything that goes wrong in it."""

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
# A refusal is what some tests are about; browsers count it as an error.
_REFUSED = "Failed to load resource: the server responded with a status of 4"
# Redoc's maker's mark comes from elsewhere and cannot be turned off: the policy keeps it out.
_MARK = "https://cdn.redoc.ly/redoc/logo-mini.svg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def finder() -> dict[str, str]:
    """Settings of the best face finder whose files are here."""
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
    """Starts a gateway with further settings."""

    def started(**settings: str) -> AbstractContextManager[str]:
        folder = tmp_path_factory.mktemp("gateway")
        environment = {
            "GPEN_MODELS_DIR": str(folder),
            "GPEN_BACKEND_ENGINE": "classical",
            **finder,
            **settings,
        }
        return server_process([sys.executable, "-m", "gateway", "serve", "--port", "0"], environment, folder)

    return started


@pytest.fixture(scope="module")
def url(start: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """A gateway."""
    with start() as url:
        yield url


@dataclass
class Watched:
    """What a page did that it should not."""

    wrong: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", self._message)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.requested.append(request.url))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation', e => "
            "console.error('policy', e.violatedDirective, e.blockedURI, e.sourceFile))"
        )

    def _message(self, message: ConsoleMessage) -> None:
        expected = message.text.startswith(_REFUSED) or _MARK in message.text
        if message.type in ("error", "warning") and not expected:
            self.wrong.append(message.text)


Opened = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opened]:
    """Opens addresses in a fresh profile; nothing may go wrong there, nor be asked of anyone else."""
    contexts, watched, hosts = [], Watched(), set()

    def opened(url: str, **options: object) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        hosts.add(urlsplit(url).netloc)
        page = context.new_page()
        page.set_default_timeout(15_000)
        watched.watch(page)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert watched.wrong == []
    asked = {urlsplit(url).netloc for url in watched.requested if url != _MARK}
    assert asked <= {*hosts, ""}


@pytest.fixture(scope="session")
def photo(astronaut: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with a face that every finder sees."""
    path = tmp_path_factory.mktemp("photo") / "eileen.jpg"
    path.write_bytes(encode(np.ascontiguousarray(astronaut[:400, :450]), "jpeg", 90))
    return path


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility checker's script."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm brings axe-core, and is not here")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run([npm, "pack", AXE], cwd=folder, capture_output=True, timeout=120, check=False)
    if packed.returncode:
        pytest.skip("npm cannot fetch axe-core")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text()
