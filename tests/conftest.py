"""What tests of several packages share."""

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from gpen_client.types import Pixels

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
        command, env={**inherited, **environment}, cwd=folder, stderr=subprocess.PIPE, text=True
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
