"""Where a portrait lies in its photo.

Both framings are a (2, 3) matrix from photo px to portrait px. The article's is a window without rotation,
so that it can be cut and scaled in one resampling; the face framing is a similarity transform.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gpen_common.geometry import invert, similarity, transform, warp
from gpen_common.types import Matrix, Pixels, Points

PORTRAIT_SIDE = 896
"""Side of a portrait, px (the article's)."""

SHORT_EDGE = 1024
"""What a photo's shorter edge is scaled to before the portrait is cut, px (the article's)."""

# Framing `face`: GPEN's eyes of the 512 px template (202.04, 242.88) and (309.43, 242.29), levelled, scaled
# to the portrait's side and by 0.8 about its middle, so that hair and chin keep a margin.
_FACE_SCALE = 0.8
_TEMPLATE_SIDE = 512
_TEMPLATE_EYES = np.array([(202.04, 242.59), (309.43, 242.59)])
FACE_EYES: Points = (
    (_TEMPLATE_EYES - _TEMPLATE_SIDE / 2) * (PORTRAIT_SIDE / _TEMPLATE_SIDE * _FACE_SCALE) + PORTRAIT_SIDE / 2
).astype(np.float32)
"""Where the eyes are in a `face` portrait: (2, 2) float32 (x, y) px, image-left first."""


@dataclass(frozen=True, slots=True)
class Window:
    """The article's window. box: (x0, y0, x1, y1) in photo px, edges not centres. scale: (x, y), about 1024
    over the photo's short edge; the two differ by rounding only."""

    box: tuple[float, float, float, float]
    scale: tuple[float, float]

    @property
    def matrix(self) -> Matrix:
        """Photo px -> portrait px, (2, 3) float64."""
        (x, y), (x0, y0, _, _) = self.scale, self.box
        # A pixel's centre lies half a pixel from its edge, in both pictures.
        return np.array([[x, 0, (0.5 - x0) * x - 0.5], [0, y, (0.5 - y0) * y - 0.5]])


def article_window(width: int, height: int, centre: tuple[float, float] | None) -> Window:
    """The 896x896 window around `centre` (x, y) in photo px at short edge 1024; the middle without a centre.

    Like the article's, the window is moved inwards at the edges rather than made smaller.
    """
    scale = SHORT_EDGE / min(width, height)
    scaled = (round(width * scale), round(height * scale))
    exact = (scaled[0] / width, scaled[1] / height)
    centre = centre or (width / 2, height / 2)
    corner = [
        min(max(int(at * per - PORTRAIT_SIDE / 2), 0), whole - PORTRAIT_SIDE)
        for at, per, whole in zip(centre, exact, scaled, strict=True)
    ]
    x0, y0 = corner[0] / exact[0], corner[1] / exact[1]
    x1, y1 = x0 + PORTRAIT_SIDE / exact[0], y0 + PORTRAIT_SIDE / exact[1]
    return Window((x0, y0, min(x1, width), min(y1, height)), exact)


def cut(pixels: Pixels, window: Window) -> Pixels:
    """The window's portrait (896, 896, 3), resampled once by Lanczos that does not alias.

    Only the window is touched, so a panorama costs no more than its portrait.
    """
    # Pillow resamples on one processor and lets other threads work meanwhile.
    with ThreadPoolExecutor(1) as other:
        below = other.submit(_cut_rows, pixels, window, PORTRAIT_SIDE // 2, PORTRAIT_SIDE)
        above = _cut_rows(pixels, window, 0, PORTRAIT_SIDE // 2)
        return np.concatenate([above, below.result()])


def _cut_rows(pixels: Pixels, window: Window, first: int, end: int) -> Pixels:
    """Rows `first` up to `end` of the window's portrait."""
    x0, y0, x1, y1 = window.box
    row = (y1 - y0) / PORTRAIT_SIDE
    y0, y1 = y0 + first * row, y0 + end * row
    # Pillow widens its kernel to shrink, unlike OpenCV; its box filter is no area filter, but takes one pixel
    # or two in turn between scales 1/2 and 1 (off by 1.6 levels on real photos, where this is the reference).
    # It copies the whole photo on its way in: hand it the window and the kernel's reach around it only.
    margin = int(3 / min(*window.scale, 1.0)) + 2
    left, top = max(int(x0) - margin, 0), max(int(y0) - margin, 0)
    part = np.ascontiguousarray(pixels[top : int(y1) + margin + 1, left : int(x1) + margin + 1])
    box = (x0 - left, y0 - top, x1 - left, min(y1 - top, part.shape[0]))
    image = Image.fromarray(part).resize((PORTRAIT_SIDE, end - first), Image.Resampling.LANCZOS, box)
    return np.asarray(image)


def face_matrix(landmarks5: Points) -> Matrix:
    """The similarity that puts the eyes of `landmarks5` (5, 2) at FACE_EYES: photo px -> portrait px.

    Raises DegenerateLandmarks where the eyes coincide.
    """
    return similarity(landmarks5[:2], FACE_EYES)


def cut_face(pixels: Pixels, matrix: Matrix) -> Pixels:
    """The portrait (896, 896, 3) that `matrix` shows; what lies outside the photo is filled by reflection."""
    return warp(pixels, matrix, (PORTRAIT_SIDE, PORTRAIT_SIDE))


def outside_share(matrix: Matrix, width: int, height: int) -> float:
    """The share of a portrait, 0 to 1, that lies outside its `width` x `height` photo."""
    steps = np.linspace(0, PORTRAIT_SIDE - 1, 65)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
    x, y = transform(invert(matrix), grid).T
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return float(1 - inside.mean())
