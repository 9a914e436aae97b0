"""Draws contact sheets of every parameter of the backend, on portraits of every kind, for inspection.

GPEN_GATEWAY_SHARED=FOLDER python tests/bench/sheets.py OUT [--only hq01,lq02]

A sheet per parameter, a row per portrait, a column per value. `strength`, `mode` and `skin_protect` use a
stand-in that changes the face visibly: GPEN's own results if the portraits have them (the right halves of
gpen-out*.jpg), otherwise a warmer, lighter and smoother face. The others use the classical engine.
OUT/sheets.tsv compares every picture with its input: growth of the clipped share, mean shift of the hue of
coloured pixels in degrees, ratio of their chroma, shift of L, and displacement in px by phase correlation and
by least squares.
"""

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gateway.faces.yunet import YunetFinder
from gpen_backend.engines import Engine
from gpen_backend.engines.classical import ClassicalEngine
from gpen_backend.restoration.align import align
from gpen_backend.restoration.steps import Work
from gpen_common.types import Pixels, RestoreParams
from tests.support.restoration import run_steps

SIZE = 512
SIDE = 512  # of the window around a face
CELL = 384
CAPTION = 32
ONLY = "hq01,hq08,hq16,lq02,lq07,lq11,old02,old04,gray03,press03,press14,phone01,phone03,whole01,synlq02"
PAIRS = ("gpen-out01.jpg", "gpen-out02.jpg", "gpen-out06.jpg", "gpen-out08.jpg")
SCALES = ("denoise", "sharpen", "brightness", "contrast")
# Below this chroma (LAB) the hue of a pixel is meaningless.
MIN_CHROMA = 10.0


