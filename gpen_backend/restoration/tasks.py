"""What else the network can be for than restoring: colouring grey faces, filling in damaged ones.

Source: GPEN's face_colorization.py and face_inpainting.py, and the luma kept as its web interface keeps it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_backend.restoration.blend import Blend, blend
from gpen_common.types import Pixels, RestoreParams, Task


def network_input(task: Task, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the network of a task is given for (N, S, S, 3) uint8 RGB faces; the same shape."""
    if task != "colorize":
        return faces
    # It was trained on grey pictures alone: a sepia print's brown would count as colour.
    return np.stack([cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in faces])


def blended(aligned: Pixels, made: Pixels, mask: NDArray[np.float32], params: RestoreParams) -> Blend:
    """Decide what is laid over the input of what the network made of a face, by the task.

    aligned, made: (S, S, 3) uint8 RGB. mask: (S, S) float32, where the face is.
    colorize: the network's LAB a and b at the input's L; strength is the share of colour. inpaint: the
    network's face as in mode strong, with its own colours, for the input's are damaged.
    """
    match params.task:
        case "restore":
            return blend(aligned, made, mask, params.mode, params.skin_protect, params.strength)
        case "colorize":
            return Blend(coloured(aligned, made), params.strength / 100, 1.0)
        case "inpaint":
            return blend(aligned, made, mask, "strong", False, params.strength)


def coloured(grey: Pixels, colour: Pixels) -> NDArray[np.float32]:
    """The colours of one picture at the lightness of another: (H, W, 3) float32 RGB in [0, 255].

    grey, colour: (H, W, 3) uint8 RGB.
    """
    lab = cv2.cvtColor(colour.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)
    lab[..., 0] = cv2.cvtColor(grey.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab)[..., 0]
    pixels: NDArray[np.float32] = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB).clip(0, 1) * np.float32(255)
    return pixels
