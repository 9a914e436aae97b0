"""The position of a portrait in its photo, and cutting it out.

Both framings are a (2, 3) matrix from photo px to portrait px. The article framing is a window without
rotation, so that one resampling cuts and scales it; the face framing is a similarity transform.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from gpen_common.geometry import invert, similarity, transform, warp
from gpen_common.types import Matrix, Pixels, Points

PORTRAIT_SIDE = 896
"""Side of a portrait, px. Source: the article."""

SHORT_EDGE = 1024
"""Length of the photo's shorter edge, in px, at the scale of a portrait. Source: the article."""

# Framing `face`: the eyes of GPEN's 512 px template, (202.04, 242.88) and (309.43, 242.29), levelled, scaled
# to the portrait's side and then by 0.8 about its centre, which leaves a margin for hair and chin.
_FACE_SCALE = 0.8
_TEMPLATE_SIDE = 512
_TEMPLATE_EYES = np.array([(202.04, 242.59), (309.43, 242.59)])
FACE_EYES: Points = (
    (_TEMPLATE_EYES - _TEMPLATE_SIDE / 2) * (PORTRAIT_SIDE / _TEMPLATE_SIDE * _FACE_SCALE) + PORTRAIT_SIDE / 2
).astype(np.float32)
"""Position of the eyes in a `face` portrait: (2, 2) float32 (x, y) px, image-left first."""


@dataclass(frozen=True, slots=True)
class ArticleWindow:
    """The window of the article framing.

    box: (x0, y0, x1, y1) in photo px, measured at pixel edges. scale: (x, y), 1024 divided by the photo's
    shorter edge; the two differ only by rounding.
    """

    box: tuple[float, float, float, float]
    scale: tuple[float, float]

    @property
    def matrix(self) -> Matrix:
        """Map from photo px to portrait px, (2, 3) float64."""
        (x, y), (x0, y0, _, _) = self.scale, self.box
        # A pixel's centre is half a pixel from its edge, in photo and portrait.
        return np.array([[x, 0, (0.5 - x0) * x - 0.5], [0, y, (0.5 - y0) * y - 0.5]])


def place_article_window(width: int, height: int, centre: tuple[float, float] | None) -> ArticleWindow:
    """Place the 896x896 window around `centre` (x, y), photo px, at short edge 1024.

    Without a centre, it is the centre of the photo. At an edge of the photo the window is moved inwards and
    keeps its size, as in the article.
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
    return ArticleWindow((x0, y0, min(x1, width), min(y1, height)), exact)


def cut(pixels: Pixels, window: ArticleWindow) -> Pixels:
    """Cut the window's portrait (896, 896, 3), in one antialiased Lanczos resampling.

    Reads only the window, so that a panorama takes no longer than a portrait.
    """
    # Two row ranges keep results equal to those of earlier versions. One range rounds differently in 41 of
    # 414 windows of real photos: by one level in up to 500 values, and in one photo by up to 5 levels in some
    # 400,000, where two ranges are within one level of resizing the whole photo.
    middle = PORTRAIT_SIDE // 2
    upper, lower = _cut_rows(pixels, window, 0, middle), _cut_rows(pixels, window, middle, PORTRAIT_SIDE)
    return np.concatenate([upper, lower])


def _cut_rows(pixels: Pixels, window: ArticleWindow, first: int, end: int) -> Pixels:
    """Cut rows `first` to `end` (exclusive) of the window's portrait."""
    x0, y0, x1, y1 = window.box
    row = (y1 - y0) / PORTRAIT_SIDE
    y0, y1 = y0 + first * row, y0 + end * row
    # Unlike OpenCV, Pillow widens the Lanczos kernel when it shrinks. Its box filter is not an area filter:
    # between scales 1/2 and 1 it takes one or two pixels in turn (1.6 levels off this on real photos).
    # Pillow copies its whole input, so pass only the window and a margin of the kernel's radius.
    margin = int(3 / min(*window.scale, 1.0)) + 2
    left, top = max(int(x0) - margin, 0), max(int(y0) - margin, 0)
    part = np.ascontiguousarray(pixels[top : int(y1) + margin + 1, left : int(x1) + margin + 1])
    box = (x0 - left, y0 - top, x1 - left, min(y1 - top, part.shape[0]))
    image = Image.fromarray(part).resize((PORTRAIT_SIDE, end - first), Image.Resampling.LANCZOS, box)
    return np.asarray(image)


def fit_face_matrix(landmarks5: Points) -> Matrix:
    """Fit the similarity, photo px -> portrait px, that puts the eyes of `landmarks5` (5, 2) at FACE_EYES.

    Raises DegenerateLandmarks if the eyes coincide.
    """
    return similarity(landmarks5[:2], FACE_EYES)


def cut_face(pixels: Pixels, matrix: Matrix) -> Pixels:
    """Cut the portrait (896, 896, 3) of `matrix`; parts outside the photo are filled by reflection."""
    return warp(pixels, matrix, (PORTRAIT_SIDE, PORTRAIT_SIDE))


def measure_outside_share(matrix: Matrix, width: int, height: int) -> float:
    """Return the share of a portrait, 0 to 1, that lies outside its `width` x `height` photo."""
    steps = np.linspace(0, PORTRAIT_SIDE - 1, 65)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2).astype(np.float32)
    x, y = transform(invert(matrix), grid).T
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return float(1 - inside.mean())
