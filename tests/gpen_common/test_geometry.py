import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpen_common.geometry import DegenerateLandmarks, invert, scale_of, shrink, similarity, transform, warp
from gpen_common.types import Matrix

FIVE = np.array([[38, 52], [74, 51], [56, 72], [42, 92], [71, 92]], np.float32)
ANGLES = st.floats(-np.pi, np.pi)
SCALES = st.floats(0.05, 20)
SHIFTS = st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000))
POINTS = hnp.arrays(np.float32, (5, 2), elements=st.floats(-4000, 4000, width=32))
PICTURES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def motion(angle: float, scale: float, shift: tuple[float, float]) -> Matrix:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])


MOTIONS = st.builds(motion, ANGLES, SCALES, SHIFTS)


def spread(points: np.ndarray) -> float:
    return float(np.ptp(points, axis=0).max())


@given(MOTIONS, POINTS)
def test_fits_a_known_similarity(matrix, points):
    assume(spread(points) > 1)
    target = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(similarity(points, target), matrix, rtol=1e-5, atol=1e-5)


@given(POINTS, POINTS)
def test_a_fit_neither_mirrors_nor_shears(source, target):
    assume(spread(source) > 1)
    try:
        (a, b, _), (c, d, _) = similarity(source, target)
    except DegenerateLandmarks:
        return
    assert (a, b) == pytest.approx((d, -c), abs=1e-9)
    assert a * d - b * c > 0


@given(POINTS, POINTS, ANGLES, st.floats(0.9, 1.1), st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
def test_no_other_similarity_fits_better(source, target, angle, scale, shift):
    assume(spread(source) > 1)
    try:
        best = similarity(source, target)
    except DegenerateLandmarks:
        return

    def error(matrix: Matrix) -> float:
        return float(((source @ matrix[:, :2].T + matrix[:, 2] - target.astype(np.float64)) ** 2).sum())

    nudge = motion(angle / 50, scale, shift)
    other = np.column_stack([nudge[:, :2] @ best[:, :2], best[:, 2] + nudge[:, 2]])
    assert error(best) <= error(other) * (1 + 1e-9) + 1e-6


@given(MOTIONS, POINTS)
def test_the_inverse_undoes_a_transform(matrix, points):
    there_and_back = invert(matrix) @ np.vstack([matrix, [0, 0, 1]])
    np.testing.assert_allclose(there_and_back, [[1, 0, 0], [0, 1, 0]], atol=1e-6)
    # float32 holds a coordinate of 85,000 px to 0.004 px, which shrinking by 20 enlarges.
    np.testing.assert_allclose(
        transform(invert(matrix), transform(matrix, points)), points, rtol=1e-4, atol=0.2
    )


@given(MOTIONS)
def test_transformed_points_keep_their_shape_and_are_float32(matrix):
    faces = np.stack([FIVE, FIVE + 1])
    moved = transform(matrix, faces)
    assert (moved.shape, moved.dtype) == ((2, 5, 2), np.float32)
    np.testing.assert_array_equal(moved[1], transform(matrix, faces[1]))


@given(ANGLES, SCALES, SHIFTS)
def test_reads_the_scale_of_a_transform(angle, scale, shift):
    assert scale_of(motion(angle, scale, shift)) == pytest.approx(scale)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((5, 2)),
        np.full((5, 2), 4000.0),
        FIVE * 1e-5,
        FIVE[:1],
        FIVE * np.nan,
        FIVE * np.inf,
        FIVE * 1e30,
    ],
    ids=["zero", "same", "nearly the same", "one", "NaN", "infinite", "beyond any picture"],
)
def test_rejects_points_without_an_orientation(points):
    with pytest.raises(DegenerateLandmarks), np.errstate(invalid="ignore"):
        similarity(points, FIVE[: len(points)])
    with pytest.raises(DegenerateLandmarks):
        similarity(FIVE[: len(points)], points)


