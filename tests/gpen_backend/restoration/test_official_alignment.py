"""Our alignment compared with recordings of the original: pairs of its aligned input and its result.

The original used the landmarks of another face finder, so each face is a few pixels off from where our finder
puts it. The mean over all faces shows whether the template is the same.
"""

import cv2
import numpy as np
import pytest

from gateway.faces.yunet import YunetFinder
from gpen_backend.restoration.align import align, template
from gpen_common.geometry import scale_of, similarity, transform

SIDE = 512


@pytest.fixture(scope="module")
def fits(shared, yunet_path):
    """[(landmarks (5, 2), their fit to the template (2, 3))] of every aligned input, in px of 512."""
    finder, found = YunetFinder(yunet_path), []
    for path in sorted((shared / "portraits").glob("gpen-out*.jpg")):
        pair = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        side = pair.shape[0]
        if pair.shape[1] == 2 * side:
            aligned = np.ascontiguousarray(pair[:, :side])
            landmarks5 = (finder.find(aligned)[0].landmarks5 + 0.5) * (SIDE / side) - 0.5
            found.append((landmarks5, similarity(landmarks5, template(SIDE))))
    if not found:
        pytest.skip("no recorded results of the original are here")
    return found


def test_the_originals_faces_match_our_template(fits):
    """Eyes and nose are within a few px of 512; mouths, on which the finders differ, within 3 %."""
    off = np.array([landmarks5 - template(SIDE) for landmarks5, _ in fits])
    mean = np.hypot(*off.mean(0).T)
    assert mean[:3].max() < 8
    assert mean[3:].max() < 15
    assert np.hypot(off[..., 0], off[..., 1]).mean() < 14


def test_the_originals_crop_has_our_scale(fits):
    scales = np.array([scale_of(fit) for _, fit in fits])
    assert scales.mean() == pytest.approx(1, abs=0.04)
    assert np.abs(scales - 1).max() < 0.08


def test_the_originals_crop_has_our_position_and_roll(fits):
    """The centre is within 3 % of the side and the roll within 8 degrees; on average within 1 % and 2."""
    middle = np.array([[(SIDE - 1) / 2] * 2])
    shifts = np.array([transform(fit, middle)[0] - middle[0] for _, fit in fits])
    rolls = np.degrees([np.arctan2(fit[1, 0], fit[0, 0]) for _, fit in fits])
    assert np.hypot(*shifts.T).max() < 0.03 * SIDE
    assert np.hypot(*shifts.mean(0)) < 0.01 * SIDE
    assert np.abs(rolls).max() < 8
    assert abs(rolls.mean()) < 2


def test_an_aligned_picture_of_2048_px_aligns_onto_itself(shared, yunet_path):
    """Aligning an already aligned picture barely moves it, at 2048 px too."""
    path = shared / "portraits" / "gpen-out07.jpg"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    pair = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    left = np.ascontiguousarray(pair[:, : pair.shape[0]])
    face = align(left, YunetFinder(yunet_path).find(left)[0].landmarks5, 2048)
    assert scale_of(face.inverse_affine) == pytest.approx(1, abs=0.08)
