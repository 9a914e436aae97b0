import cv2
import numpy as np
import pytest

from gpen_backend.align import template
from gpen_backend.blend import blend
from gpen_backend.mask import face_mask

SIZE = 128
MASK = face_mask(template(SIZE), SIZE)
MODES = ("natural", "strong", "detail")


def skin(seed: int = 0, tone: tuple[int, int, int] = (190, 150, 130)) -> np.ndarray:
    """A face's colours with some texture."""
    noise = np.random.default_rng(seed).normal(0, 6, (SIZE, SIZE, 1))
    return (
        (np.array(tone) + cv2.GaussianBlur(noise, (0, 0), 1.5)[..., None] * 4).clip(0, 255).astype(np.uint8)
    )


def lab(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skin_protect", [True, False])
def test_an_unchanged_face_stays_unchanged(mode, skin_protect):
    face = skin()
    np.testing.assert_allclose(blend(face, face, MASK, mode, skin_protect, 70).target, face, atol=0.1)


@pytest.mark.parametrize(("mode", "half"), [("natural", 0.5), ("strong", 0.75), ("detail", 0.75)])
def test_opacity_runs_from_nothing_to_all(mode, half):
    opacities = [blend(skin(), skin(1), MASK, mode, True, strength).opacity for strength in (0, 50, 100)]
    assert opacities == pytest.approx([0, half, 1])


@pytest.mark.parametrize("mode", MODES)
def test_skin_protect_keeps_the_hue(mode):
    before, tinted = skin(), skin(1, (170, 160, 150))
    kept = blend(before, tinted, MASK, mode, True, 100).target
    assert np.abs(lab(kept)[..., 1:].mean((0, 1)) - lab(before)[..., 1:].mean((0, 1))).max() < 0.5


def test_without_skin_protect_the_networks_hue_is_taken():
    before, tinted = skin(), skin(1, (170, 160, 150))
    taken = blend(before, tinted, MASK, "strong", False, 100).target
    np.testing.assert_array_equal(taken, tinted)


def test_natural_keeps_the_mean_luminance_of_the_face():
    before, brighter = skin(), skin(1, (220, 180, 160))
    natural = blend(before, brighter, MASK, "natural", True, 100).target
    strong = blend(before, brighter, MASK, "strong", True, 100).target
    mean = [np.average(lab(face)[..., 0], weights=MASK) for face in (before, natural, strong)]
    assert abs(mean[1] - mean[0]) < 0.5
    assert mean[2] - mean[0] > 5


def test_detail_takes_texture_whole_and_tone_in_part():
    before = np.full((SIZE, SIZE, 3), 100, np.uint8)
    after = before + 50
    after[::2, ::2] += 20
    target = blend(before, after, MASK, "detail", False, 100).target
    assert target.mean() - 100 == pytest.approx(0.6 * 55, abs=1)
    assert target.std() == pytest.approx(after.std(), rel=0.05)
