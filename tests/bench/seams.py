"""Measures the seam that a restored face leaves, on the shared portraits.

GPEN_GATEWAY_SHARED=FOLDER python tests/bench/seams.py OUT [--size 256] [--only hq01,lq02] [--strength 100]

Stand-ins for a network change the tone, hue, contrast, light or texture of every aligned face. Each result
is pasted as a plain rectangle, through the soft mask alone, and by the backend in each mode. The seam is the
mean gradient along the mask's normal on the ring where the mask falls from 0.5 to 0.02, divided by that of
the same ring in the input: 1 means no seam. `fine` is measured on single pixels, `coarse` on tone, blurred by
2 % of the crop's side. `added` is the coarse gradient that the input does not have, in units of LAB per 1 %
of the crop's side; `inside` is the same on the face, where the mask is above 0.5. A rectangle that lies
outside its photo has no ring and is skipped. Prints medians and 95th percentiles; writes OUT/seams.json.
"""

import argparse
import csv
import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.faces.yunet import YunetFinder
from gpen_backend.restoration.align import AlignedFace, align
from gpen_backend.restoration.mask import face_mask
from gpen_backend.restoration.steps import Work
from gpen_common.geometry import scale_of, warp
from gpen_common.types import Mode, Pixels, RestoreParams
from tests.support.restoration import run_steps

Plane = NDArray[np.float32]
MODES: tuple[Mode, ...] = ("natural", "strong", "detail")
RING = (0.02, 0.5)
MIN_RING = 100  # px, for a meaningful mean
COARSE = 0.02  # of the crop's side
# A crop covers this multiple of the network's side in the picture, as it does in the gateway's portraits.
SHOWN = 1.25


def lab(pixels: Pixels) -> Plane:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def rgb(colours: Plane) -> Pixels:
    return np.rint(cv2.cvtColor(colours, cv2.COLOR_Lab2RGB).clip(0, 1) * 255).astype(np.uint8)


def lab_shift(light: float = 0, a: float = 0, b: float = 0) -> Callable[[Pixels], Pixels]:
    return lambda face: rgb(lab(face) + np.float32((light, a, b)))


def raise_contrast(face: Pixels) -> Pixels:
    colours = lab(face)
    mean = colours[..., 0].mean()
    colours[..., 0] = mean + 1.25 * (colours[..., 0] - mean)
    return rgb(colours)


def add_vignette(face: Pixels) -> Pixels:
    """Lighten the centre and darken the rest."""
    y, x = np.mgrid[-1 : 1 : face.shape[0] * 1j, -1 : 1 : face.shape[1] * 1j]
    colours = lab(face)
    colours[..., 0] += 6 - 24 * (x**2 + y**2)
    return rgb(colours)


def smooth(face: Pixels) -> Pixels:
    return cv2.bilateralFilter(face, 15, 40, 0.015 * face.shape[0])  # type: ignore[return-value]


RESTORERS: dict[str, Callable[[Pixels], Pixels]] = {
    "lighter": lab_shift(8),
    "darker": lab_shift(-8),
    "warm": lab_shift(0, 4, 8),
    "cool": lab_shift(0, -3, -8),
    "contrast": raise_contrast,
    "vignette": add_vignette,
    "plastic": smooth,
}


