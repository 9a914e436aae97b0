"""Faces at given places, and a face finder that needs no picture of a face."""

import threading
from dataclasses import dataclass, field

import numpy as np

from gateway.faces import Face, Pose
from gpen_common.types import Pixels


@dataclass
class FixedFinder:
    """Finds one face in the middle of every photo.

    faces: how many times. defect: raised instead. looked: number of calls. entered: set by each call.
    may_go_on: awaited by each call.
    """

    name: str = "fixed"
    faces: int = 1
    pose: Pose | None = None
    defect: Exception | None = None
    looked: int = 0
    entered: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event | None = None

    def find(self, pixels: Pixels) -> list[Face]:
        self.looked += 1
        self.entered.set()
        if self.may_go_on is not None:
            assert self.may_go_on.wait(60)
        if self.defect is not None:
            raise self.defect
        height, width = pixels.shape[:2]
        # Shares of a typical face in a portrait.
        shares = np.float32([(0.42, 0.4), (0.58, 0.4), (0.5, 0.52), (0.44, 0.62), (0.56, 0.62)])
        box = (width * 0.3, height * 0.2, width * 0.7, height * 0.8)
        face = Face(box, shares * np.float32([width, height]), 0.9, self.pose)
        return [face] * self.faces


@dataclass
class GivenFinder:
    """Finds the given faces in every photo."""

    faces: list[Face] = field(default_factory=list)
    name: str = "given"

    def find(self, pixels: Pixels) -> list[Face]:
        return self.faces


def make_face(x: float, y: float, eyes: float, roll: float = 0.0, yaw: float | None = 0.0) -> Face:
    """Make a frontal face whose landmarks' centre is (x, y), with `eyes` px between the eyes.

    roll: degrees. yaw: of its pose, degrees; None makes no pose.
    """
    # In distances between the eyes, from the landmarks' centre.
    upright = np.array([(-0.5, -0.53), (0.5, -0.53), (0, 0.05), (-0.42, 0.62), (0.42, 0.62)])
    angle = np.radians(roll)
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    landmarks5 = (eyes * upright @ turn.T + (x, y)).astype(np.float32)
    bbox = (x - eyes, y - 1.2 * eyes, x + eyes, y + 1.2 * eyes)
    return Face(bbox, landmarks5, 0.9, None if yaw is None else Pose(yaw, 0, roll))
