"""Real portraits, a backend of a few lines, and gateways in this process and in one of their own."""

import csv
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from gateway.app import create_app
from gateway.faces import Face, FaceFinder, Pose
from gateway.imaging.encoder import encode
from gateway.imaging.photo import Photo, PixelLimits, decode
from gateway.settings import Settings
from gpen_client.wire.messages import (
    InferRequest,
    InferResponse,
    Tensor,
    decode_request,
    encode_response,
    header_length,
)
from gpen_common.types import Pixels


@dataclass(frozen=True, slots=True)
class SharedPortrait:
    """A picture of the shared catalog. yaw: degrees, by a pose network; None where it saw no face."""

    path: Path
    kind: str
    faces: int
    yaw: float | None

    def photo(self) -> Photo:
        return decode(self.path.read_bytes(), PixelLimits(max_pixels=64_000_000, max_side=32_000))


@pytest.fixture(scope="session")
def catalog(shared: Path) -> list[SharedPortrait]:
    """Every shared portrait."""
    folder = shared / "portraits"
    with (folder / "catalog.tsv").open() as file:
        return [
            SharedPortrait(
                folder / row["file"],
                row["kind"],
                int(row["faces"]),
                float(row["yaw_deg"]) if row["yaw_deg"] else None,
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


@pytest.fixture(scope="session")
def some_portraits(catalog: list[SharedPortrait]) -> list[SharedPortrait]:
    """The last few of every kind, about thirty."""
    by_kind = defaultdict(list)
    for portrait in catalog:
        by_kind[portrait.kind].append(portrait)
    return [portrait for kind in by_kind.values() for portrait in kind[-3:]]


@dataclass
class FixedFinder:
    """Sees one face in the middle of every photo, or none, or fails; or waits until it may go on."""

    name: str = "fixed"
    faces: int = 1
    pose: Pose | None = None
    defect: Exception | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event | None = None

    def find(self, pixels: Pixels) -> list[Face]:
        self.entered.set()
        if self.may_go_on is not None:
            assert self.may_go_on.wait(60)
        if self.defect is not None:
            raise self.defect
        height, width = pixels.shape[:2]
        # Shares of a typical face in a portrait.
        shares = np.float32([(0.42, 0.4), (0.58, 0.4), (0.5, 0.52), (0.44, 0.62), (0.56, 0.62)])
        box = (width * 0.3, height * 0.2, width * 0.7, height * 0.8)
        face = Face(box, shares * np.float32([width, height]), 0.9, self.pose)
        return [face] * self.faces


@dataclass
class EchoBackend:
    """A backend that gives every picture back as it came and notes what was asked.

    answer: in place of that, what it answers to every restoration. probe: what to every other request.
    """

    answer: Callable[[httpx.Request], Awaitable[httpx.Response]] | None = None
    probe: Callable[[httpx.Request], Awaitable[httpx.Response]] | None = None
    models: tuple[str, ...] = ("gpen-bfr-512",)
    engine: str = "echo"
    parameters: dict[str, float] = field(default_factory=dict)
    asked: list[InferRequest] = field(default_factory=list)
    request_ids: list[str | None] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        *_, model, action = request.url.path.split("/")
        if action == "infer":
            return await (self.answer or self._echo)(request)
        if self.probe is not None:
            return await self.probe(request)
        name = model if action == "ready" else action
        if name not in self.models:
            return httpx.Response(404, json={"error": f"no model {name}"})
        size = {"size": int(name.rpartition("-")[2]), "default": name == self.models[0]}
        return httpx.Response(200, json={"name": name, "platform": self.engine, "parameters": size})

    async def _echo(self, request: httpx.Request) -> httpx.Response:
        asked = decode_request([request.content], header_length(request.headers))
        self.asked.append(asked)
        self.request_ids.append(request.headers.get("X-Request-ID"))
        told = {"engine": self.engine, "model": request.url.path.split("/")[3], **self.parameters}
        upscale = int(asked.parameters.get("upscale", 1))
        pixels = asked.tensor("image").repeat(upscale, axis=1).repeat(upscale, axis=2)
        answer = InferResponse("", [Tensor("image", pixels)], told, asked.id)
        headers, body = encode_response(answer, binary=True)
        return httpx.Response(200, headers=headers, content=b"".join(body))


@pytest.fixture(scope="session")
def face_at() -> Callable[..., Face]:
    """Makes faces around given places."""
    return _face_at


def _face_at(x: float, y: float, eyes: float, roll: float = 0.0, yaw: float | None = 0.0) -> Face:
    """A frontal face whose landmarks' middle is at (x, y), with `eyes` px between the eyes.

    roll: degrees. yaw: what its pose says, degrees; None makes no pose.
    """
    # In distances between the eyes, from the landmarks' middle.
    upright = np.array([(-0.5, -0.53), (0.5, -0.53), (0, 0.05), (-0.42, 0.62), (0.42, 0.62)])
    angle = np.radians(roll)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    landmarks5 = (eyes * upright @ turn.T + (x, y)).astype(np.float32)
    bbox = (x - eyes, y - 1.2 * eyes, x + eyes, y + 1.2 * eyes)
    return Face(bbox, landmarks5, 0.9, None if yaw is None else Pose(yaw, 0, roll))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fixed_finder() -> type[FixedFinder]:
    """Makes face finders that need no picture of a face."""
    return FixedFinder


@pytest.fixture
def echo_backend() -> type[EchoBackend]:
    """Makes backends for `serving`."""
    return EchoBackend


Serving = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Runs a gateway in this process and gives a client of it.

    Without a backend it embeds the real one, with its classical engine.
    """
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "classical")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    return _serving


@asynccontextmanager
async def _serving(
    backend: EchoBackend | None = None, finder: FaceFinder | None = None, settings: Settings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.MockTransport(backend) if backend else None
    app = create_app(settings or Settings(), finder=finder or FixedFinder(), transport=transport)
    # A server, too, logs what an app raises once it has answered.
    to_app = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=to_app, base_url="http://gateway", timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def gateway_url(
    server_process: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A gateway as people start it, with the backend inside, on a real socket."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {
        "GATEWAY_FACE_FINDER": "haar",
        "GPEN_BACKEND_ENGINE": "classical",
        "GPEN_MODELS_DIR": str(folder),
        "GATEWAY_MAX_BODY_BYTES": "3000000",
        "PYTHONWARNINGS": "error",
    }
    with server_process(
        [sys.executable, "-m", "gateway", "serve", "--port", "0"], environment, folder
    ) as url:
        yield url


@pytest.fixture(scope="session")
def portrait_jpeg(astronaut: Pixels) -> bytes:
    """A photo with a face that every finder sees."""
    return encode(np.ascontiguousarray(astronaut[:400, :400]), "jpeg", 90)
