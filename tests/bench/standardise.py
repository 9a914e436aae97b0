"""Time to standardise a photo, compared with a plain implementation of the article's recipe.

GPEN_GATEWAY_SHARED=FOLDER ./run bench standardise [--repeats 7]

Both turn the bytes of a JPEG into those of a PNG portrait (clahe=always, exposure=off) with the same face
finder. The baseline decodes and resizes the whole photo (Lanczos), finds faces on the result, crops, applies
CLAHE and writes the PNG with Pillow. Each photo is first resized to 12 megapixels. Runs alternate; medians.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from results import hardware, keep

from gateway.faces import FaceFinder
from gateway.faces.yunet import YunetFinder
from gateway.imaging.decoder import PixelLimits, decode
from gateway.imaging.encoder import encode
from gateway.params import PreprocessParams
from gateway.standardise import standardise
from gateway.standardise.framing import PORTRAIT_SIDE, SHORT_EDGE
from gateway.timings import Timings

PHOTOS = ("phone01.jpg", "phone02.jpg", "phone03.jpg", "wild05.jpg", "wild08.jpg", "wild09.jpg", "wild13.jpg")
MEGAPIXELS = 12
LIMITS = PixelLimits(max_pixels=64_000_000, max_side=32_000)


def plain_recipe(data: bytes, finder: FaceFinder) -> tuple[bytes, np.ndarray]:
    pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    scale = SHORT_EDGE / min(pixels.shape[:2])
    size = int(pixels.shape[1] * scale), int(pixels.shape[0] * scale)
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4)
    x, y = finder.find(pixels)[0].eye_centre
    x0 = min(max(0, int(x - PORTRAIT_SIDE / 2)), size[0] - PORTRAIT_SIDE)
    y0 = min(max(0, int(y - PORTRAIT_SIDE / 2)), size[1] - PORTRAIT_SIDE)
    lab = cv2.cvtColor(pixels[y0 : y0 + PORTRAIT_SIDE, x0 : x0 + PORTRAIT_SIDE], cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lab[..., 0])
    portrait = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    file = io.BytesIO()
    Image.fromarray(portrait).save(file, "PNG")
    return file.getvalue(), portrait


def ours(data: bytes, finder: FaceFinder) -> tuple[bytes, np.ndarray]:
    params = PreprocessParams(clahe="always", exposure="off")
    portrait = standardise(decode(data, LIMITS, SHORT_EDGE), params, finder, Timings())
    return encode(portrait.pixels, "png", 95), portrait.pixels


def time_ms(run: Callable[[bytes, FaceFinder], tuple[bytes, np.ndarray]], data: bytes, finder: FaceFinder):
    started = time.perf_counter()
    _, portrait = run(data, finder)
    return (time.perf_counter() - started) * 1000, portrait


def resize_to_megapixels(path: Path) -> bytes:
    image = Image.open(path).convert("RGB")
    scale = (MEGAPIXELS * 1e6 / (image.width * image.height)) ** 0.5
    file = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        file, "JPEG", quality=92
    )
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    shared, machine = Path(os.environ["GPEN_GATEWAY_SHARED"]), hardware()
    finder = YunetFinder(shared / "models" / "face_detection_yunet_2023mar.onnx")
    rows: list[dict[str, float]] = []
    table: list[list[object]] = [["photo", "plain, ms", "ours, ms", "times faster", "difference, of 255"]]
    for name in PHOTOS:
        data = resize_to_megapixels(shared / "portraits" / name)
        runs = [
            (time_ms(plain_recipe, data, finder), time_ms(ours, data, finder)) for _ in range(repeats + 1)
        ]
        plain, own = (statistics.median(run[side][0] for run in runs[1:]) for side in (0, 1))
        difference = float(np.abs(runs[0][0][1].astype(int) - runs[0][1][1]).mean())
        rows.append({"plain": plain, "ours": own, "ratio": plain / own, "difference": difference})
        table.append([name, *format_row(rows[-1])])
    middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    table.append(["median", *format_row(middle)])
    keep("standardise", {"rows": rows, "median": middle}, table, machine)


def format_row(row: dict[str, float]) -> list[str]:
    return [f"{row['plain']:.0f}", f"{row['ours']:.0f}", f"{row['ratio']:.1f}", f"{row['difference']:.2f}"]


if __name__ == "__main__":
    main()