@dataclass(frozen=True, slots=True)
class Portrait:
    """A window with one face. restored: GPEN's own result for the whole window, None if unknown."""

    name: str
    image: Pixels
    landmarks: NDArray[np.float32]
    restored: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a sheet."""

    parameter: str
    value: str
    portrait: Portrait
    result: Pixels


@dataclass(frozen=True, slots=True)
class StandIn:
    """An engine that changes a face visibly."""

    portrait: Portrait
    size: int = SIZE
    name: str = "stand-in"

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if (known := self.portrait.restored) is not None:
            return align(known, self.portrait.landmarks[0], self.size).pixels[None]
        return np.stack([recolour(face) for face in faces])


def recolour(face: Pixels) -> Pixels:
    """Make a face warmer, lighter and smoother."""
    smooth = cv2.bilateralFilter(face, 9, 30, 7).astype(np.float32) / 255
    colours = cv2.cvtColor(smooth, cv2.COLOR_RGB2Lab) + np.float32((6, 5, 9))
    return np.rint(cv2.cvtColor(colours, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).astype(np.uint8)


def portraits(shared: Path, only: list[str]) -> Iterator[Portrait]:
    finder = YunetFinder(shared / "models" / "face_detection_yunet_2023mar.onnx")
    for path in sorted((shared / "portraits").iterdir()):
        if path.stem in only and (image := read(path)) is not None and (faces := finder.find(image)):
            yield window(path.stem, image, faces[0].landmarks5)


def pairs(shared: Path) -> Iterator[Portrait]:
    finder = YunetFinder(shared / "models" / "face_detection_yunet_2023mar.onnx")
    for name in PAIRS:
        image = read(shared / "portraits" / name)
        if image is None:
            continue
        middle = image.shape[1] // 2
        before, after = np.ascontiguousarray(image[:, :middle]), np.ascontiguousarray(image[:, middle:])
        # The halves are aligned, and landmarks of the sharp one are more reliable.
        yield Portrait(Path(name).stem, before, finder.find(after)[0].landmarks5[None], after)


def read(path: Path) -> Pixels | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def window(name: str, image: Pixels, landmarks5: NDArray[np.float32]) -> Portrait:
    """Cut out the surroundings of a face, no larger than SIDE."""
    reach = 3.0 * float(np.hypot(*(landmarks5[:2].mean(0) - landmarks5[3:].mean(0))))
    centre = landmarks5.mean(0)
    low = np.maximum(centre - reach, 0).astype(int)
    high = np.minimum(centre + reach, image.shape[1::-1]).astype(int)
    image, landmarks5 = image[low[1] : high[1], low[0] : high[0]], landmarks5 - low.astype(np.float32)
    if (factor := SIDE / max(image.shape[:2])) < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        landmarks5 = (landmarks5 + 0.5) * np.float32(factor) - 0.5
    return Portrait(name, np.ascontiguousarray(image), landmarks5[None].astype(np.float32))


def render(portrait: Portrait) -> Iterator[Shown]:
    """Apply every parameter with its values to one portrait."""
    classical, stand_in = ClassicalEngine(SIZE), StandIn(portrait)

    def one(engine: Engine, parameter: str, value: str, **asked: Any) -> Shown:
        result = run_steps(Work(portrait.image, portrait.landmarks, RestoreParams(**asked)), engine).image
        return Shown(parameter, value, portrait, result)

    for name in SCALES:
        for value in (0, 50, 100):
            yield one(classical, name, str(value), strength=0, **{name: value})
    for flag in (False, True):
        yield one(classical, "detail_enhance", str(flag), strength=0, detail_enhance=flag)
    for value in (0, 50, 100):
        yield one(classical, "strength, classical engine", str(value), strength=value)
        yield one(stand_in, "strength", str(value), strength=value)
    for strength in (50, 100):
        for mode in ("natural", "strong", "detail"):
            yield one(stand_in, f"mode at {strength}", mode, strength=strength, mode=mode)
    for mode in ("natural", "strong", "detail"):
        for flag in (False, True):
            asked = {"strength": 100, "mode": mode, "skin_protect": flag}
            yield one(stand_in, f"skin_protect, {mode}", str(flag), **asked)


def measures(before: Pixels, after: Pixels) -> dict[str, float]:
    """Measure differences between `before` and `after` that no parameter may cause by accident."""
    one, other = (cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for p in (before, after))
    chroma = [np.hypot(colours[..., 1], colours[..., 2]) for colours in (one, other)]
    # Selected by their surroundings: pixels selected by their own noise would seem to lose colour.
    around = cv2.GaussianBlur(one, (0, 0), 4)
    coloured = (np.hypot(around[..., 1], around[..., 2]) > MIN_CHROMA) & (abs(around[..., 0] - 57) < 38)
    # Mean of unit vectors, as hue is circular.
    turn = np.exp(1j * (np.arctan2(other[..., 2], other[..., 1]) - np.arctan2(one[..., 2], one[..., 1])))
    enough = bool(coloured.sum() > 100)
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (before, after)]
    hann = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_32F)
    # With odd sides, OpenCV reports half a pixel for equal pictures, so that is subtracted. It may modify its
    # arguments, so they are copies.
    (x, y), (x0, y0) = (
        cv2.phaseCorrelate(grey[0].copy(), other.copy(), hann)[0] for other in (grey[1], grey[0])
    )
    return {
        "clipped": clipped(after) - clipped(before),
        "hue_deg": float(np.degrees(np.angle(turn[coloured].mean()))) if enough else 0.0,
        "chroma": float(chroma[1][coloured].mean() / chroma[0][coloured].mean()) if enough else 1.0,
        "light": float((other[..., 0] - one[..., 0]).mean()),
        "shift_px": float(np.hypot(x - x0, y - y0)),
        "moved_px": displacement(grey[0], grey[1]),
        "change": float(np.abs(after.astype(np.float32) - before).mean()),
    }


def displacement(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Displacement between two grey pictures by least squares over their gradients, px.

    Phase correlation weights all frequencies equally, so it fails where denoising removed the high ones.
    """
    x, y = (cv2.Sobel(before, cv2.CV_32F, *axes, scale=1 / 8) for axes in ((1, 0), (0, 1)))
    terms = np.stack([term.ravel() - term.mean() for term in (x, y, before)]).astype(np.float64)
    shift = np.linalg.solve(terms @ terms.T, terms @ (after.ravel() - after.mean()))
    # Divided by the weight of the tone, so that a change of brightness or contrast is not a displacement.
    return float(np.hypot(shift[0], shift[1]) / abs(shift[2]))


