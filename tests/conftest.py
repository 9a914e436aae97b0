"""Fixtures that tests of several packages share."""

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import settings

from gpen_common.types import Pixels
from tests.support.files import FileServer, run_file_server
from tests.support.processes import find_free_ports, install_python_with, run_server_process

# A loaded machine is slow, not wrong.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


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
    """`free_ports(number)` returns ports for servers that start later and cannot choose their own."""
    return find_free_ports


@pytest.fixture(scope="session")
def python_with(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`python_with(requirement, ours=False)` returns an interpreter that has `requirement`, or skips.

    It is kept in pytest's cache between runs. ours: it also has this project and its dependencies.
    """

    def install(requirement: str, *, ours: bool = False) -> Path:
        cache, name = request.config.cache, re.split(r"[^\w-]", requirement)[0]
        home = cache.mkdir(name) if cache else tmp_path_factory.mktemp(name)
        # pip leaves out what is installed already, so install again when the dependencies change.
        state = (request.config.rootpath / "pyproject.toml").read_text() if ours else ""
        return install_python_with(requirement, home, ours=ours, state=state)

    return install


@pytest.fixture(scope="session", autouse=True)
def nothing_is_fetched_or_kept() -> Iterator[None]:
    """Keep tests and the processes that they start from downloading checkpoints and from caching results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPEN_BACKEND_FETCH", "off")
        patch.setenv("GATEWAY_CACHE", "off")
        for name in ("GPEN_MODELS_MIRROR", "GPEN_BACKEND_ENGINE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A file server on a free port."""
    with run_file_server() as server:
        yield server


@pytest.fixture(scope="session")
def server_process() -> Callable[
    [Sequence[str], Mapping[str, str], Path | None], AbstractContextManager[str]
]:
    """`server_process(command, environment, folder=None)` runs a server during its block; yields its URL."""
    return run_server_process
