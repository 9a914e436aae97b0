import cv2
import numpy as np
import pytest

from gpen_backend.restoration.align import template
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.tone import KeptTone, match_tone

SIZE = 128
MASK = face_mask(template(SIZE), SIZE)
ENDS = (MASK > 0.02) & (MASK < 0.3)
DEEP = (slice(SIZE // 2 - 6, SIZE // 2 + 6),) * 2


def lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
def test_leaves_a_face_equal_to_its_input_unchanged(kept):
    face = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    tone = KeptTone(kept, kept, keep_mean=True)
    np.testing.assert_array_equal(match_tone(face, face, MASK, tone), face)


def test_tone_changes_from_the_photos_to_the_networks_without_a_step():
    before, after = (np.full((SIZE, SIZE, 3), level, np.uint8) for level in (130, 160))
    light = lab(match_tone(before, after, MASK, KeptTone()))[..., 0]
    assert np.abs(light - lab(before)[..., 0])[ENDS].mean() < 0.5
    assert np.abs(light - lab(after)[..., 0])[DEEP].max() < 1
    shift = float((lab(after) - lab(before))[..., 0].mean())
    assert np.abs(np.diff(light, axis=1)).max() < 0.1 * shift


def test_an_empty_mask_keeps_the_photos_tone():
    before, after = (np.full((SIZE, SIZE, 3), level, np.uint8) for level in (130, 160))
    assert np.abs(match_tone(before, after, np.zeros_like(MASK), KeptTone(keep_mean=True)) - before).max() < 1
