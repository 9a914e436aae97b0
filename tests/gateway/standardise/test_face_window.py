import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.faces import Face
from gateway.params import EnhanceParams
from gateway.standardise.face_window import cut_window, find_window_box
from gpen_backend.restoration.align import align, template
from gpen_backend.restoration.mask import face_mask
from gpen_common.geometry import compose, scale_of, transform

PLAIN = EnhanceParams(clahe="off", exposure="off")
SIDE = 512


def landmarks(
    x: float, y: float, eyes: float, roll: float = 0.0, narrow: float = 1.0, short: float = 1.0
) -> np.ndarray:
    """Landmarks (5, 2) of a face around (x, y) with `eyes` px between the eyes before foreshortening.

    roll: degrees. narrow, short: factors of width and height by yaw and pitch.
    """
    points = template(SIDE).astype(np.float64) - template(SIDE).mean(0)
    points *= np.array((narrow, short)) * eyes / (points[1, 0] - points[0, 0])
    angle = np.radians(roll)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return (points @ turn.T + (x, y)).astype(np.float32)


def a_face(landmarks5: np.ndarray) -> Face:
    (x0, y0), (x1, y1) = landmarks5.min(0).tolist(), landmarks5.max(0).tolist()
    return Face((x0, y0, x1, y1), landmarks5, 0.9, None)


def textured(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * height).integers(40, 200, (height, width, 3)).astype(np.uint8)


somewhere = st.builds(
    landmarks,
    x=st.floats(-200, 900),
    y=st.floats(-200, 900),
    eyes=st.floats(1, 600),
    roll=st.floats(-180, 180),
    narrow=st.floats(0.4, 1),
    short=st.floats(0.6, 1),
)


@given(five=somewhere, width=st.integers(1, 700), height=st.integers(1, 700))
def test_box_lies_in_the_photo_and_holds_its_landmarks(five, width, height):
    x0, y0, x1, y1 = find_window_box(five, width, height)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    inside = five[((five >= 0) & (five <= (width - 1, height - 1))).all(1)]
    assert ((inside >= (x0, y0)) & (inside <= (x1 - 1, y1 - 1))).all()


@settings(max_examples=60)
@given(
    eyes=st.floats(12, 300),
    roll=st.floats(-180, 180),
    narrow=st.floats(0.5, 1),
    short=st.floats(0.75, 1),
)
def test_box_holds_the_networks_crop_and_mask(eyes, roll, narrow, short):
    """At least 45 % of the crop's side from its centre; the mask ends further in."""
    five = landmarks(2000, 2000, eyes, roll, narrow, short)
    x0, y0, x1, y1 = find_window_box(five, 4000, 4000)
    # A photo of one grey is enough to align in.
    aligned = align(np.zeros((4000, 4000, 3), np.uint8), five, 128)
    middle, reach = 63.5, 0.45 * 128
    corners = np.array([(middle + x, middle + y) for x in (-reach, reach) for y in (-reach, reach)])
    rows, columns = np.nonzero(face_mask(aligned.landmarks, 128))
    for crop_px in (corners, np.stack([columns, rows], 1)):
        there = transform(aligned.inverse_affine, crop_px)
        assert (there >= (x0, y0)).all()
        assert (there <= (x1 - 1, y1 - 1)).all()


@settings(max_examples=40)
@given(five=somewhere, width=st.integers(1, 400), height=st.integers(1, 400), size=st.integers(16, 300))
def test_window_shrinks_only_if_larger_than_the_network_can_use(five, width, height, size):
    window = cut_window(textured(width, height), a_face(five), size, PLAIN)
    x0, y0, x1, y1 = window.box
    across, down = x1 - x0, y1 - y0
    tall, wide = window.source.shape[:2]
    assert wide <= across
    assert tall <= down
    if max(across, down) <= 1.75 * size:
        assert (wide, tall) == (across, down)
    else:
        assert max(wide, tall) == pytest.approx(1.75 * size, abs=1)
    assert window.pixels.shape == window.source.shape


def test_unshrunk_window_is_a_crop_of_the_photo():
    photo = textured(300, 200)
    window = cut_window(photo, a_face(landmarks(140, 90, 25)), 512, PLAIN)
    x0, y0, x1, y1 = window.box
    np.testing.assert_array_equal(window.pixels, photo[y0:y1, x0:x1])
    np.testing.assert_allclose(window.landmarks[0], window.face.landmarks5 - (x0, y0), atol=1e-4)


def test_matrix_of_a_shrunk_window_maps_the_landmarks():
    """Marks at the landmarks are found in the window at the mapped positions."""
    photo = np.zeros((900, 1000, 3), np.uint8)
    five = landmarks(500, 450, 150)
    for x, y in five.round().astype(int):
        photo[y - 6 : y + 7, x - 6 : x + 7] = 255
    window = cut_window(photo, a_face(five.round()), 128, PLAIN)
    assert max(window.source.shape) == 1.75 * 128
    for x, y in window.landmarks[0]:
        rows, columns = np.nonzero(window.source[..., 0] > 127)
        near = np.hypot(columns - x, rows - y) < 6
        assert columns[near].mean() == pytest.approx(x, abs=0.5)
        assert rows[near].mean() == pytest.approx(y, abs=0.5)


def test_window_and_photo_have_the_same_aligned_crop():
    """The second resampling of cutting and shrinking is invisible."""
    photo = np.zeros((700, 800, 3), np.uint8)
    y, x = np.indices(photo.shape[:2])
    photo[:] = (128 + 60 * np.sin(x / 9) + 40 * np.cos(y / 11))[..., np.newaxis]
    five = landmarks(400, 350, 90, roll=20)
    window = cut_window(photo, a_face(five), 128, PLAIN)
    whole, seen = align(photo, five, 128), align(window.source, window.landmarks[0], 128)
    inner = slice(8, -8), slice(8, -8)
    assert np.abs(whole.pixels[inner].astype(int) - seen.pixels[inner]).mean() < 2
    assert scale_of(compose(window.matrix, whole.inverse_affine)) == pytest.approx(
        scale_of(seen.inverse_affine), rel=0.01
    )


def test_unknown_inference_size_counts_as_512():
    photo, face = textured(1500, 1500), a_face(landmarks(750, 750, 250))
    unknown, known = (cut_window(photo, face, size, PLAIN) for size in (None, 512))
    assert max(unknown.source.shape) == 1.75 * 512
    assert unknown.source.shape == known.source.shape
