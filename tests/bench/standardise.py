"""What standardising a photo costs, beside the article's recipe written plainly with the same face finder.

GPEN_GATEWAY_SHARED=FOLDER python tests/bench/standardise.py [OUT] [--repeats 7]

Both take the bytes of a JPEG to those of a PNG portrait (clahe=always, exposure=off). The baseline decodes
all of it, resizes the whole photo (Lanczos), finds faces on that, crops, applies CLAHE and lets Pillow write
the PNG. Each photo is enlarged or shrunk to 12 megapixels first. Runs alternate; medians are printed; OUT
gets standardise.json.
"""

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gateway.faces import FaceFinder
from gateway.faces.yunet import YunetFinder
from gateway.params import PreprocessParams
from gateway.photo import PixelLimits, decode, encode
from gateway.standardise import standardise
from gateway.standardise.geometry import PORTRAIT_SIDE, SHORT_EDGE
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


def timed(run: Callable[[bytes, FaceFinder], tuple[bytes, np.ndarray]], data: bytes, finder: FaceFinder):
    started = time.perf_counter()
    _, portrait = run(data, finder)
    return (time.perf_counter() - started) * 1000, portrait


def twelve_megapixels(path: Path) -> bytes:
    image = Image.open(path).convert("RGB")
    scale = (MEGAPIXELS * 1e6 / (image.width * image.height)) ** 0.5
    file = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        file, "JPEG", quality=92
    )
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", default="out/bench")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    shared = Path(os.environ["GPEN_GATEWAY_SHARED"])
    finder = YunetFinder(shared / "models" / "face_detection_yunet_2023mar.onnx")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {MEGAPIXELS} megapixels")
    print(f"{'photo':14}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}{'difference':>12}")
    rows = []
    for name in PHOTOS:
        data = twelve_megapixels(shared / "portraits" / name)
        runs = [
            (timed(plain_recipe, data, finder), timed(ours, data, finder)) for _ in range(options.repeats)
        ]
        plain, own = (statistics.median(run[side][0] for run in runs) for side in (0, 1))
        difference = float(np.abs(runs[0][0][1].astype(int) - runs[0][1][1]).mean())
        row = {"photo": name, "plain_ms": plain, "ours_ms": own, "ratio": plain / own, "mad": difference}
        rows.append(row)
        print(f"{name:14}{plain:10.0f}{own:10.0f}{plain / own:8.1f}{difference:12.2f}")
    ratio = statistics.median(row["ratio"] for row in rows)
    difference = statistics.median(row["mad"] for row in rows)
    print(f"median ratio {ratio:.1f}, median difference {difference:.2f} of 255")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    summary = {"rows": rows, "ratio": ratio, "mad": difference}
    (out / "standardise.json").write_text(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
