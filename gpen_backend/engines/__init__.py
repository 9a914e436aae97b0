"""What runs the network: one interface, and what every engine checks and raises."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpen_backend.hardware.memory import Memory, process_memory

# Half of 255: the network's [-1, 1] spans the bytes.
_HALF_RANGE = np.float32(127.5)


class EngineError(Exception):
    """The engine ran and has no usable answer. `str(error)` is one sentence for an operator."""


class EngineOutOfMemory(EngineError):
    """The device's memory does not hold this batch; a smaller one may do."""


class Engine(Protocol):
    """Restores batches of aligned faces. One thread makes every call.

    name: "torch", "onnx" or "classical". size: side of a face, px. together: several faces may run faster in
    one batch than one by one.
    """

    name: str
    size: int
    together: bool = False

    def memory(self) -> Memory:
        """Return the memory that batches use: the largest use so far, and what is free."""
        return process_memory()

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Restore (N, size, size, 3) uint8 RGB faces, N >= 1. Returns new pixels of the same shape. Blocks.

        Raises ValueError for another shape or dtype, EngineOutOfMemory, EngineError.
        """
        ...


def restored_by(engine: Engine, faces: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """One run of `engine` over `faces`, (S, S, 3) uint8 RGB each. Blocks. Raises EngineError."""
    batch = np.stack(faces)
    answer = engine.restore(batch)
    if answer.shape != batch.shape or answer.dtype != batch.dtype:
        raise EngineError(f"the engine made {answer.dtype} {answer.shape} of faces {batch.shape}")
    return list(answer)


def require_faces(faces: NDArray[np.uint8], size: int) -> None:
    """Raise ValueError unless `faces` is (N, size, size, 3) uint8 with N >= 1."""
    if faces.dtype != np.uint8:
        raise ValueError(f"faces must be uint8, not {faces.dtype}")
    if faces.ndim != 4 or faces.shape[1:] != (size, size, 3) or len(faces) < 1:
        raise ValueError(f"faces must be (N, {size}, {size}, 3) with N >= 1, not {faces.shape}")


def to_network(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn (N, S, S, 3) uint8 RGB into (N, 3, S, S) float32 in [-1, 1]."""
    pixels = np.ascontiguousarray(faces.transpose(0, 3, 1, 2)).astype(np.float32)
    return pixels / _HALF_RANGE - np.float32(1)


def from_network(output: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Turn (N, 3, S, S), about [-1, 1], into (N, S, S, 3) uint8 RGB, rounded and clipped.

    Raises EngineError where it is not finite.
    """
    if not np.isfinite(output).all():
        raise EngineError("the network's output is not finite; its checkpoint may be damaged")
    pixels = np.rint((output + 1) * _HALF_RANGE).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
