import numpy as np
import pytest

from gateway.evaluate.measure import measure_place, measure_tone

FIVE = np.array([[79.5, 99.5], [119.5, 99.5], [99.5, 120], [85, 140], [115, 140]], np.float32)


def test_place_is_in_shares_of_the_picture():
    place = measure_place(FIVE, width=200, height=400)
    assert (place.eye_x, place.eye_y, place.scale) == pytest.approx((0.5, 0.25, 0.2))


def test_place_is_independent_of_the_picture_size():
    one, other = measure_place(FIVE, 200, 400), measure_place((FIVE + 0.5) * 2 - 0.5, 400, 800)
    assert (one.eye_x, one.eye_y, one.scale) == pytest.approx((other.eye_x, other.eye_y, other.scale))


def test_tone_measures_only_the_face():
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[60:190, 40:160] = 100
    tone = measure_tone(pixels, FIVE)
    assert tone.clipped == 0
    assert tone.contrast == pytest.approx(0, abs=0.1)
    assert measure_tone(pixels, None).clipped > 0.5


def test_pixels_with_one_extreme_channel_count_as_clipped():
    pixels = np.full((200, 200, 3), 100, np.uint8)
    pixels[:, :100, 0] = 255
    assert measure_tone(pixels, FIVE).clipped == pytest.approx(0.5, abs=0.02)


def test_noise_is_in_levels():
    noise = np.random.default_rng(2).normal(0, 6, (200, 200, 1))
    pixels = np.clip(128 + noise, 0, 255).astype(np.uint8).repeat(3, axis=2)
    assert measure_tone(pixels, FIVE).noise == pytest.approx(6, rel=0.1)