def test_rejects_points_that_only_a_mirror_fits():
    """The best rotation of a mirrored square shrinks it to a point, which has no inverse."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    with pytest.raises(DegenerateLandmarks):
        similarity(square, square[:, ::-1] * [1, 1])


@given(hnp.arrays(np.float32, (5, 2), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)))
def test_any_landmarks_give_a_picture_or_degenerate_landmarks(landmarks):
    picture = np.full((20, 30, 3), 7, np.uint8)
    try:
        matrix = similarity(landmarks, FIVE)
    except DegenerateLandmarks:
        return
    assert (warp(picture, matrix, (16, 16)) == 7).all()
    assert warp(picture, invert(matrix), (16, 16)).shape == (16, 16, 3)


@given(PICTURES)
def test_the_identity_changes_nothing(picture):
    height, width = picture.shape[:2]
    np.testing.assert_array_equal(warp(picture, np.eye(2, 3), (width, height)), picture, strict=True)


@given(PICTURES, st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 20), st.integers(1, 20))
def test_a_shift_by_whole_pixels_is_exact_and_mirrors_at_the_edge(picture, x, y, width, height):
    shift = np.array([[1, 0, x], [0, 1, y]], np.float64)
    columns = [cv2.borderInterpolate(i - x, picture.shape[1], cv2.BORDER_REFLECT_101) for i in range(width)]
    rows = [cv2.borderInterpolate(i - y, picture.shape[0], cv2.BORDER_REFLECT_101) for i in range(height)]
    np.testing.assert_array_equal(
        warp(picture, shift, (width, height)), picture[np.ix_(rows, columns)], strict=True
    )


def test_a_constant_border_is_black():
    picture = np.full((4, 4, 3), 255, np.uint8)
    shifted = warp(picture, np.array([[1.0, 0, 2], [0, 1, 0]]), (4, 4), border=cv2.BORDER_CONSTANT)
    assert shifted[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_keeps_type_and_channels(dtype, channels):
    picture = np.zeros((30, 40, *channels), dtype)
    for scale in (0.3, 1.0, 2.0):
        warped = warp(picture, motion(0.1, scale, (1, 2)), (17, 11))
        assert (warped.shape, warped.dtype) == ((11, 17, *channels), dtype)


@pytest.mark.parametrize("scale", [1 / 2, 1 / 4, 1 / 8])
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4])
def test_shrinking_does_not_alias(scale, angle):
    """A checkerboard of single pixels must become grey; plain sampling gives waves or stripes."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    size = int(256 * scale)
    centre = np.array([127.5, 127.5])
    matrix = motion(angle, scale, (0, 0))
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ centre
    grey = warp(board, matrix, (size, size))
    assert np.abs(grey.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("scale", [0.11, 0.3, 0.5, 0.77, 1.0, 1.6])
def test_shrinking_and_enlarging_shift_nothing(scale):
    """On a ramp, a shift by half a pixel is visible."""
    ramp = np.add.outer(np.arange(400, dtype=np.float32), 2 * np.arange(300, dtype=np.float32))
    matrix = motion(0.2, scale, (0, 0))
    matrix[:, 2] = 9.5 - matrix[:, :2] @ (150, 200)
    warped = warp(ramp, matrix, (20, 20))
    points = transform(
        invert(matrix), np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).astype(np.float32)
    )
    inside = ((points > 30) & (points < (270, 370))).all(-1)
    assert inside.any()
    # In pixels of the output. OpenCV's cubic (a = -0.75) bends a ramp by some hundredths of a step.
    off = (warped - (points[..., 1] + 2 * points[..., 0]))[inside] * scale / 3
    assert np.abs(off).max() < 0.15
    assert abs(off.mean()) < 0.01


def test_a_warp_and_its_inverse_restore_a_smooth_picture():
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8), (0, 0), 5)
    matrix = motion(0.4, 1.5, (40, 20))
    back = warp(warp(smooth, matrix, (240, 240)), invert(matrix), (120, 90))
    seen = warp(np.ones((90, 120), np.uint8), matrix, (240, 240), border=cv2.BORDER_CONSTANT)
    whole = warp(seen, invert(matrix), (120, 90), border=cv2.BORDER_CONSTANT).astype(bool)[4:-4, 4:-4]
    assert np.abs(back.astype(int) - smooth)[4:-4, 4:-4][whole].max() <= 2


@pytest.fixture(scope="module")
def alignment() -> dict:
    shared = os.environ.get("GPEN_GATEWAY_SHARED")
    if not shared:
        pytest.skip("GPEN_GATEWAY_SHARED names no folder with golden/alignment.json")
    return json.loads((Path(shared) / "golden" / "alignment.json").read_text())


def test_aligns_faces_like_gpen(alignment):
    """Equals GPEN's own matrix for each recorded face to 1e-6."""
    assert alignment["cases"]
    for case in alignment["cases"]:
        template = np.array(alignment["templates"][str(case["size"])])
        np.testing.assert_allclose(
            similarity(np.array(case["landmarks"]), template), case["matrix"], rtol=0, atol=1e-6
        )


@settings(max_examples=50)
@given(
    st.integers(600, 1400),
    st.integers(600, 1400),
    st.floats(0.1, 0.9),
    st.floats(0.2, 0.8),
    st.floats(0.2, 0.8),
)
def test_the_matrix_of_a_shrunken_picture_maps_its_points_back(width, height, scale, x, y):
    image = np.zeros((height, width), np.uint8)
    at = round(x * width), round(y * height)
    cv2.circle(image, at, 20, 255, cv2.FILLED)
    small, back = shrink(image, (round(width * scale), round(height * scale)))
    assert small.shape == (round(height * scale), round(width * scale))
    rows, columns = np.indices(small.shape)
    weight = small / small.sum()
    centre = np.array([(columns * weight).sum(), (rows * weight).sum()], np.float32)
    np.testing.assert_allclose(transform(back, centre), at, atol=0.3)
    assert small.mean() == pytest.approx(image.mean(), rel=0.02)
