"""Estimate the pose of a head from its landmarks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.faces.face import Pose
from gpen_common.types import Points

# The mean face of the 68-point model without its jaw line: points 17 to 67 in mm, x right in the image, y
# down, z away from the camera. Source: the "in the wild" point distribution model of OpenFace (Baltrušaitis
# et al. 2013), made symmetric and rounded to 0.1 mm.
# fmt: off
_MEAN_FACE = np.array([
    (-60.6, -49.8, 12.9), (-51.2, -59.0, 6.3), (-38.1, -62.4, -0.3),
    (-24.6, -61.5, -7.0), (-11.8, -57.0, -12.0), (11.8, -57.0, -12.0),
    (24.6, -61.5, -7.0), (38.1, -62.4, -0.3), (51.2, -59.0, 6.3),
    (60.6, -49.8, 12.9), (0.0, -42.2, -13.4), (0.0, -31.0, -21.2),
    (0.0, -19.9, -29.3), (0.0, -8.4, -36.9), (-15.0, 2.6, -20.5),
    (-7.7, 4.7, -23.6), (0.0, 6.6, -25.9), (7.7, 4.7, -23.6),
    (15.0, 2.6, -20.5), (-45.6, -37.8, 6.0), (-37.6, -42.9, 2.4),
    (-27.9, -43.0, 0.8), (-19.5, -36.9, -0.4), (-28.5, -35.3, -0.7),
    (-38.1, -35.2, 0.9), (19.5, -36.9, -0.4), (27.9, -43.0, 0.8),
    (37.6, -42.9, 2.4), (45.6, -37.8, 6.0), (38.1, -35.2, 0.9),
    (28.5, -35.3, -0.7), (-28.9, 28.3, -2.7), (-18.2, 22.3, -15.8),
    (-7.5, 19.0, -22.7), (0.0, 20.7, -23.7), (7.5, 19.0, -22.7),
    (18.2, 22.3, -15.8), (28.9, 28.3, -2.7), (18.6, 36.5, -15.1),
    (8.2, 39.7, -22.5), (0.0, 40.4, -23.6), (-8.2, 39.7, -22.5),
    (-18.6, 36.5, -15.1), (-24.4, 28.5, -5.2), (-7.7, 25.4, -21.0),
    (0.0, 26.0, -22.2), (7.7, 25.4, -21.0), (24.4, 28.5, -5.2),
    (7.8, 30.7, -20.5), (0.0, 31.4, -21.9), (-7.8, 30.7, -20.5),
], np.float64)
# fmt: on

# The five landmarks of the mean face: eye centres, nose tip, mouth corners.
_MEAN_FACE_5 = np.array(
    [_MEAN_FACE[19:25].mean(0), _MEAN_FACE[25:31].mean(0), _MEAN_FACE[13], _MEAN_FACE[31], _MEAN_FACE[37]]
)

# No landmark method sees both eyes beyond this pitch: such a result is a mirrored or broken fit.
_MOST_DEGREES = 90.0


def estimate_pose_from_5(landmarks5: Points, width: int, height: int) -> Pose | None:
    """Estimate the pose from five points (5, 2) in a photo of `width` x `height` px.

    Over real portraits yaw differs from a pose network's by 3.2° on average. Pitch is much less accurate,
    because noses differ. Returns None if no pose fits.
    """
    return _fit(_MEAN_FACE_5, landmarks5, width, height)


def estimate_pose_from_68(landmarks68: Points, width: int, height: int) -> Pose | None:
    """Estimate the pose from 68 points (68, 2) in a photo of `width` x `height` px, without the jaw line.

    Returns None if no pose fits.
    """
    return _fit(_MEAN_FACE, landmarks68[17:], width, height)


def _fit(model: NDArray[np.float64], points: Points, width: int, height: int) -> Pose | None:
    if not np.isfinite(points).all():
        return None
    # An ordinary lens has a focal length of about the longer side of the image; yaw hardly depends on it.
    # The optical axis goes through the face, because yaw means the angle to the viewer and photos may be
    # cropped off centre: a mean error of 3.2°, against 3.6° with the axis through the image's centre.
    focal, (x, y) = max(width, height), points.mean(0, dtype=np.float64)
    camera = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]], np.float64)
    try:
        # SQPnP (Terzakis & Lourakis 2020): a global solution without an initial guess, also for flat faces.
        solved, rotation_vector, _ = cv2.solvePnP(
            model, points.astype(np.float64), camera, None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return None
    if not solved:
        return None
    rotation = cv2.Rodrigues(rotation_vector)[0]
    yaw = np.degrees(np.arctan2(-rotation[2, 0], np.hypot(rotation[2, 1], rotation[2, 2])))
    pitch = -np.degrees(np.arctan2(rotation[2, 1], rotation[2, 2]))
    roll = np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    if not np.isfinite([yaw, pitch, roll]).all() or abs(pitch) > _MOST_DEGREES:
        return None
    return Pose(yaw=float(yaw), pitch=float(pitch), roll=float(roll))
