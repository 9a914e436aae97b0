import cv2
import numpy as np
import pytest

from gpen_backend.restoration.align import template
from gpen_backend.restoration.gpen_tasks import blend_by_task, prepare_for_network, transfer_colour
from gpen_backend.restoration.steps import Work
from gpen_common.types import RestoreParams
from tests.support.restoration import run_steps

SIZE = 128


def lab(pixels):
    return cv2.cvtColor(np.asarray(pixels, np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)


@pytest.fixture
def grey(astronaut):
    """A grey portrait, (300, 300, 3), and its landmarks."""
    pixels = cv2.cvtColor(astronaut[:300, 70:370], cv2.COLOR_RGB2GRAY)
    return np.stack([pixels] * 3, axis=-1)


LANDMARKS = (template(SIZE) * 1.5 + 40)[None].astype(np.float32)


class Painter:
    """A network that paints every face in one colour, and keeps its input."""

    name = "painter"
    size = SIZE

    def __init__(self, colour):
        self.colour = np.array(colour, np.uint8)
        self.given = None

    def restore(self, faces):
        self.given = faces
        return np.broadcast_to(self.colour, faces.shape).copy()


def test_transfer_colour_combines_lightness_and_colour(astronaut):
    light, colour = astronaut[:64, :64], astronaut[200:264, 200:264]
    made = lab(transfer_colour(light, colour))
    np.testing.assert_allclose(transfer_colour(light, light), light, atol=1)
    inside = np.abs(lab(transfer_colour(light, colour)) - made).max()
    assert inside == 0
    # Colours that do not exist at a lightness are clipped, which changes both a little.
    assert np.median(np.abs(made[..., 0] - lab(light)[..., 0])) < 0.5
    assert np.median(np.abs(made[..., 1:] - lab(colour)[..., 1:])) < 2


def test_colorize_changes_only_the_colours_of_the_face(grey):
    params = RestoreParams(task="colorize", strength=100, skin_protect=True)
    work = run_steps(Work(grey, LANDMARKS, params), Painter((190, 140, 120)))
    before, after = lab(grey), lab(work.image)
    middle = tuple(np.rint(LANDMARKS[0].mean(0)).astype(int))[::-1]
    area = np.s_[middle[0] - 20 : middle[0] + 20, middle[1] - 20 : middle[1] + 20]
    assert np.median(after[area][..., 1]) > 5
    assert np.median(np.abs(after[area][..., 0] - before[area][..., 0])) < 2
    assert np.array_equal(work.image[:10], grey[:10])


def test_colorize_feeds_the_network_grey_faces(astronaut):
    painter = Painter((190, 140, 120))
    run_steps(Work(astronaut[:300, 70:370], LANDMARKS, RestoreParams(task="colorize")), painter)
    assert np.array_equal(painter.given[..., 0], painter.given[..., 1])
    assert np.array_equal(painter.given[..., 1], painter.given[..., 2])


@pytest.mark.parametrize("task", ["restore", "inpaint"])
def test_other_tasks_feed_the_network_unchanged_faces(astronaut, task):
    faces = astronaut[None, :64, :64]
    assert prepare_for_network(task, faces) is faces


def test_strength_is_the_share_of_colour(grey):
    shares = []
    for strength in (0, 50, 100):
        params = RestoreParams(task="colorize", strength=strength)
        image = run_steps(Work(grey, LANDMARKS, params), Painter((220, 120, 90))).image
        shares.append(float(np.abs(lab(image)[..., 1:]).mean()))
    assert shares[0] < shares[1] < shares[2]


def test_inpaint_takes_the_networks_colours_despite_skin_protect():
    """The colours of a damaged region must not be protected."""
    damaged = np.full((SIZE, SIZE, 3), 255, np.uint8)
    made = np.full((SIZE, SIZE, 3), (180, 130, 110), np.uint8)
    mask = np.ones((SIZE, SIZE), np.float32)
    params = RestoreParams(task="inpaint", strength=100, skin_protect=True)
    over = blend_by_task(damaged, made, mask, params)
    assert over.opacity == 1
    np.testing.assert_allclose(over.target[SIZE // 2, SIZE // 2], made[0, 0], atol=3)
