"""Fixtures of the gateway's tests: portraits, faces, an echo backend and running gateways."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.faces import Face
from gateway.imaging.encoder import encode
from gpen_common.types import Pixels
from tests.support.echo_backend import EchoBackend
from tests.support.faces import FixedFinder, make_face
from tests.support.gateways import Serving, run_gateway, run_gateway_process
from tests.support.portraits import SharedPortrait, read_catalog, sample_portraits


@pytest.fixture(scope="session")
def catalog(shared: Path) -> list[SharedPortrait]:
    """Every shared portrait."""
    return read_catalog(shared / "portraits")


@pytest.fixture(scope="session")
def some_portraits(catalog: list[SharedPortrait]) -> list[SharedPortrait]:
    """About thirty shared portraits of all kinds."""
    return sample_portraits(catalog)


@pytest.fixture(scope="session")
def face_at() -> Callable[..., Face]:
    """Makes faces at given places."""
    return make_face


@pytest.fixture
def fixed_finder() -> type[FixedFinder]:
    """Makes face finders that need no picture of a face."""
    return FixedFinder


@pytest.fixture
def echo_backend() -> type[EchoBackend]:
    """Makes backends for `serving`."""
    return EchoBackend


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Runs gateways in this process. Without a backend they embed the real one with its classical engine."""
    monkeypatch.setenv("GPEN_BACKEND_ENGINE", "classical")
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))
    return run_gateway


@pytest.fixture(scope="session")
def gateway_url(
    server_process: Callable[..., object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a gateway process with an embedded backend."""
    with run_gateway_process(server_process, tmp_path_factory.mktemp("elsewhere")) as url:
        yield url


@pytest.fixture(scope="session")
def portrait_jpeg(astronaut: Pixels) -> bytes:
    """A photo in which every finder finds a face."""
    return encode(np.ascontiguousarray(astronaut[:400, :400]), "jpeg", 90)
