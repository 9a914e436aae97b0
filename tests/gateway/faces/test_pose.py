import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.faces import pose
from gateway.faces.yunet import YunetFinder

WIDTH, HEIGHT = 1200, 900
MODELS = {5: pose._MEAN_FACE_5, 68: np.vstack([np.zeros((17, 3)), pose._MEAN_FACE])}


def rotation(yaw, pitch, roll):
    """The head's rotation: pitch first, then yaw, then roll; signs as `Pose` documents them."""
    about_x, about_y, about_z = (
        cv2.Rodrigues(np.radians(angle) * np.eye(3)[axis])[0]
        for axis, angle in enumerate((-pitch, yaw, roll))
    )
    return about_z @ about_y @ about_x


def seen(points, yaw, pitch=0.0, roll=0.0, at=(WIDTH / 2, HEIGHT / 2), distance=1000.0):
    """Project the mean face for a camera that points at it: (5 or 68, 2), px."""
    model = MODELS[points]
    middle = (model if points == 5 else model[17:]).mean(0)
    x, y, z = ((model - middle) @ rotation(yaw, pitch, roll).T + (0, 0, distance)).T
    return (np.stack([x / z, y / z], -1) * WIDTH + at).astype(np.float32)


def pose_of(points):
    estimate = pose.estimate_pose_from_5 if len(points) == 5 else pose.estimate_pose_from_68
    return estimate(points, WIDTH, HEIGHT)


@pytest.mark.parametrize("points", [5, 68])
@given(
    yaw=st.floats(-60, 60),
    pitch=st.floats(-25, 25),
    roll=st.floats(-60, 60),
    distance=st.floats(400, 5000),
    x=st.floats(0, WIDTH),
    y=st.floats(0, HEIGHT),
)
def test_recovers_a_known_rotation_anywhere_in_the_photo(points, yaw, pitch, roll, distance, x, y):
    found = pose_of(seen(points, yaw, pitch, roll, (x, y), distance))
    assert found.yaw == pytest.approx(yaw, abs=2)
    assert found.pitch == pytest.approx(pitch, abs=5)
    assert found.roll == pytest.approx(roll, abs=3)


@pytest.mark.parametrize("points", [5, 68])
def test_frontal_face_has_zero_angles(points):
    found = pose_of(seen(points, 0))
    assert (found.yaw, found.pitch, found.roll) == pytest.approx((0, 0, 0), abs=0.5)


def test_angle_signs_match_the_documentation():
    frontal, nose = seen(5, 0), 2
    assert seen(5, 30)[nose, 0] < frontal[nose, 0], "positive yaw shows the nose further left in the picture"
    assert seen(5, 0, pitch=20)[nose, 1] < frontal[nose, 1], "positive pitch lifts the nose"
    left_eye, right_eye = seen(5, 0, roll=20)[:2]
    assert right_eye[1] > left_eye[1], "positive roll is clockwise"
    for angles in ({"yaw": 30}, {"yaw": 0, "pitch": 20}, {"yaw": 0, "roll": 20}):
        found = pose_of(seen(5, **angles))
        assert (found.yaw, found.pitch, found.roll) == pytest.approx(
            (angles["yaw"], angles.get("pitch", 0), angles.get("roll", 0)), abs=2
        )


@given(st.floats(-40, 40))
def test_mirroring_negates_yaw(yaw):
    points = seen(5, yaw, pitch=5)
    mirrored = ((WIDTH, 0) + points * (-1, 1)).astype(np.float32)[[1, 0, 2, 4, 3]]
    assert pose_of(mirrored).yaw == pytest.approx(-pose_of(points).yaw, abs=0.5)


@pytest.mark.parametrize("points", [5, 68])
@pytest.mark.parametrize(
    "degenerate",
    [np.zeros, np.ones, lambda shape: np.full(shape, np.nan), lambda shape: np.full(shape, np.inf)],
    ids=["zero", "one", "nan", "inf"],
)
def test_degenerate_landmarks_have_no_pose(points, degenerate):
    assert pose_of(degenerate((points, 2)).astype(np.float32)) is None


@pytest.mark.parametrize("points", [5, 68])
@given(data=st.data())
def test_never_raises_for_arbitrary_landmarks(points, data):
    given_points = data.draw(hnp.arrays(np.float32, (points, 2), elements=st.floats(width=32)))
    found = pose_of(given_points)
    assert found is None or np.isfinite([found.yaw, found.pitch, found.roll]).all()


@pytest.mark.parametrize("points", [5, 68])
def test_never_raises_for_collinear_landmarks(points):
    line = np.stack([np.arange(points), 2 * np.arange(points)], -1).astype(np.float32)
    found = pose_of(line)
    assert found is None or abs(found.yaw) <= 90


def yaw_errors(portraits, yunet_path):
    finder = YunetFinder(yunet_path)
    errors = []
    for portrait in portraits:
        if portrait.yaw is not None and (faces := finder.find(portrait.photo().pixels)):
            errors.append(abs(faces[0].pose.yaw - portrait.yaw))
    return np.array(errors)


def test_yaw_agrees_with_a_pose_network(some_portraits, yunet_path):
    errors = yaw_errors(some_portraits[::2], yunet_path)
    assert len(errors) >= 15
    assert errors.mean() < 5


@pytest.mark.slow
def test_yaw_agrees_with_a_pose_network_on_all_portraits(catalog, yunet_path):
    errors = yaw_errors(catalog, yunet_path)
    assert len(errors) > 130
    assert errors.mean() < 4
    assert np.median(errors) < 3
