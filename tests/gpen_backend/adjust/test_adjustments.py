import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gpen_backend.adjust import adjustments as module
from gpen_backend.adjust.adjustments import adjust_picture
from gpen_common.types import RestoreParams

SCALES = ("denoise", "sharpen", "brightness", "contrast")


def scene(size: int = 160) -> np.ndarray:
    """Gradients, edges and texture in every tone, including black and white."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    base = np.stack([x, 0.8 * y + 0.1, 0.6 * (1 - x) + 0.2 * y], -1) * 255
    base[size // 4 : size // 2, size // 4 : size // 2] = (200, 150, 120)
    base[size // 2 : size * 3 // 4, size // 3 : size // 2] = (40, 30, 35)
    texture = cv2.GaussianBlur(rng.normal(0, 20, (size, size, 1)), (0, 0), 1.5)[..., None]
    return (base + texture).clip(0, 255).astype(np.uint8)


def adjusted(image: np.ndarray, **params: float) -> np.ndarray:
    return adjust_picture(image, RestoreParams(**params))


def luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def hues(image: np.ndarray, coloured: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[coloured]
    return np.arctan2(lab[:, 2], lab[:, 1])


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20).map(lambda s: (*s, 3))))
def test_zero_amounts_are_bit_equal(image):
    np.testing.assert_array_equal(adjusted(image), image)


@settings(deadline=None, max_examples=15)
@given(
    image=arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12).map(lambda s: (*s, 3))),
    denoise=st.floats(0, 100),
    sharpen=st.floats(0, 100),
    brightness=st.floats(0, 100),
    contrast=st.floats(0, 100),
    detail_enhance=st.booleans(),
)
def test_any_picture_and_any_amount_give_a_picture(image, **amounts):
    before = image.copy()
    after = adjusted(image, **amounts)
    assert after.shape == image.shape
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", SCALES)
def test_effect_grows_with_the_amount(name):
    """A larger amount changes the picture at least as much as a smaller one."""
    image = scene()
    distances = [
        np.abs(adjusted(image, **{name: amount}).astype(float) - image).mean()
        for amount in (0, 25, 50, 75, 100)
    ]
    assert distances == sorted(distances)
    assert distances[0] == 0 < distances[1]


@pytest.mark.parametrize("name", [*SCALES, "detail_enhance"])
def test_no_adjustment_clips(name):
    image = scene()
    amount = True if name == "detail_enhance" else 100
    before, after = (
        ((p == 0) | (p == 255)).any(-1).mean() for p in (image, adjusted(image, **{name: amount}))
    )
    assert after <= before + 0.01


@pytest.mark.parametrize("name", ["sharpen", "brightness", "contrast", "detail_enhance"])
def test_no_adjustment_shifts_a_hue(name):
    image = scene()
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    coloured = (np.hypot(lab[..., 1], lab[..., 2]) > 20) & (lab[..., 0] > 30)
    after = adjusted(image, **{name: True if name == "detail_enhance" else 100})
    turned = np.angle(np.exp(1j * (hues(after, coloured) - hues(image, coloured))))
    assert np.degrees(np.abs(turned).mean()) < 2
    assert abs(np.degrees(turned.mean())) < 0.5


def test_brightness_keeps_black_and_white_and_raises_mid_grey():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    curve = adjusted(ramp, brightness=100)[0, :, 0].astype(int)
    assert (curve[0], curve[255]) == (0, 255)
    assert curve[128] == pytest.approx(170, abs=2)
    assert (np.diff(curve) >= 0).all()


def test_contrast_pivots_at_mid_grey():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    curve = adjusted(ramp, contrast=100)[0, :, 0].astype(int)
    assert (curve[0], curve[255]) == (0, 255)
    assert curve[127] == pytest.approx(127, abs=1)
    assert curve[64] < 60
    assert curve[192] > 196
    assert (np.diff(curve) >= 0).all()


def test_sharpening_steepens_an_edge_without_a_halo():
    image = np.full((64, 64, 3), 60, np.uint8)
    image[:, 32:] = 190
    image = cv2.GaussianBlur(image, (0, 0), 2)
    after = adjusted(image, sharpen=100)
    assert np.abs(np.diff(luma(after), axis=1)).max() > 1.2 * np.abs(np.diff(luma(image), axis=1)).max()
    assert after.min() >= 60 - 6
    assert after.max() <= 190 + 6


def test_sharpening_amplifies_an_edge_but_not_noise():
    rng = np.random.default_rng(0)
    clean = np.full((160, 160, 1), 90.0)
    clean[:, 80:] = 170
    clean = cv2.GaussianBlur(clean, (0, 0), 1.5)[..., None]
    image = np.repeat((clean + rng.normal(0, 2, clean.shape)).round().astype(np.uint8), 3, 2)
    after = adjusted(image, sharpen=100)
    assert after[:, :60].std() < 1.5 * image[:, :60].std()
    assert np.diff(luma(after).mean(0)).max() > 1.2 * np.diff(luma(image).mean(0)).max()


def test_full_denoising_keeps_broad_shading():
    """Shading as faint as the noise, but coarser, must stay. The noise is measurable on a flat wall."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    forms = 130 + 8 * np.sin(x / 5) * np.sin(y / 5) * (x > 100)
    noisy = np.repeat((forms + rng.normal(0, 4, forms.shape)).round().astype(np.uint8)[..., None], 3, 2)
    after = luma(adjusted(noisy, denoise=100))
    shading = forms - forms.mean()
    assert ((after - after.mean()) * shading).sum() / np.square(shading).sum() > 0.6
    assert (after - forms).std() < 0.5 * 4