def clipped(pixels: Pixels) -> float:
    """Share of pixels with a channel at 0 or 255."""
    return float(((pixels == 0) | (pixels == 255)).any(-1).mean())


def sheet(rows: list[list[Shown]], numbers: dict[int, dict[str, float]]) -> Image.Image:
    picture = Image.new("RGB", (len(rows[0]) * (CELL + 4), len(rows) * (CELL + CAPTION)), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    for down, row in enumerate(rows):
        for across, one in enumerate(row):
            x, y = across * (CELL + 4), down * (CELL + CAPTION)
            tile = Image.fromarray(one.result)
            factor = CELL / max(tile.size)
            how = Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST
            picture.paste(tile.resize((round(tile.width * factor), round(tile.height * factor)), how), (x, y))
            found = numbers[id(one)]
            lines = (
                f"{one.portrait.name}  {one.parameter} = {one.value}",
                f"clip {found['clipped']:+.3f} hue {found['hue_deg']:+.1f} chroma {found['chroma']:.2f} "
                f"L {found['light']:+.1f} shift {found['shift_px']:.2f} change {found['change']:.1f}",
            )
            for number, line in enumerate(lines):
                pen.text((x + 2, y + CELL + 14 * number + 1), line, fill="black", font=font)
    return picture


def write(everything: list[list[Shown]], out: Path) -> list[dict[str, Any]]:
    """Write the sheets, with four portraits each, and the table. Returns the rows of the table."""
    numbers = {id(one): measures(one.portrait.image, one.result) for row in everything for one in row}
    for parameter in dict.fromkeys(one.parameter for one in everything[0]):
        rows = [[one for one in row if one.parameter == parameter] for row in everything]
        for start in range(0, len(rows), 4):
            name = parameter.replace(", ", "-").replace(" ", "-")
            sheet(rows[start : start + 4], numbers).save(out / f"{name}-{start // 4 + 1}.png")
    table = [
        {"portrait": one.portrait.name, "parameter": one.parameter, "value": one.value}
        | {name: round(number, 4) for name, number in numbers[id(one)].items()}
        for row in everything
        for one in row
    ]
    with (out / "sheets.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(table)
    return table


def print_extremes(table: list[dict[str, Any]]) -> None:
    """Print the extremes and the mean change of every parameter and value."""
    print(f"{'parameter':28} {'value':8} {'clip':>7} {'hue':>6} {'chroma':>11} {'light':>12} {'shift':>6} {'moved':>6} {'change':>7}")  # fmt: skip  # noqa: E501
    for parameter, value in dict.fromkeys((row["parameter"], row["value"]) for row in table):
        rows = [row for row in table if (row["parameter"], row["value"]) == (parameter, value)]
        low = {name: min(row[name] for row in rows) for name in ("chroma", "light", "hue_deg")}
        high = {name: max(row[name] for row in rows) for name in rows[0] if name not in ("portrait", "parameter", "value")}  # fmt: skip  # noqa: E501
        hue = max(high["hue_deg"], -low["hue_deg"])
        print(f"{parameter:28} {value:8} {high['clipped']:+7.3f} {hue:6.1f} {low['chroma']:5.2f} {high['chroma']:5.2f} {low['light']:+6.1f}{high['light']:+6.1f} {high['shift_px']:6.3f} {high['moved_px']:6.3f} {np.mean([row['change'] for row in rows]):7.2f}")  # fmt: skip  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--only", default=ONLY, help="names without suffix, parted by commas")
    options = parser.parse_args()
    if not (shared := os.environ.get("GPEN_GATEWAY_SHARED")):
        parser.error("set GPEN_GATEWAY_SHARED to the folder that holds portraits/ and models/")
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [*pairs(Path(shared)), *portraits(Path(shared), options.only.split(","))]
    print_extremes(write([list(render(portrait)) for portrait in chosen], options.out))


if __name__ == "__main__":
    main()
