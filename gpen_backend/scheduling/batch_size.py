"""Measure how many faces a network should run at once."""

import logging
import time
from collections.abc import Callable

import numpy as np

from gpen_backend.engines import Engine, EngineOutOfMemory

logger = logging.getLogger(__name__)

MOST = 64
"""Most faces in one run of a network."""

# A larger batch must be this much faster per face to be worth waiting for.
_GAIN = 1.05
# Largest share of the free memory that a batch may be expected to need.
_SHARE = 0.8


def best_batch(engine: Engine, clock: Callable[[], float] = time.perf_counter) -> int:
    """Warm the engine up; return the batch size with the highest throughput that fits into free memory.

    Runs an engine once and returns 1 unless it has `together = True`. Blocks; call it on the network's
    thread. Raises EngineError if a single face fails.
    """
    idle = engine.memory().used
    _seconds(engine, 1, clock)
    if not engine.together:
        return 1
    face_bytes = max(1, engine.memory().used - idle)
    best, per_face = 1, _seconds(engine, 1, clock)
    while (batch := 2 * best) <= MOST and _fits(batch * face_bytes, engine.memory().free):
        try:
            _seconds(engine, batch, clock)
            took = _seconds(engine, batch, clock) / batch
        except EngineOutOfMemory:
            break
        face_bytes = max(face_bytes, (engine.memory().used - idle) // batch)
        if took * _GAIN > per_face:
            break
        best, per_face = batch, took
    logger.info("%s %d px: batches of %d, %.1f faces/s", engine.name, engine.size, best, 1 / per_face)
    return best


def _seconds(engine: Engine, batch: int, clock: Callable[[], float]) -> float:
    faces = np.full((batch, engine.size, engine.size, 3), 128, np.uint8)
    start = clock()
    engine.restore(faces)
    return clock() - start


def _fits(needed: int, free: int | None) -> bool:
    return free is None or needed <= _SHARE * free
