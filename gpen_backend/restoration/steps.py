"""Restoring one picture: align, network, enlarge, paste, adjust, as steps that anyone can read and time.

Each step is a function from one `Work` to the next. Nothing is kept between pictures, and what belongs to a
face travels with it. The steps are apart because the network's thread runs one of them and any other thread
the rest; `restore` runs them all where it stands.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpen_backend.adjust.adjustments import adjust
from gpen_backend.engines import Engine, restored_by
from gpen_backend.restoration.align import AlignedFace, align_all
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.paste import Patch, paste
from gpen_backend.restoration.tasks import blended, network_input
from gpen_backend.scheduling.batcher import BatchedFaces
from gpen_common.geometry import compose, enlarge, resize_matrix
from gpen_common.types import Pixels, Points, RestoreParams

MAX_BATCH = 4
"""Most faces in one run of the network, so that a crowd does not decide how much memory it takes."""


@dataclass(frozen=True, slots=True)
class Work:
    """One picture on its way.

    image: (H, W, 3) uint8 RGB, as far as it has come. landmarks: (F, 5, 2) float32 px, or None.
    faces: what was aligned. restored: what the network made of each, (S, S, 3) uint8 RGB. batch_size: most
    faces that shared a run. timings_ms: milliseconds by step.
    """

    image: Pixels
    landmarks: Points | None
    params: RestoreParams
    faces: tuple[AlignedFace, ...] = ()
    restored: tuple[Pixels, ...] = ()
    batch_size: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)


def restore(image: Pixels, landmarks: Points | None, params: RestoreParams, engine: Engine) -> Work:
    """Restore every face of a picture and adjust the whole of it. The result's `image` is as large, times
    `params.upscale`.

    image: (H, W, 3) uint8 RGB; it is not written to. landmarks: (F, 5, 2) float32, (x, y) px; a face whose
    landmarks are degenerate is left as it is, and without landmarks nothing is restored, only adjusted.
    Raises EngineError.
    """
    return restored(Work(image, landmarks, params), engine)


def restored(work: Work, engine: Engine) -> Work:
    """All steps, one after the other. Raises EngineError."""
    return finished(run_network(aligned(work, engine.size), engine))


def aligned(work: Work, size: int) -> Work:
    """Every face warped onto the template of `size`; none where strength 0 would leave it as it is."""
    landmarks = work.landmarks if work.params.strength else None
    return _timed("align", work, lambda: replace(work, faces=align_all(work.image, landmarks, size)))


def run_network(work: Work, engine: Engine) -> Work:
    """Every aligned face restored by `engine`, a few at a time, with nobody else's. Raises EngineError."""
    if not work.faces:
        return work

    def run() -> Work:
        faces, restored = network_faces(work), list[Pixels]()
        for first in range(0, len(faces), MAX_BATCH):
            restored += restored_by(engine, faces[first : first + MAX_BATCH])
        return replace(work, restored=tuple(restored), batch_size=min(MAX_BATCH, len(work.faces)))

    return _timed("network", work, run)


def network_faces(work: Work) -> Sequence[Pixels]:
    """What the network is to be given of `work`, (S, S, 3) uint8 RGB each."""
    task = work.params.task
    return [network_input(task, face.pixels[np.newaxis])[0] for face in work.faces]


def with_restored(work: Work, batched: BatchedFaces) -> Work:
    """`work` with what the network made of `network_faces`, and how long they waited for it."""
    timings = {**work.timings_ms, "queue": batched.waited_ms, "network": batched.ran_ms}
    return replace(work, restored=batched.faces, batch_size=batched.batch_size, timings_ms=timings)


def finished(work: Work) -> Work:
    """What is left to do once the network has run: enlarge, paste, adjust."""
    return adjusted(pasted(enlarged(work)))


def enlarged(work: Work) -> Work:
    """The picture as large as it is asked for, and every face's way back into that."""
    scale = work.params.upscale
    if scale == 1:
        return work

    def run() -> Work:
        image = enlarge(work.image, scale)
        height, width = work.image.shape[:2]
        larger = resize_matrix((width, height), (image.shape[1], image.shape[0]))
        faces = tuple(
            replace(face, inverse_affine=compose(larger, face.inverse_affine)) for face in work.faces
        )
        return replace(work, image=image, faces=faces)

    return _timed("enlarge", work, run)


def pasted(work: Work) -> Work:
    """The restored faces blended with their inputs and laid back into the picture."""
    if not work.restored:
        return work

    def run() -> Work:
        patches = (
            _patch(face, restored, work.params)
            for face, restored in zip(work.faces, work.restored, strict=True)
        )
        return replace(work, image=paste(work.image, patches))

    return _timed("paste", work, run)


def adjusted(work: Work) -> Work:
    """The whole picture denoised, sharpened, brightened and so on, as far as it is asked for."""
    return _timed("adjust", work, lambda: replace(work, image=adjust(work.image, work.params)))


def _patch(face: AlignedFace, restored: Pixels, params: RestoreParams) -> Patch:
    """What of one restored face goes where in the photo."""
    mask = face_mask(face.landmarks, face.pixels.shape[0])
    return Patch(face, blended(face.pixels, restored, mask, params), mask)


def _timed(step: str, work: Work, run: Callable[[], Work]) -> Work:
    """What `run` makes of `work`, with the milliseconds it took under the name of the `step`."""
    start = time.perf_counter()
    done = run()
    elapsed = (time.perf_counter() - start) * 1000
    return replace(done, timings_ms={**work.timings_ms, step: elapsed})