def test_brightness_and_contrast_form_one_curve_of_the_brightest_channel():
    """Every level is within rounding of the curve's definition."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    peak = image.max(-1, keepdims=True).astype(float)
    k = 0.4
    bright = peak * (1 + k) / (1 + k * peak / 255)
    curve = 127.5 * (1 + np.tanh(0.72 * (bright * 2 / 255 - 1)) / np.tanh(0.72))
    limit = np.maximum(peak, 254) / np.maximum(peak, 1)
    expected = np.maximum(image * np.minimum((curve + 1) / (peak + 1), limit), np.minimum(image, 1))
    assert np.abs(adjusted(image, brightness=40, contrast=60) - expected).max() <= 0.51


def test_denoising_removes_noise_and_keeps_edges():
    clean = np.full((128, 128, 3), 90, np.uint8)
    clean[:, 64:] = 170
    noisy = (clean + np.random.default_rng(0).normal(0, 10, clean.shape)).clip(0, 255).astype(np.uint8)
    after = adjusted(noisy, denoise=60)
    assert after[:, 4:50].std() < 0.4 * noisy[:, 4:50].std()
    assert luma(after)[:, 66:70].mean() - luma(after)[:, 58:62].mean() > 70


def test_detail_enhance_amplifies_texture_but_not_faint_noise():
    rng = np.random.default_rng(0)
    flat = np.repeat((128 + rng.normal(0, 1, (128, 128, 1))).round().astype(np.uint8), 3, 2)
    assert adjusted(flat, detail_enhance=True).std() < 1.15 * flat.std()
    rich = scene()
    texture = [cv2.Laplacian(luma(p), cv2.CV_32F).std() for p in (rich, adjusted(rich, detail_enhance=True))]
    assert texture[1] > 1.1 * texture[0]


def test_strips_leave_no_trace(monkeypatch):
    image = scene(300)
    asked = {"denoise": 60, "sharpen": 60, "brightness": 20, "contrast": 30, "detail_enhance": True}
    whole = adjusted(image, **asked)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 300 * 90)
    difference = np.abs(adjusted(image, **asked).astype(int) - whole)
    # Running sums round differently; an edge of a strip would differ by more.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
