import numpy as np
import pytest

from gateway.faces.haar import HaarFinder
from gateway.faces.yunet import YunetFinder


@pytest.fixture(scope="module")
def finder():
    return HaarFinder()


def eye_error(found, reference):
    """The larger error of the two eyes, in interocular distances."""
    apart = np.hypot(*(found.landmarks5[:2] - reference.landmarks5[:2]).T)
    return float(apart.max()) / reference.interocular


def test_eyes_agree_with_yunet(finder, astronaut, yunet_path):
    found, reference = finder.find(astronaut)[0], YunetFinder(yunet_path).find(astronaut)[0]
    assert eye_error(found, reference) < 0.15


def test_finds_a_frontal_face_with_ordered_landmarks(finder, astronaut):
    face = finder.find(astronaut)[0]
    assert face.eye_centre == pytest.approx((224, 102), abs=10)
    left, right, nose, left_corner, right_corner = face.landmarks5
    assert left[0] < nose[0] < right[0]
    assert left_corner[0] < right_corner[0]
    assert face.landmarks5.dtype == np.float32


def test_reports_no_pose(finder, astronaut):
    assert finder.find(astronaut)[0].pose is None


def test_landmarks_are_in_photo_pixels(finder, astronaut):
    offset = np.array((700, 300), np.float32)
    large = np.full((900, 1400, 3), 128, np.uint8)
    large[300:812, 700:1212] = astronaut
    found, alone = finder.find(large)[0], finder.find(astronaut)[0]
    np.testing.assert_allclose(found.landmarks5 - offset, alone.landmarks5, atol=8)


def test_finds_no_face_in_a_faceless_picture(finder, faceless_picture):
    assert finder.find(faceless_picture) == []


def test_finding_is_deterministic(catalog, found_numbers):
    group = next(portrait for portrait in catalog if portrait.faces > 20).photo().pixels
    assert found_numbers(HaarFinder(), group) == found_numbers(HaarFinder(), group)


def test_sixteen_threads_find_the_same_as_one(finder, sixteen, concurrently, found_numbers):
    alone = [found_numbers(finder, pixels) for pixels in sixteen]
    assert len({tuple(map(tuple, faces)) for faces in alone}) == 16
    assert concurrently(finder, sixteen) == [faces * 2 for faces in alone]


def test_finds_most_upright_portraits(finder, some_portraits):
    """A frontal cascade misses profiles, hats and winks."""
    portraits = [portrait for portrait in some_portraits[::2] if portrait.faces and portrait.kind != "phone"]
    found = [bool(finder.find(portrait.photo().pixels)) for portrait in portraits]
    assert np.mean(found) >= 0.85
