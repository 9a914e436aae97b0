"""Self-check of a checkpoint: its output for a fixed input, as numbers comparable between machines."""

import hashlib
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpen_backend.engines import EngineError, from_network
from gpen_common.types import Pixels

# The input: squares per side, and the seed of their random colours.
_SQUARES, _SEED = 8, 20210512
# The output of a generator trained on pictures stays within [-1, 1], apart from overshoots at edges.
_RANGE, _RANGE_SHARE = 1.5, 0.95
# A picture with less spread than this is blank.
_LEAST_SPREAD = 0.01


class NetworkEngine(Protocol):
    """An engine that runs a network and exposes its output before rounding to pixels.

    parameters: number of weights, None if unknown.
    """

    name: str
    size: int
    parameters: int | None

    def output(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map (N, size, size, 3) uint8 RGB to (N, 3, size, size) float32, about [-1, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """Result of one run.

    mean, std, lowest, highest: of the output, nominally in [-1, 1]. sha256: of its pixels, (S, S, 3) uint8.
    The last digits of the output depend on the processor: mean and std agree within 1e-3 on all machines,
    the sha256 only on equal ones. faults: empty if the network is sound.
    """

    mean: float
    std: float
    lowest: float
    highest: float
    sha256: str
    seconds: float
    faults: tuple[str, ...]


def self_check(engine: NetworkEngine) -> SelfCheck:
    """Run the network twice on `check_input`. Raises EngineError if it does not run."""
    face = check_input(engine.size)[None]
    start = time.perf_counter()
    output = engine.output(face)
    seconds = time.perf_counter() - start
    if not np.isfinite(output).all():
        raise EngineError("the network's output is not finite")
    return SelfCheck(
        mean=float(output.mean(dtype=np.float64)),
        std=float(output.std(dtype=np.float64)),
        lowest=float(output.min()),
        highest=float(output.max()),
        sha256=hashlib.sha256(from_network(output).tobytes()).hexdigest(),
        seconds=seconds,
        faults=tuple(_faults(output, engine.output(face))),
    )


def check_input(size: int) -> Pixels:
    """The input of every self-check: coloured squares, (size, size, 3) uint8 RGB, equal on every machine."""
    # NumPy guarantees the sequence of RandomState forever, that of default_rng it does not. Source: NEP 19.
    colours = np.random.RandomState(_SEED).randint(0, 256, (_SQUARES, _SQUARES, 3))
    side = -(-size // _SQUARES)
    squares = colours.repeat(side, axis=0).repeat(side, axis=1)[:size, :size]
    return np.ascontiguousarray(squares, dtype=np.uint8)


def _faults(output: NDArray[np.float32], again: NDArray[np.float32]) -> list[str]:
    faults = []
    inside = float((np.abs(output) <= _RANGE).mean())
    if inside < _RANGE_SHARE:
        faults.append(
            f"only {inside:.0%} of the output is within [-{_RANGE}, {_RANGE}]: not a trained generator"
        )
    if output.std() < _LEAST_SPREAD:
        faults.append("the output is blank")
    if not np.array_equal(output, again):
        faults.append("a second run on the same input differs")
    return faults
