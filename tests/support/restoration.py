"""The steps of a restoration on the calling thread, without the server's queues and threads."""

import time

from gpen_backend.engines import Engine, run_engine
from gpen_backend.restoration.steps import Work, add_restored, align, finish, network_faces
from gpen_backend.scheduling.batcher import BatchedFaces


def run_steps(work: Work, engine: Engine) -> Work:
    """Run all steps, the network in one batch. Raises EngineError."""
    work = align(work, engine.size)
    if work.faces:
        start = time.perf_counter()
        restored = run_engine(engine, network_faces(work))
        elapsed = (time.perf_counter() - start) * 1000
        work = add_restored(work, BatchedFaces(tuple(restored), len(restored), 0.0, elapsed))
    return finish(work)
