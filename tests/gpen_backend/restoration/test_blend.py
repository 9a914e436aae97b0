import cv2
import numpy as np
import pytest

from gpen_backend.restoration.align import template
from gpen_backend.restoration.blend import blend
from gpen_backend.restoration.mask import face_mask

SIZE = 128
MASK = face_mask(template(SIZE), SIZE)
DEEP = (slice(SIZE // 2 - 6, SIZE // 2 + 6),) * 2
MODES = ("natural", "strong", "detail")


def skin(seed: int = 0, tone: tuple[int, int, int] = (190, 150, 130)) -> np.ndarray:
    """Skin colour with some texture."""
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
def test_opacity_runs_from_0_to_1(mode, half):
    opacities = [blend(skin(), skin(1), MASK, mode, True, strength).opacity for strength in (0, 50, 100)]
    assert opacities == pytest.approx([0, half, 1])


@pytest.mark.parametrize("mode", MODES)
def test_skin_protect_keeps_the_hue(mode):
    before, tinted = skin(), skin(1, (170, 160, 150))
    kept = blend(before, tinted, MASK, mode, True, 100).target
    assert np.abs(lab(kept)[..., 1:].mean((0, 1)) - lab(before)[..., 1:].mean((0, 1))).max() < 0.5


def test_takes_the_networks_hue_deep_inside_without_skin_protect():
    before, tinted = skin(), skin(1, (170, 160, 150))
    taken = blend(before, tinted, MASK, "strong", False, 100).target
    assert np.abs(taken - tinted)[DEEP].max() < 2


def test_natural_keeps_the_mean_luminance_of_the_face():
    before, brighter = skin(), skin(1, (220, 180, 160))
    natural = blend(before, brighter, MASK, "natural", True, 100).target
    strong = blend(before, brighter, MASK, "strong", True, 100).target
    mean = [np.average(lab(face)[..., 0], weights=MASK) for face in (before, natural, strong)]
    assert abs(mean[1] - mean[0]) < 0.5
    assert mean[2] - mean[0] > 5


def test_detail_takes_all_texture_and_part_of_the_tone():
    before = np.full((SIZE, SIZE, 3), 100, np.uint8)
    after = before + 50
    after[::2, ::2] += 20
    target = blend(before, after, MASK, "detail", False, 100).target[DEEP]
    assert target.mean() - 100 == pytest.approx(0.6 * 55, abs=2)
    assert target.std() == pytest.approx(after.std(), rel=0.1)


def test_detail_keeps_more_of_the_inputs_shading_than_strong():
    """The input has shading, and the network flattens it."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    before = np.repeat((170 - 60 * (x**2 + y**2).clip(0, 1))[..., None], 3, 2).astype(np.uint8)
    after = np.full_like(before, 150)
    spread = {mode: blend(before, after, MASK, mode, True, 100).target[DEEP].std() for mode in MODES}
    assert spread["detail"] > 1.5 * spread["strong"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skin_protect", [True, False])
@pytest.mark.parametrize("tone", [(215, 175, 155), (165, 125, 105), (205, 150, 105), (175, 150, 155)])
def test_tone_and_colour_match_the_input_at_the_edge_of_the_mask(mode, skin_protect, tone):
    before, after = skin(), skin(0, tone)
    target = blend(before, after, MASK, mode, skin_protect, 100).target
    ends = (MASK > 0.02) & (MASK < 0.3)
    assert np.abs((lab(target) - lab(before))[ends].mean(0)).max() < 1.0
    assert np.abs((lab(after) - lab(before))[ends].mean(0)).max() > 4


def test_matching_tone_clips_nothing():
    """The network lightens a face to within a few levels of white, or darkens its blacks to near 0."""
    before = skin()
    before[40:60, 40:60], before[70:90, 40:60] = 3, 252
    shifted = (before.astype(int) + 20).clip(2, 253).astype(np.uint8)
    for one, other in ((before, shifted), (shifted, before)):
        for mode in MODES:
            target = blend(one, other, MASK, mode, True, 100).target
            assert target.min() > 0
            assert target.max() < 255


def test_a_grey_photo_stays_grey_with_skin_protect():
    grey = np.repeat(skin()[..., :1], 3, 2)
    painted = (grey * np.array([1.0, 0.92, 0.8])).astype(np.uint8)
    for mode in MODES:
        colours = lab(blend(grey, painted, MASK, mode, True, 100).target)[..., 1:]
        assert np.abs(colours).max() < 2.5
        assert np.abs(colours.mean((0, 1))).max() < 0.3
