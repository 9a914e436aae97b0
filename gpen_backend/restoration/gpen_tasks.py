"""Differences between the tasks: restore, colorize (grey faces) and inpaint (damaged faces).

Sources: GPEN's face_colorization.py and face_inpainting.py; its web interface, which keeps the input's luma.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.blend import Blend, blend
from gpen_common.types import Pixels, RestoreParams, Task


def prepare_for_network(task: Task, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Prepare (N, S, S, 3) uint8 RGB faces as the network's input for a task. Returns the same shape."""
    if task != "colorize":
        return faces
    # That network was trained on grey pictures only: it would interpret the brown of a sepia print as colour.
    return np.stack([cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in faces])


def blend_by_task(
    aligned: Pixels, restored: Pixels, mask: NDArray[np.float32], params: RestoreParams
) -> Blend:
    """Blend the network's output for a face with its input, as the task requires.

    aligned, restored: (S, S, 3) uint8 RGB, the network's input and output. mask: (S, S) float32, 1 on the
    face. colorize: LAB a and b of the output with L of the input; strength is the share of colour. inpaint:
    as mode strong, with the colours of the output, as those of the input are damaged.
    """
    match params.task:
        case "restore":
            return blend(aligned, restored, mask, params.mode, params.skin_protect, params.strength)
        case "colorize":
            return Blend(transfer_colour(aligned, restored), params.strength / 100, 1.0)
        case "inpaint":
            return blend(aligned, restored, mask, "strong", False, params.strength)


def transfer_colour(grey: Pixels, colour: Pixels) -> NDArray[np.float32]:
    """Combine the lightness of `grey` with the colours of `colour`, both (H, W, 3) uint8 RGB.

    Returns (H, W, 3) float32 RGB in [0, 255].
    """
    lab = cv2.cvtColor(colour.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    lab[..., 0] = cv2.cvtColor(grey.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)[..., 0]
    pixels: NDArray[np.float32] = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * np.float32(255)
    return pixels
