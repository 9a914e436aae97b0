from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_backend.engines import EngineError
from gpen_backend.network.generator import Generator
from gpen_backend.restoration import paste as paste_module
from gpen_backend.restoration.align import align, template
from gpen_backend.restoration.blend import Blend
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.steps import Work
from gpen_common.geometry import warp
from gpen_common.types import RestoreParams
from tests.support.restoration import run_steps

SIZE = 64
COLOURS = np.array([(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10)], np.uint8)


@dataclass
class Painter:
    """Paints its nth face in the nth colour, and keeps the batch sizes."""

    name: str = "painter"
    size: int = SIZE

    def __post_init__(self) -> None:
        self.batches: list[int] = []

    def restore(self, faces):
        first = sum(self.batches)
        self.batches.append(len(faces))
        return np.stack([np.full_like(face, COLOURS[(first + i) % 4]) for i, face in enumerate(faces)])


class Identity:
    name = "identity"

    def __init__(self, size: int = SIZE) -> None:
        self.size = size

    def restore(self, faces):
        return faces.copy()


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 1.0)


def face_at(x: float, y: float, scale: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((template(SIZE) - SIZE / 2) @ turn.T * scale + (x, y)).astype(np.float32)


def mask_in_photo(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Where a face may change the photo: its mask, warped by the inverse of its alignment."""
    face = align(image, landmarks, SIZE)
    mask = face_mask(face.landmarks, SIZE)
    return warp(mask, face.inverse_affine, image.shape[1::-1], cv2.BORDER_CONSTANT)


faces_anywhere = st.lists(
    st.builds(
        face_at,
        x=st.floats(-20, 220),
        y=st.floats(-20, 180),
        scale=st.floats(0.2, 4),
        degrees=st.floats(-180, 180),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=40)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 160),
    faces=faces_anywhere,
    mode=st.sampled_from(["natural", "strong", "detail"]),
)
def test_strength_0_is_bit_equal(width, height, faces, mode):
    image = photo(width, height)
    landmarks = np.array(faces, np.float32).reshape(-1, 5, 2)
    work = run_steps(Work(image, landmarks, RestoreParams(strength=0, mode=mode)), Painter())
    np.testing.assert_array_equal(work.image, image)
    assert work.batch_size == 0


@settings(deadline=None, max_examples=40)
@given(
    faces=faces_anywhere, strength=st.floats(1, 100), mode=st.sampled_from(["natural", "strong", "detail"])
)
def test_the_photo_outside_all_masks_is_bit_equal(faces, strength, mode):
    image = photo(200, 160)
    before = image.copy()
    work = run_steps(
        Work(
            image, np.array(faces, np.float32).reshape(-1, 5, 2), RestoreParams(strength=strength, mode=mode)
        ),
        Painter(),
    )
    np.testing.assert_array_equal(image, before)
    reached = np.zeros(image.shape[:2], np.float32)
    for landmarks in faces:
        try:
            # Dilated, as the crop is resampled within its own region only.
            reached = np.maximum(
                reached, cv2.dilate(mask_in_photo(image, landmarks), np.ones((5, 5), np.uint8))
            )
        except ValueError:
            continue
    outside = reached <= 0
    np.testing.assert_array_equal(work.image[outside], image[outside])


def test_faces_never_mix():
    """Where two faces overlap, each pixel is blended from the photo and one of them, never both."""
    image = np.full((200, 260, 3), 128, np.uint8)
    landmarks = np.stack([face_at(100, 100, 2), face_at(160, 100, 2)])
    faces = [align(image, face, SIZE) for face in landmarks]
    patches = [
        paste_module.Patch(
            face,
            Blend(np.full((SIZE, SIZE, 3), colour, np.float32), 1.0, 0.0),
            face_mask(face.landmarks, SIZE),
        )
        for face, colour in zip(faces, COLOURS, strict=False)
    ]
    result = paste_module.paste_patches(image, patches).astype(float)
    masks = [mask_in_photo(image, face).clip(0, 1) for face in landmarks]
    first = (masks[0] >= masks[1])[..., None]
    expected = np.where(
        first,
        128 + masks[0][..., None] * (COLOURS[0] - 128.0),
        128 + masks[1][..., None] * (COLOURS[1] - 128.0),
    )
    assert np.abs(result - expected).max() <= 1


def test_order_of_overlapping_faces_does_not_matter():
    image = photo(260, 200)
    landmarks = np.stack([face_at(100, 100, 2), face_at(160, 100, 2)])
    params = RestoreParams(strength=100, skin_protect=False)

    class Inverter(Identity):
        def restore(self, faces):
            return 255 - faces

    one = run_steps(Work(image, landmarks, params), Inverter()).image
    other = run_steps(Work(image, landmarks[::-1], params), Inverter()).image
    assert (one != other).any(-1).mean() < 1e-3


@pytest.mark.parametrize("mode", ["natural", "detail"])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.3])
def test_an_identity_engine_reproduces_the_original(mode, scale):
    """At any scale, warping a face to the crop and back does not soften it."""
    image = photo(260, 240)
    landmarks = face_at(130, 120, scale, 17)[None]
    result = run_steps(Work(image, landmarks, RestoreParams(strength=100, mode=mode)), Identity()).image
    assert np.abs(result.astype(int) - image).max() <= 1


def test_an_identity_engine_reproduces_a_smooth_original_in_strong_mode():
    y, x = np.mgrid[:240, :260]
    image = np.stack([x * 0.9, y, 255 - x * 0.9], -1).astype(np.uint8)
    params = RestoreParams(strength=100, mode="strong")
    result = run_steps(Work(image, face_at(130, 120, 1.5)[None], params), Identity()).image
    assert np.abs(result.astype(int) - image).max() <= 1


def test_strips_leave_no_trace(monkeypatch):
    image, landmarks = photo(400, 380), face_at(200, 190, 5, 10)[None]
    params = RestoreParams(strength=100, skin_protect=False)
    whole = run_steps(Work(image, landmarks, params), Painter()).image
    monkeypatch.setattr(paste_module, "_STRIP_PIXELS", 1000)
    striped = run_steps(Work(image, landmarks, params), Painter()).image
    assert np.abs(striped.astype(int) - whole).max() <= 1
    assert (striped != whole).mean() < 1e-3


def test_skips_degenerate_faces():
    landmarks = np.stack(
        [np.zeros((5, 2), np.float32), face_at(100, 80), np.full((5, 2), np.nan, np.float32)]
    )
    work = run_steps(Work(photo(200, 160), landmarks, RestoreParams()), Painter())
    assert len(work.restored) == 1


def test_only_adjusts_without_landmarks():
    image, painter = photo(50, 40), Painter()
    work = run_steps(Work(image, None, RestoreParams(brightness=50)), painter)
    assert painter.batches == []
    assert work.image.mean() > image.mean()
    assert {"align", "adjust"} <= set(work.timings_ms)


def test_raises_engine_error_for_output_of_another_shape():
    class Broken(Identity):
        def restore(self, faces):
            return faces[:, ::2]

    with pytest.raises(EngineError, match="the engine returned"):
        run_steps(Work(photo(100, 100), face_at(50, 50)[None], RestoreParams()), Broken())


def test_restores_with_a_real_network(seed_weights):
    from gpen_backend.engines.torch import TorchEngine

    generator = Generator(SIZE, narrow=1 / 64, style_dim=16, mlp_layers=2)
    generator.load_state_dict(seed_weights(generator.state_dict()))
    image = photo(200, 160)
    work = run_steps(
        Work(image, face_at(100, 80, 1.5)[None], RestoreParams(strength=100, mode="strong")),
        TorchEngine(generator),
    )
    assert work.image.shape == image.shape
    assert len(work.restored) == 1
    assert (work.image != image).any()
