"""Restoring one picture: align, run the network, enlarge, paste, adjust.

Each step is a pure function from one `Work` to the next, so no state is shared between pictures or faces.
The steps are separate because the server runs the network on one thread, in batches that requests share, and
the other steps on other threads (scheduling/restoration_service.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpen_backend.adjust.adjustments import adjust_picture
from gpen_backend.restoration.align import AlignedFace, align_faces
from gpen_backend.restoration.gpen_tasks import blend_by_task, prepare_for_network
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.paste import Patch, paste_patches
from gpen_backend.scheduling.batcher import BatchedFaces
from gpen_common import geometry
from gpen_common.types import Pixels, Points, RestoreParams


@dataclass(frozen=True, slots=True)
class Work:
    """One picture between two steps.

    image: (H, W, 3) uint8 RGB, never written to. landmarks: (F, 5, 2) float32, (x, y) px; None leaves faces
    as they are. faces: the aligned faces. restored: the network's output for each, (S, S, 3) uint8 RGB.
    batch_size: most faces that shared a run of the network. timings_ms: milliseconds by step.
    """

    image: Pixels
    landmarks: Points | None
    params: RestoreParams
    faces: tuple[AlignedFace, ...] = ()
    restored: tuple[Pixels, ...] = ()
    batch_size: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)


def align(work: Work, size: int) -> Work:
    """Warp every face onto the template of `size` px; degenerate landmarks and strength 0 give no face."""
    landmarks = work.landmarks if work.params.strength else None
    return _time("align", work, lambda: replace(work, faces=align_faces(work.image, landmarks, size)))


def network_faces(work: Work) -> Sequence[Pixels]:
    """The network's input for every aligned face, (S, S, 3) uint8 RGB each."""
    task = work.params.task
    return [prepare_for_network(task, face.pixels[np.newaxis])[0] for face in work.faces]


def add_restored(work: Work, batched: BatchedFaces) -> Work:
    """Add the batcher's result for `network_faces`, with its waiting time and run time."""
    timings = {**work.timings_ms, "queue": batched.waited_ms, "network": batched.ran_ms}
    return replace(work, restored=batched.faces, batch_size=batched.batch_size, timings_ms=timings)


def finish(work: Work) -> Work:
    """Run the steps after the network: enlarge, paste, adjust."""
    return adjust(paste(enlarge(work)))


def enlarge(work: Work) -> Work:
    """Enlarge the image by `params.upscale`, and map the faces into the larger image."""
    scale = work.params.upscale
    if scale == 1:
        return work

    def run() -> Work:
        image = geometry.enlarge(work.image, scale)
        height, width = work.image.shape[:2]
        larger = geometry.resize_matrix((width, height), (image.shape[1], image.shape[0]))
        faces = tuple(
            replace(face, inverse_affine=geometry.compose(larger, face.inverse_affine)) for face in work.faces
        )
        return replace(work, image=image, faces=faces)

    return _time("enlarge", work, run)


def paste(work: Work) -> Work:
    """Blend the restored faces with their inputs and paste them into the image."""
    if not work.restored:
        return work

    def run() -> Work:
        patches = (
            _patch(face, restored, work.params)
            for face, restored in zip(work.faces, work.restored, strict=True)
        )
        return replace(work, image=paste_patches(work.image, patches))

    return _time("paste", work, run)


def adjust(work: Work) -> Work:
    """Apply the adjustments of the whole image: denoise, sharpen, brightness and so on."""
    return _time("adjust", work, lambda: replace(work, image=adjust_picture(work.image, work.params)))


def _patch(face: AlignedFace, restored: Pixels, params: RestoreParams) -> Patch:
    """The patch for one restored face: its blend and its mask."""
    mask = face_mask(face.landmarks, face.pixels.shape[0])
    return Patch(face, blend_by_task(face.pixels, restored, mask, params), mask)


def _time(step: str, work: Work, run: Callable[[], Work]) -> Work:
    """Return the result of `run`, with its duration added to the timings of `work` as `step`."""
    start = time.perf_counter()
    done = run()
    elapsed = (time.perf_counter() - start) * 1000
    return replace(done, timings_ms={**work.timings_ms, step: elapsed})
