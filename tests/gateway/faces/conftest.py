"""Pictures for the tests of face finders."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from gateway.faces.face import Face, FaceFinder
from gpen_common.types import Pixels

Numbers = list[tuple[float, ...]]


def numbers(faces: list[Face]) -> Numbers:
    """All values of `faces`, for exact comparison."""
    values: Numbers = []
    for face in faces:
        pose = (face.pose.yaw, face.pose.pitch, face.pose.roll) if face.pose else ()
        values.append((*face.bbox, face.score, *face.landmarks5.ravel().tolist(), *pose))
    return values


def faceless() -> dict[str, Pixels]:
    noise = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    return {
        "1x1": np.full((1, 1, 3), 200, np.uint8),
        "1x5000": np.full((1, 5000, 3), 90, np.uint8),
        "5000x1": np.full((5000, 1, 3), 90, np.uint8),
        "9x9": noise[:9, :9].copy(),
        "2000x12": np.full((2000, 12, 3), 120, np.uint8),
        "black": np.zeros((300, 400, 3), np.uint8),
        "white": np.full((300, 400, 3), 255, np.uint8),
        "grey": np.full((1100, 1200, 3), 128, np.uint8),
        "noise": noise,
    }


@pytest.fixture(params=faceless().items(), ids=lambda item: item[0])
def faceless_picture(request: pytest.FixtureRequest) -> Pixels:
    """A picture without a face."""
    return request.param[1]


@pytest.fixture(scope="session")
def sixteen(astronaut: Pixels) -> list[Pixels]:
    """Sixteen pictures of one face, with different positions and sizes."""
    pictures = []
    for number in range(16):
        shift = 4 * number
        part = astronaut[: 330 + shift, shift : 400 + shift]
        pictures.append(np.ascontiguousarray(part[:, ::-1] if number % 2 else part))
    return pictures


@pytest.fixture(scope="session")
def concurrently() -> Callable[[FaceFinder, list[Pixels]], list[Numbers]]:
    """Finds faces in all pictures at once, each twice on a thread of its own."""

    def run(finder: FaceFinder, pictures: list[Pixels]) -> list[Numbers]:
        ready = Barrier(len(pictures))

        def find(pixels: Pixels) -> Numbers:
            ready.wait(10)
            return [*numbers(finder.find(pixels)), *numbers(finder.find(pixels))]

        with ThreadPoolExecutor(len(pictures)) as threads:
            return list(threads.map(find, pictures))

    return run


@pytest.fixture(scope="session")
def found_numbers() -> Callable[[FaceFinder, Pixels], Numbers]:
    """Finds faces and returns all their values."""
    return lambda finder, pixels: numbers(finder.find(pixels))
