import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from gpen_backend.engines.classical import ClassicalEngine

SIZE = 256
ENGINE = ClassicalEngine(SIZE)


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    """A sharp, clean face: (SIZE, SIZE, 3) uint8 RGB."""
    folder = os.environ.get("GPEN_GATEWAY_SHARED")
    if not folder:
        pytest.skip("GPEN_GATEWAY_SHARED names no folder with portraits/")
    image = cv2.imread(str(Path(folder) / "portraits" / "hq16.png"))
    return cv2.cvtColor(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


def restored(face: np.ndarray) -> np.ndarray:
    return ENGINE.restore(face[None])[0]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.square(one.astype(float) - other).mean()))


def sharpness(face: np.ndarray) -> float:
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float((grey - cv2.GaussianBlur(grey, (0, 0), 2))[50:200, 50:200].std())


def test_leaves_a_clean_face_unchanged(sharp):
    assert np.abs(restored(sharp).astype(int) - sharp).mean() < 0.5


@pytest.mark.parametrize("sigma", [8, 15])
def test_reduces_noise(sharp, sigma):
    noisy = (sharp + np.random.default_rng(0).normal(0, sigma, sharp.shape)).clip(0, 255).astype(np.uint8)
    assert distance(restored(noisy), sharp) < 0.65 * distance(noisy, sharp)


def test_sharpens_a_blurred_face_towards_the_original(sharp):
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.5)
    after = restored(blurred)
    assert sharpness(after) > 1.15 * sharpness(blurred)
    assert distance(after, sharp) < distance(blurred, sharp)


def test_sharpening_leaves_no_halo():
    face = np.full((SIZE, SIZE, 3), 80, np.uint8)
    face[:, SIZE // 2 :] = 180
    after = restored(cv2.GaussianBlur(face, (0, 0), 3))
    assert after.min() >= 80 - 5
    assert after.max() <= 180 + 5


@pytest.mark.parametrize("level", [0, 128, 255])
def test_keeps_a_flat_picture_flat(level):
    flat = np.full((SIZE, SIZE, 3), level, np.uint8)
    np.testing.assert_array_equal(restored(flat), flat)


def test_faces_of_a_batch_do_not_affect_each_other(sharp):
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2)
    both = ENGINE.restore(np.stack([sharp, blurred]))
    np.testing.assert_array_equal(both[0], restored(sharp))
    np.testing.assert_array_equal(both[1], restored(blurred))


def test_does_not_import_torch():
    """A machine without a network must not pay for torch in start-up time and memory."""
    script = (
        "import sys, numpy as np\n"
        "from gpen_backend.app import create_app\n"
        "from gpen_backend.models.registry import ModelRegistry\n"
        "from gpen_backend.settings import BackendSettings\n"
        "settings = BackendSettings(engine='classical')\n"
        "create_app(settings)\n"
        "ModelRegistry(settings).engine('gpen-bfr-256').restore(np.zeros((1, 256, 256, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
