"""Engines run the network: their interface, their errors and their shared checks."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpen_backend.hardware.memory import Memory, process_memory

# Half of 255: the network's range [-1, 1] maps to bytes.
_HALF_RANGE = np.float32(127.5)


class EngineError(Exception):
    """The engine ran without a usable result. `str(error)` is one sentence for an operator."""


class EngineOutOfMemory(EngineError):
    """The batch does not fit in the device's memory. A smaller batch may fit."""


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

        Raises ValueError for any other shape or dtype, EngineOutOfMemory, EngineError.
        """
        ...


def run_engine(engine: Engine, faces: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Restore `faces`, (S, S, 3) uint8 RGB each, in one batch. Blocks. Raises EngineError."""
    batch = np.stack(faces)
    restored = engine.restore(batch)
    if restored.shape != batch.shape or restored.dtype != batch.dtype:
        raise EngineError(
            f"the engine returned {restored.dtype} {restored.shape} for {batch.dtype} {batch.shape}"
        )
    return list(restored)


def require_faces(faces: NDArray[np.uint8], size: int) -> None:
    """Raise ValueError unless `faces` is (N, size, size, 3) uint8 with N >= 1."""
    if faces.dtype != np.uint8:
        raise ValueError(f"faces must be uint8, not {faces.dtype}")
    if faces.ndim != 4 or faces.shape[1:] != (size, size, 3) or len(faces) < 1:
        raise ValueError(f"faces must be (N, {size}, {size}, 3) with N >= 1, not {faces.shape}")


def to_network(faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert (N, S, S, 3) uint8 RGB to (N, 3, S, S) float32 in [-1, 1]."""
    pixels = np.ascontiguousarray(faces.transpose(0, 3, 1, 2)).astype(np.float32)
    return pixels / _HALF_RANGE - np.float32(1)


def from_network(output: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert (N, 3, S, S), about [-1, 1], to (N, S, S, 3) uint8 RGB, rounded and clipped.

    Raises EngineError if a value is not finite.
    """
    if not np.isfinite(output).all():
        raise EngineError("the network's output is not finite; its checkpoint may be damaged")
    pixels = np.rint((output + 1) * _HALF_RANGE).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
