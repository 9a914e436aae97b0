"""What tests of several packages share."""

import hashlib
import itertools
import os
import random
import re
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from gpen_common.types import Pixels

# A loaded machine is slow, not wrong.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden data, portraits and models; its tests skip without it."""
    if not (folder := os.environ.get("GPEN_GATEWAY_SHARED")):
        pytest.skip("GPEN_GATEWAY_SHARED is not set: the shared portraits and models are not here")
    return Path(folder)


@pytest.fixture(scope="session")
def yunet_path(shared: Path) -> Path:
    """YuNet's weights."""
    path = shared / "models" / "face_detection_yunet_2023mar.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


@pytest.fixture(scope="session")
def astronaut() -> Pixels:
    """A real photo with one face: (512, 512, 3) uint8 RGB, not writeable."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photo")
    pixels = np.ascontiguousarray(data.astronaut())
    pixels.setflags(write=False)
    return pixels


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """`free_ports(number)`: ports for servers that start later and cannot choose their own.

    From 20000 to 29999, which nothing takes by itself: the kernel gives connections and other tests' servers
    32768 and up, Ray its workers 10002 to 19999 and its replicas 30000 to 31000.
    """
    untried = iter(random.sample(range(20000, 30000), 10000))

    def is_free(port: int) -> bool:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    return lambda number: list(itertools.islice(filter(is_free, untried), number))


@pytest.fixture(scope="session")
def python_with(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`python_with(requirement, ours=False)`: an interpreter of its own with what a test talks to.

    It is kept between runs where pytest keeps its cache. ours: it also finds what the tests' own interpreter
    has, this project included. Skips where the requirement cannot be installed.
    """

    def made(requirement: str, *, ours: bool = False) -> Path:
        cache, name = request.config.cache, re.split(r"[^\w-]", requirement)[0]
        home = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
        # What pip left out for being there already may be another tomorrow.
        there = (request.config.rootpath / "pyproject.toml").read_text() if ours else ""
        state = hashlib.sha256(f"{requirement} {sys.prefix} {there}".encode()).hexdigest()[:16]
        python, complete = home / "venv" / "bin" / "python", home / "venv" / state
        if complete.exists():
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", home / "venv"], check=True)
        if ours:
            asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
            site = subprocess.check_output([python, "-c", asked], text=True).strip()
            # Of two versions of a package the venv's own comes first.
            shared = sysconfig.get_path("purelib")
            Path(site, "tests.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
        installed = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", requirement],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if installed.returncode:
            pytest.skip(f"{requirement} cannot be installed here: {installed.stdout[-300:]}")
        complete.touch()
        return python

    return made


@pytest.fixture(scope="session", autouse=True)
def nothing_is_fetched_or_kept() -> Iterator[None]:
    """Tests never ask the network for checkpoints, nor keep results, nor do the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPEN_BACKEND_FETCH", "off")
        patch.setenv("GATEWAY_CACHE", "off")
        for name in ("GPEN_MODELS_MIRROR", "GPEN_BACKEND_ENGINE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def file_server() -> Iterator["FileServer"]:
    """A server of files on a port of its own."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class FileServer(ThreadingHTTPServer):
    """Serves `files` (by name) with ETags and ranges; each of `faults` answers one request in their place.

    requests: the (name, headers) that were asked. released: set when stalled answers must end.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FileHandler)
        self.files: dict[str, bytes] = {}
        self.faults: list[Callable[[_FileHandler, bytes], None]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is nothing to tell."""


class _FileHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        self.close_connection = True
        name = self.path.strip("/")
        self.server.requests.append((name, dict(self.headers)))
        content = self.server.files.get(name)
        if self.server.faults:
            self.server.faults.pop(0)(self, content or b"")
        elif content is None:
            self.head(404, 0)
        else:
            self.serve(content)

    def serve(self, content: bytes, ranges: bool = True) -> None:
        """Answers as a good server does."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not ranges or not asked or self.headers.get("If-Range", etag) != etag:
            self.head(200, len(content), ETag=etag)
            self.wfile.write(content)
        elif (start := int(asked[1])) >= len(content):
            self.head(416, 0)
        else:
            part = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.head(206, len(content) - start, ETag=etag, Content_Range=part)
            self.wfile.write(content[start:])

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def reset(self) -> None:
        """Breaks the connection off, so that the client is told by a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def stall(self) -> None:
        """Says nothing more until the test is over."""
        self.wfile.flush()
        self.server.released.wait(30)

    def log_message(self, *_: object) -> None:
        """Nothing."""


ServerProcess = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def server_process() -> ServerProcess:
    """Starts a server that logs uvicorn's line, gives its URL, and ends it with the block."""
    return _server_process


@contextmanager
def _server_process(
    command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
) -> Iterator[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "GPEN_"))}
    with subprocess.Popen(
        command,
        env={**inherited, "GPEN_BACKEND_FETCH": "off", "GATEWAY_CACHE": "off", **environment},
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = []
        try:
            for line in process.stderr:
                log.append(line)
                if listening := re.search(r"running on (http://[0-9.]+:[0-9]+)", line):
                    break
            else:
                pytest.fail("the server did not start:\n" + "".join(log))
            # A pipe that nobody reads blocks its writer once it is full.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield listening[1]
        finally:
            process.terminate()
            process.wait(20)
