"""What tests of several packages share."""

import os
from pathlib import Path

import numpy as np
import pytest

from gpen_client.types import Pixels


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
