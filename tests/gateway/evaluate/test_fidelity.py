import builtins

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluate.fidelity import (
    CROP_SIDE,
    Perceptual,
    PerceptualUnavailable,
    compare,
    crop,
    crop_matrix,
    match_tone,
)
from gpen_common.geometry import scale_of, similarity, transform, warp

FIVE = np.array([[150, 200], [250, 205], [200, 260], [160, 310], [240, 312]], np.float32)


@pytest.fixture
def truth():
    coarse = np.random.default_rng(4).integers(40, 216, (CROP_SIDE // 8, CROP_SIDE // 8, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


def test_identical_crops_have_perfect_fidelity(truth):
    same = compare(truth, truth)
    assert (same.psnr, same.ssim, same.toned_psnr, same.toned_ssim) == (100, 1, 100, 1)
    assert same.lpips is None


def test_fidelity_falls_with_noise(truth):
    rng = np.random.default_rng(1)
    little, much = (
        compare(np.clip(truth + rng.normal(0, sigma, truth.shape), 0, 255).astype(np.uint8), truth)
        for sigma in (5, 20)
    )
    assert little.psnr > much.psnr
    assert little.ssim > much.ssim
    assert little.psnr == pytest.approx(20 * np.log10(255 / 5), abs=0.3)


@given(st.floats(0.6, 1.4), st.floats(-20, 20))
def test_match_tone_undoes_a_gain_and_offset(gain, offset):
    truth = np.random.default_rng(4).integers(90, 150, (32, 32, 3), np.uint8)
    lit = np.rint(truth * gain + offset).astype(np.uint8)
    assert np.abs(match_tone(lit, truth).astype(int) - truth).max() <= 1


def test_match_tone_maps_a_uniform_picture_to_the_mean():
    grey, truth = np.full((8, 8, 3), 7, np.uint8), np.full((8, 8, 3), 200, np.uint8)
    np.testing.assert_array_equal(match_tone(grey, truth), truth)


def test_crop_shows_the_same_part_of_a_transformed_result():
    """The crop follows the geometry of a rotated, scaled and moved result."""
    y, x = np.indices((400, 400))
    photo = np.stack([x / 2, y / 2, (x + y) / 4], -1).astype(np.uint8)
    to_crop = crop_matrix(FIVE)
    to_result = similarity(np.array([(0, 0), (100, 0)]), np.array([(30, 5), (170, 45)]))
    result = warp(photo, to_result, (700, 700))
    one, other = crop(photo, np.eye(2, 3), to_crop), crop(result, to_result, to_crop)
    assert one is not None
    assert other is not None
    assert np.abs(one.astype(int) - other).mean() < 1


def test_crop_has_gpens_scale():
    assert scale_of(crop_matrix(FIVE)) * np.hypot(100, 5) == pytest.approx(107.39, abs=0.01)
    eyes = transform(crop_matrix(FIVE), FIVE[:2])
    assert eyes.mean(0) == pytest.approx((255.735 - 144, 242.59 - 188), abs=0.01)


def test_crop_is_none_for_a_cut_off_face():
    assert crop(np.zeros((400, 220, 3), np.uint8), np.eye(2, 3), crop_matrix(FIVE)) is None


def test_lpips_is_unavailable_without_its_package(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "lpips":
            raise ModuleNotFoundError("No module named 'lpips'", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PerceptualUnavailable, match="lpips"):
        Perceptual()
