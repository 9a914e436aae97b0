import cv2
import numpy as np
import pytest

from gpen_backend.restoration.align import template
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.tone import Tone, toned

SIZE = 128
MASK = face_mask(template(SIZE), SIZE)
ENDS = (MASK > 0.02) & (MASK < 0.3)
DEEP = (slice(SIZE // 2 - 6, SIZE // 2 + 6),) * 2


def lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


@pytest.mark.parametrize("match", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
def test_a_face_like_its_input_is_untouched(match, kept):
    face = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    tone = Tone(kept, kept, keep_mean=True, match_light=match, match_chroma=match)
    np.testing.assert_array_equal(toned(face, face, MASK, tone), face)


def test_colours_may_be_the_networks_up_to_the_border_while_light_is_not():
    """What colorizing needs: a grey photo has no colours to be matched to."""
    before = np.full((SIZE, SIZE, 3), 140, np.uint8)
    after = np.full_like(before, (200, 150, 120))
    coloured = lab(toned(before, after, MASK, Tone(light=1.0, match_chroma=False)))
    assert np.abs(coloured - lab(after))[..., 1:].max() < 1
    assert np.abs(coloured - lab(before))[..., 0].max() < 1


def test_tone_passes_from_the_photos_to_the_networks_without_a_step():
    before, after = (np.full((SIZE, SIZE, 3), level, np.uint8) for level in (130, 160))
    light = lab(toned(before, after, MASK, Tone()))[..., 0]
    assert np.abs(light - lab(before)[..., 0])[ENDS].mean() < 0.5
    assert np.abs(light - lab(after)[..., 0])[DEEP].max() < 1
    shift = float((lab(after) - lab(before))[..., 0].mean())
    assert np.abs(np.diff(light, axis=1)).max() < 0.1 * shift


def test_a_mask_without_a_face_takes_nothing_of_the_network():
    before, after = (np.full((SIZE, SIZE, 3), level, np.uint8) for level in (130, 160))
    assert np.abs(toned(before, after, np.zeros_like(MASK), Tone(keep_mean=True)) - before).max() < 1
