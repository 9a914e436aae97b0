"""FAN's weights are too large to ship, so tests use a stub or a seeded network of the same shape."""

import dataclasses
import hashlib
import logging
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from gateway.faces import FinderUnavailable, finder, pose
from gateway.faces.fan import FanFinder, select_landmarks5
from gateway.faces.yunet import YunetFinder
from gateway.imaging.decoder import Photo
from gateway.params import PreprocessParams
from gateway.standardise import standardise
from gateway.timings import Timings

REFUSING = "http://127.0.0.1:1/weights"


def seen_in(box, yaw):
    """The mean face at `yaw` degrees in `box`: (68, 2) px, with the jaw line at the box's centre."""
    x0, y0, x1, y1 = box[:4]
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    turned = pose._MEAN_FACE @ cv2.Rodrigues(np.radians([0.0, yaw, 0.0]))[0].T
    points = turned[:, :2] * ((x1 - x0) / 160) + middle
    return np.vstack([np.tile(middle, (17, 1)), points]).astype(np.float32)


class Stub:
    """face-alignment's API, with the mean face at 20° in every box."""

    asked = None

    def __init__(self, *args, **kwargs):
        self.kwargs = kwargs

    def get_landmarks_from_image(self, image, detected_faces):
        Stub.asked = SimpleNamespace(shape=image.shape, boxes=detected_faces)
        return [seen_in(box, 20) for box in detected_faces]


@pytest.fixture
def stubbed(monkeypatch, yunet_path):
    monkeypatch.setattr("face_alignment.FaceAlignment", Stub)
    return FanFinder(yunet_path)


def test_selects_five_of_68_landmarks():
    numbered = np.stack([np.arange(68), 100 + np.arange(68)], -1).astype(np.float32)
    expected = np.array([38.5, 44.5, 30, 48, 54])
    np.testing.assert_allclose(select_landmarks5(numbered), np.stack([expected, expected + 100], -1))


@pytest.mark.parametrize("enlarged", [1, 5])
def test_landmarks_and_pose_are_in_photo_pixels(stubbed, yunet_path, astronaut, enlarged):
    """The network gets a reduced copy of a large photo."""
    photo = cv2.resize(astronaut, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_LINEAR)
    (face,), (box,) = stubbed.find(photo), YunetFinder(yunet_path).find(photo)
    assert max(Stub.asked.shape) <= 1536
    np.testing.assert_allclose(face.bbox, box.bbox, atol=3 * enlarged)
    np.testing.assert_allclose(face.landmarks5, select_landmarks5(seen_in(face.bbox, 20)), atol=1)
    assert face.pose.yaw == pytest.approx(20, abs=4)
    assert face.score == pytest.approx(box.score, abs=0.05)


def test_sorting_keeps_each_faces_landmarks(stubbed, catalog):
    group = next(portrait for portrait in catalog if portrait.faces > 20).photo().pixels
    faces = stubbed.find(group)
    assert len(faces) > 20
    for face in faces:
        np.testing.assert_allclose(face.landmarks5, select_landmarks5(seen_in(face.bbox, 20)), atol=1)


def test_finds_no_face_in_a_faceless_picture(stubbed, faceless_picture):
    assert stubbed.find(faceless_picture) == []


@pytest.fixture
def torch_home(monkeypatch, tmp_path):
    """The weights folder of an empty TORCH_HOME. Downloads fail."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(finder, "FAN", dataclasses.replace(finder.FAN, url=REFUSING))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def models(yunet_path, tmp_path):
    (tmp_path / "models").mkdir()
    shutil.copy(yunet_path, tmp_path / "models")
    return tmp_path / "models"


def test_never_unpickles_an_unverified_file(monkeypatch, torch_home, models, caplog):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(
        torch, "load", lambda *args, **kwargs: pytest.fail("an unverified file was unpickled")
    )
    (torch_home / finder.FAN.name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with caplog.at_level(logging.INFO):
        assert finder.make_finder("auto", models).name == "yunet"
    assert "2DFAN4-11f355bf06.pth.tar is not the published file" in caplog.text
    with pytest.raises(FinderUnavailable, match="2DFAN4"):
        finder.make_finder("fan", models)


@pytest.fixture(scope="module")
def seeded_fan(tmp_path_factory):
    """A file like FAN's with seeded weights."""
    torch = pytest.importorskip("torch")
    fan = pytest.importorskip("face_alignment.models").FAN
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("fan") / finder.FAN.name
    torch.save(fan(4).state_dict(), path)
    return path


@pytest.fixture
def seeded(monkeypatch, seeded_fan, torch_home, models):
    """`fan` and `auto` accept the seeded file as the published one."""
    (torch_home / seeded_fan.name).symlink_to(seeded_fan)
    sha256 = hashlib.sha256(seeded_fan.read_bytes()).hexdigest()
    monkeypatch.setattr(finder, "FAN", dataclasses.replace(finder.FAN, sha256=sha256))
    return models


@pytest.mark.slow
def test_loads_a_verified_file_and_finds_a_face(seeded, astronaut):
    for name in ("fan", "auto"):
        found = finder.make_finder(name, seeded)
        assert found.name == "fan"
        (face,) = found.find(astronaut)
        assert face.landmarks5.shape == (5, 2)
        assert np.isfinite(face.landmarks5).all()


@pytest.mark.slow
def test_rejects_a_truncated_weights_file(seeded, seeded_fan, torch_home):
    (torch_home / seeded_fan.name).unlink()
    (torch_home / seeded_fan.name).write_bytes(seeded_fan.read_bytes()[:-1])
    assert finder.FAN.find_verified(torch_home) is None
    assert finder.make_finder("auto", seeded).name == "yunet"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixteen_threads_find_the_same_as_one(seeded, sixteen, concurrently, found_numbers):
    found = finder.make_finder("fan", seeded)
    alone = [found_numbers(found, pixels) for pixels in sixteen]
    assert concurrently(found, sixteen) == [faces * 2 for faces in alone]


@pytest.mark.slow
def test_random_landmarks_still_make_a_portrait(seeded, astronaut):
    """Random weights put landmarks anywhere, even at the same place."""
    found = finder.make_finder("fan", seeded)
    portrait = standardise(Photo(astronaut, None, "PNG"), PreprocessParams(), found, Timings())
    assert portrait.pixels.shape == (896, 896, 3)
