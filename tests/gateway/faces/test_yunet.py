import cv2
import numpy as np
import pytest

from gateway.faces.yunet import YunetFinder


@pytest.fixture(scope="module")
def finder(yunet_path):
    return YunetFinder(yunet_path)


def test_finds_one_face_with_ordered_landmarks(finder, astronaut):
    (face,) = finder.find(astronaut)
    x0, y0, x1, y1 = face.bbox
    assert ((face.landmarks5 > (x0, y0)) & (face.landmarks5 < (x1, y1))).all()
    left, right, nose, left_corner, right_corner = face.landmarks5
    assert left[0] < nose[0] < right[0]
    assert left_corner[0] < right_corner[0]
    assert left[1] < nose[1] < left_corner[1]
    assert face.eye_centre == pytest.approx((224, 102), abs=6)
    assert 0.8 < face.score <= 1
    assert abs(face.pose.yaw) < 15


def test_mirrored_photo_has_mirrored_landmarks(finder, astronaut):
    (face,), (mirrored,) = finder.find(astronaut), finder.find(np.ascontiguousarray(astronaut[:, ::-1]))
    expected = (face.landmarks5 * (-1, 1) + (511, 0))[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(mirrored.landmarks5, expected, atol=3)
    assert mirrored.pose.yaw == pytest.approx(-face.pose.yaw, abs=6)


def test_landmarks_are_in_pixels_of_a_large_photo(finder, astronaut):
    (face,) = finder.find(astronaut)
    large = cv2.resize(astronaut, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    (found,) = finder.find(large)
    # A pixel's centre lies half a pixel from its edge.
    np.testing.assert_allclose((found.landmarks5 + 0.5) / 5 - 0.5, face.landmarks5, atol=1)


def test_finds_no_face_in_a_faceless_picture(finder, faceless_picture):
    assert finder.find(faceless_picture) == []


def test_finding_is_deterministic(yunet_path, catalog, found_numbers):
    group = next(portrait for portrait in catalog if portrait.faces > 20).photo().pixels
    assert found_numbers(YunetFinder(yunet_path), group) == found_numbers(YunetFinder(yunet_path), group)


def test_sixteen_threads_find_the_same_as_one(finder, sixteen, concurrently, found_numbers):
    alone = [found_numbers(finder, pixels) for pixels in sixteen]
    assert len({tuple(face) for (face,) in alone}) == 16, "each picture must have a different result"
    assert concurrently(finder, sixteen) == [faces * 2 for faces in alone]


def test_finds_nearly_every_face_of_a_group_photo_once(finder, catalog):
    group = next(portrait for portrait in catalog if portrait.path.name == "old-group-1927.png")
    faces = finder.find(group.photo().pixels)
    assert 26 <= len(faces) <= 31
    middles = np.array([face.eye_centre for face in faces])
    apart = np.hypot(*(middles[:, None] - middles[None]).T) + np.eye(len(faces)) * 1000
    assert apart.min() > 15


def lost(portraits, finder):
    return [
        portrait.path.name
        for portrait in portraits
        if portrait.faces and not finder.find(portrait.photo().pixels)
    ]


def test_finds_the_face_of_real_portraits(finder, some_portraits):
    assert lost(some_portraits[::2], finder) == []


@pytest.mark.slow
def test_finds_the_face_of_all_portraits(finder, catalog):
    assert lost(catalog, finder) == []


class StubFinder(YunetFinder):
    """Detects given faces: by width of the copy, (centre x, width, score) in its px."""

    def __init__(self, path, faces):
        super().__init__(path)
        self.faces, self.looks = faces, []

    def _get_detector(self):
        return self

    def setInputSize(self, size):  # noqa: N802 (OpenCV's name)
        self.width = size[0]
        self.looks.append(size[0])

    def setScoreThreshold(self, least):  # noqa: N802
        self.least = least

    def detect(self, _):
        seen = [face for face in self.faces.get(self.width, ()) if face[2] >= self.least]
        rows = [row(*face) for face in seen]
        return 1, np.array(rows, np.float32) if rows else None


def row(middle, width, score):
    eyes = [(middle - width / 4, 40), (middle + width / 4, 40)]
    below = [(middle, 50), (middle - width / 5, 60), (middle + width / 5, 60)]
    return [middle - width / 2, 20, width, 60, *np.ravel(eyes + below), score]


PHOTO = np.zeros((1200, 1600, 3), np.uint8)


def test_single_large_face_needs_two_copies(yunet_path):
    finder = StubFinder(yunet_path, {320: [(100, 60, 0.9)], 640: [(200, 120, 0.9)]})
    (face,) = finder.find(PHOTO)
    assert finder.looks == [320, 640]
    assert face.eye_centre[0] == pytest.approx(100 * 5 + 2, abs=1)


@pytest.mark.parametrize("small", [[], [(100, 20, 0.75)]])
def test_small_face_has_landmarks_of_the_largest_copy(yunet_path, small):
    faces = {320: small, 640: [(201, 40, 0.9)], 1024: [(330, 64, 0.85)]}
    finder = StubFinder(yunet_path, faces)
    (face,) = finder.find(PHOTO)
    assert finder.looks == [320, 640, 1024]
    assert face.eye_centre[0] == pytest.approx(330 * 1600 / 1024, abs=1)


def test_finds_small_faces_beside_a_large_one(yunet_path):
    faces = {320: [(100, 60, 0.9)], 640: [(200, 120, 0.9), (500, 20, 0.85)], 1024: [(800, 32, 0.9)]}
    assert len(StubFinder(yunet_path, faces).find(PHOTO)) == 2


def test_drops_a_face_that_a_larger_copy_does_not_confirm(yunet_path):
    faces = {320: [(100, 60, 0.9), (250, 30, 0.75)], 640: [(200, 120, 0.9)]}
    assert len(StubFinder(yunet_path, faces).find(PHOTO)) == 1


def test_keeps_an_unconfirmed_face_if_it_is_the_only_one(yunet_path):
    finder = StubFinder(yunet_path, {320: [(100, 30, 0.75)]})
    assert len(finder.find(PHOTO)) == 1
    assert finder.looks == [320, 640, 1024]


def test_ignores_boxes_that_overflow(yunet_path):
    assert StubFinder(yunet_path, {320: [(100, np.inf, 0.9)]}).find(PHOTO) == []
