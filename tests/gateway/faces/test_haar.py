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


def test_the_astronauts_eyes_are_where_yunet_sees_them(finder, astronaut, yunet_path):
    found, reference = finder.find(astronaut)[0], YunetFinder(yunet_path).find(astronaut)[0]
    assert eye_error(found, reference) < 0.15


def test_the_astronauts_face_is_found_without_any_file(finder, astronaut):
    face = finder.find(astronaut)[0]
    assert face.eye_centre == pytest.approx((224, 102), abs=10)
    left, right, nose, left_corner, right_corner = face.landmarks5
    assert left[0] < nose[0] < right[0]
    assert left_corner[0] < right_corner[0]
    assert face.landmarks5.dtype == np.float32


def test_it_never_tells_a_pose_that_it_has_not_seen(finder, astronaut):
    assert finder.find(astronaut)[0].pose is None


def test_landmarks_are_told_in_the_photos_pixels(finder, astronaut):
    offset = np.array((700, 300), np.float32)
    large = np.full((900, 1400, 3), 128, np.uint8)
    large[300:812, 700:1212] = astronaut
    found, alone = finder.find(large)[0], finder.find(astronaut)[0]
    np.testing.assert_allclose(found.landmarks5 - offset, alone.landmarks5, atol=8)


def test_a_picture_without_a_face_has_none(finder, faceless_picture):
    assert finder.find(faceless_picture) == []


def test_the_same_picture_gives_the_same_faces_in_the_same_order(catalog, told):
    group = next(portrait for portrait in catalog if portrait.faces > 20).photo().pixels
    assert told(HaarFinder(), group) == told(HaarFinder(), group)


def test_sixteen_threads_find_what_one_finds(finder, sixteen, concurrently, told):
    alone = [told(finder, pixels) for pixels in sixteen]
    assert len({tuple(map(tuple, faces)) for faces in alone}) == 16
    assert concurrently(finder, sixteen) == [faces * 2 for faces in alone]


def test_most_upright_portraits_are_found(finder, some_portraits):
    """Profiles, hats and winks are beyond a frontal cascade."""
    portraits = [portrait for portrait in some_portraits[::2] if portrait.faces and portrait.kind != "phone"]
    found = [bool(finder.find(portrait.photo().pixels)) for portrait in portraits]
    assert np.mean(found) >= 0.85