@dataclass(frozen=True, slots=True)
class StandIn:
    """A stand-in for a network, as an Engine."""

    paint: Callable[[Pixels], Pixels]
    size: int
    name: str = "stand-in"

    def restore(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack([self.paint(face) for face in faces])


@dataclass(frozen=True, slots=True)
class Subject:
    """One portrait around its best face. landmarks: (1, 5, 2) px."""

    file: str
    image: Pixels
    landmarks: NDArray[np.float32]
    face: AlignedFace


def find_subjects(shared: Path, size: int, only: list[str]) -> Iterator[Subject]:
    finder = YunetFinder(shared / "models" / "face_detection_yunet_2023mar.onnx")
    with (shared / "portraits" / "catalog.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        if only and Path(row["file"]).stem not in only:
            continue
        image = cv2.imread(str(shared / "portraits" / row["file"]), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if faces := finder.find(image):
            yield crop_subject(row["file"], image, faces[0].landmarks5, size)


def crop_subject(file: str, image: Pixels, landmarks5: NDArray[np.float32], size: int) -> Subject:
    """Cut the portrait to the surroundings of the face, and shrink it if it is larger than SHOWN."""
    side = scale_of(align(image, landmarks5, size).inverse_affine) * size
    centre = landmarks5.mean(0)
    low = np.maximum(centre - 0.9 * side, 0).astype(int)
    high = np.minimum(centre + 0.9 * side, image.shape[1::-1]).astype(int)
    image, landmarks5 = image[low[1] : high[1], low[0] : high[0]], landmarks5 - low.astype(np.float32)
    if (factor := SHOWN * size / side) < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        landmarks5 = ((landmarks5 + 0.5) * factor - 0.5).astype(np.float32)
    image = np.ascontiguousarray(image)
    return Subject(file, image, landmarks5[None], align(image, landmarks5, size))


def soft_mask(subject: Subject) -> Plane:
    mask = face_mask(subject.face.landmarks, subject.face.pixels.shape[0])
    return in_photo(subject, mask, cv2.BORDER_CONSTANT).clip(0, 1)


def rectangle(subject: Subject) -> Plane:
    """A mask of the whole crop, with the border of two or three pixels that resampling causes."""
    size = subject.face.pixels.shape[0]
    inner = np.zeros((size, size), np.float32)
    inner[2:-2, 2:-2] = 1
    return in_photo(subject, inner, cv2.BORDER_CONSTANT).clip(0, 1)


def in_photo(subject: Subject, crop: Any, border: int = cv2.BORDER_REFLECT_101) -> Any:
    return warp(crop, subject.face.inverse_affine, subject.image.shape[1::-1], border)


def paste_plainly(subject: Subject, restored: Pixels, mask: Plane) -> Pixels:
    over = in_photo(subject, restored.astype(np.float32))
    mixed = subject.image + mask[..., None] * (over - subject.image)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Ring:
    """The ring where a mask falls, and its direction. normal: (2, H, W) unit vectors (x, y)."""

    border: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    normal: Plane

    @classmethod
    def of(cls, mask: Plane) -> "Ring":
        smooth = cv2.GaussianBlur(mask, (0, 0), 1.5)
        x, y = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
        length = np.hypot(x, y) + np.float32(1e-9)
        falls = (smooth > RING[0]) & (smooth < RING[1])
        return cls(falls, smooth >= RING[1], np.stack([x / length, y / length]))

    def across(self, colours: Plane, where: NDArray[np.bool_]) -> float:
        """Mean magnitude of the gradient of LAB `colours` along the normal, per px."""
        x = cv2.Sobel(colours, cv2.CV_32F, 1, 0, scale=1 / 8)[where]
        y = cv2.Sobel(colours, cv2.CV_32F, 0, 1, scale=1 / 8)[where]
        along = x * self.normal[0][where][:, None] + y * self.normal[1][where][:, None]
        return float(np.sqrt((along**2).sum(1)).mean())

    def steepest(self, colours: Plane, where: NDArray[np.bool_]) -> float:
        """Mean magnitude of the whole gradient of LAB `colours`, per px."""
        x = cv2.Sobel(colours, cv2.CV_32F, 1, 0, scale=1 / 8)[where]
        y = cv2.Sobel(colours, cv2.CV_32F, 0, 1, scale=1 / 8)[where]
        return float(np.sqrt((x**2 + y**2).sum(1)).mean())


def seam(before: Pixels, after: Pixels, ring: Ring, side: float) -> dict[str, float]:
    """Measure the seam of `after` against `before`. side: of the crop, photo px."""
    one, other = lab(before), lab(after)
    low = [cv2.GaussianBlur(colours, (0, 0), COARSE * side) for colours in (one, other)]
    added = low[1] - low[0]
    border, inside = ring.border, ring.inside
    return {
        "fine": ring.across(other, border) / ring.across(one, border),
        "coarse": ring.across(low[1], border) / max(ring.across(low[0], border), 1e-3),
        "added": ring.across(added, border) * side / 100,
        "inside": ring.steepest(added, inside) * side / 100,
    }


def measure(subject: Subject, strength: float) -> Iterator[dict[str, Any]]:
    size = subject.face.pixels.shape[0]
    side = scale_of(subject.face.inverse_affine) * size
    masks = {"rectangle": rectangle(subject), "mask": soft_mask(subject)}
    rings = {name: Ring.of(mask) for name, mask in masks.items()}
    for name, paint in RESTORERS.items():
        restored = paint(subject.face.pixels)
        pasted = {way: (way, paste_plainly(subject, restored, mask)) for way, mask in masks.items()}
        for mode in MODES:
            for protect in (True, False):
                params = RestoreParams(strength=strength, mode=mode, skin_protect=protect)
                work = run_steps(Work(subject.image, subject.landmarks, params), StandIn(paint, size))
                pasted[f"{mode}{'' if protect else ', no skin_protect'}"] = ("mask", work.image)
        for way, (shape, after) in pasted.items():
            if rings[shape].border.sum() < MIN_RING:
                continue
            numbers = seam(subject.image, after, rings[shape], side)
            yield {"file": subject.file, "restorer": name, "way": way, **numbers}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and 95th percentile of every number, by way of pasting and by restorer."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["way"], row["restorer"]].append(row)
        groups[row["way"], "all"].append(row)
    return [
        {"way": way, "restorer": restorer, "portraits": len(group)}
        | {
            f"{name}_{label}": round(float(np.percentile([row[name] for row in group], q)), 3)
            for name in ("fine", "coarse", "added", "inside")
            for label, q in (("median", 50), ("p95", 95))
        }
        for (way, restorer), group in groups.items()
    ]


def hardware() -> str:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return f"{cpu}, {os.cpu_count()} cores, OpenCV {cv2.__version__}, numpy {np.__version__}"


def show(table: list[dict[str, Any]]) -> None:
    print(f"{'way':26} {'restorer':9} {'fine':>13} {'coarse':>13} {'added':>13} {'inside':>13}  (median p95)")
    for row in table:
        numbers = "".join(
            f" {row[f'{name}_median']:6.2f} {row[f'{name}_p95']:6.2f}"
            for name in ("fine", "coarse", "added", "inside")
        )
        print(f"{row['way']:26} {row['restorer']:9}{numbers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--strength", type=float, default=100)
    parser.add_argument("--only", default="", help="names without suffix, parted by commas")
    options = parser.parse_args()
    if not (shared := os.environ.get("GPEN_GATEWAY_SHARED")):
        parser.error("set GPEN_GATEWAY_SHARED to the folder that holds portraits/ and models/")
    start, rows, seen = time.perf_counter(), [], 0
    for one in find_subjects(Path(shared), options.size, [name for name in options.only.split(",") if name]):
        rows += measure(one, options.strength)
        seen += 1
    table = summary(rows)
    print(f"{hardware()}; {seen} portraits, {options.size} px, strength {options.strength:g}, "
          f"{time.perf_counter() - start:.0f} s")  # fmt: skip
    show(sorted(table, key=lambda row: row["restorer"] != "all"))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        whole = {"hardware": hardware(), "summary": table, "rows": rows}
        (options.out / "seams.json").write_text(json.dumps(whole, indent=1))


if __name__ == "__main__":
    main()
