import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_backend.restoration.align import align, align_faces, template
from gpen_common.geometry import DegenerateLandmarks, invert, scale_of, transform


def photo(width: int = 300, height: int = 200) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)


def face_at(x: float, y: float, scale: float, degrees: float = 0) -> np.ndarray:
    """Landmarks of a face centred on (x, y), whose crop of 64 would be 64 * scale px."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((template(64) - 32) @ turn.T * scale + (x, y)).astype(np.float32)


@pytest.fixture(scope="module")
def golden() -> dict:
    folder = os.environ.get("GPEN_GATEWAY_SHARED")
    if not folder:
        pytest.skip("GPEN_GATEWAY_SHARED names no folder with golden/alignment.json")
    return json.loads((Path(folder) / "golden" / "alignment.json").read_text())


def test_template_equals_the_originals_at_every_size(golden):
    for size, points in golden["templates"].items():
        np.testing.assert_allclose(template(int(size)), points, rtol=1e-6)


def test_alignment_equals_the_originals(golden):
    for case in golden["cases"]:
        image = np.zeros((3000, 3000, 3), np.uint8)
        face = align(image, np.array(case["landmarks"], np.float32), case["size"])
        np.testing.assert_allclose(invert(face.inverse_affine), case["matrix"], rtol=1e-4, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    x=st.floats(80, 220),
    y=st.floats(60, 140),
    scale=st.floats(0.3, 4),
    degrees=st.floats(-180, 180),
    size=st.sampled_from([32, 64, 256]),
)
def test_landmarks_map_to_the_template_and_back(x, y, scale, degrees, size):
    landmarks = face_at(x, y, scale, degrees)
    face = align(photo(), landmarks, size)
    assert face.pixels.shape == (size, size, 3)
    np.testing.assert_allclose(face.landmarks, template(size), atol=size * 1e-3)
    np.testing.assert_allclose(transform(face.inverse_affine, face.landmarks), landmarks, atol=1e-2)
    assert scale_of(face.inverse_affine) == pytest.approx(scale * 64 / size, rel=1e-3)


def test_shrinking_a_large_face_does_not_alias():
    """Stripes of one pixel, too fine for the crop, must become grey and not coarser stripes."""
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = align(stripes, face_at(600, 600, 12.3), 64).pixels
    assert pixels.std() < 5


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 50, np.float32),
        np.full((5, 2), np.nan, np.float32),
        np.array([[10, 10], [np.inf, 10], [20, 20], [10, 30], [30, 30]], np.float32),
        np.full((5, 2), 1e38, np.float32) * template(1),
        face_at(150, 100, 1e-3),
        face_at(150, 100, 1e6),
        face_at(5000, 100, 1),
        face_at(150, 100, 1)[[1, 0, 2, 4, 3]],
    ],
    ids=["coincide", "nan", "infinite", "huge", "tiny", "larger than any photo", "elsewhere", "mirrored"],
)
def test_rejects_landmarks_that_are_no_face(landmarks):
    with pytest.raises(DegenerateLandmarks):
        align(photo(), landmarks, 64)


def test_accepts_a_profile():
    landmarks = face_at(150, 100, 1)
    landmarks[:, 0] = 150 + 0.1 * (landmarks[:, 0] - 150) + [0, 0, 12, 2, 2]
    assert align(photo(), landmarks, 64).pixels.shape == (64, 64, 3)


def test_align_faces_skips_only_degenerate_faces():
    good = face_at(150, 100, 1)
    faces = align_faces(photo(), np.stack([np.zeros((5, 2), np.float32), good]), 64)
    assert len(faces) == 1
    np.testing.assert_allclose(transform(faces[0].inverse_affine, faces[0].landmarks), good, atol=1e-2)
    assert align_faces(photo(), None, 64) == ()
