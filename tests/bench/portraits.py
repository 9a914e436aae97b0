"""Sends every shared portrait through the gateway and draws contact sheets for inspection.

GPEN_GATEWAY_SHARED=FOLDER python tests/bench/portraits.py OUT [--finder yunet|haar] [--param name=value ...]

Runs the gateway and its backend (classical engine) in this process. Writes OUT/sheet-NN.png, whose tiles show
the input with its landmarks, the standardised portrait and the result; OUT/portraits.tsv with the numbers of
every picture; OUT/failures.tsv with errors, missed faces and poses that disagree with the catalog.
"""

import argparse
import asyncio
import base64
import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFont, ImageOps

from gateway.app import create_app
from gateway.faces import make_finder
from gpen_backend.app import create_app as create_backend
from gpen_backend.settings import BackendSettings

CELL = 224
TILES_ACROSS, TILES_DOWN = 3, 4
CAPTION_LINES, LINE = 5, 14
# Yaw from landmarks has an error of 4 to 6 degrees; three times as much indicates another fault.
YAW_OFF = 15.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of one portrait. error: the problem document if there is no picture."""

    row: dict[str, str]
    photo: Image.Image
    portrait: Image.Image | None = None
    result: Image.Image | None = None
    report: dict[str, Any] | None = None
    error: str = ""

    @property
    def yaw(self) -> float | None:
        """The head's yaw estimated by the gateway, degrees."""
        face = (self.report or {}).get("face")
        return face["pose"]["yaw"] if face and face["pose"] else None

    @property
    def failure(self) -> str:
        """Description of the failure, empty if there is none."""
        if self.report is None:
            return self.error
        if self.report["face"] is None:
            return "no face found" + ("" if int(self.row["faces"]) else " (the catalog has none either)")
        if (
            self.yaw is not None
            and self.row["yaw_deg"]
            and abs(self.yaw - float(self.row["yaw_deg"])) > YAW_OFF
        ):
            return f"yaw {self.yaw:.0f}, catalog {self.row['yaw_deg']}"
        return ""


def caption(outcome: Outcome) -> list[str]:
    row, report = outcome.row, outcome.report
    head = f"{row['file']}  {row['kind']}  {row['width']}x{row['height']}  faces {row['faces']}"
    if report is None:
        return [head, outcome.error[:90], outcome.error[90:180]]
    before, after = report["light"]["before"], report["light"]["after"]
    exposure, clahe, quality = report["light"]["exposure"], report["light"]["clahe"], report["quality"]
    yaw = "?" if outcome.yaw is None else f"{outcome.yaw:.0f}"
    warnings = "; ".join(w for w in report["warnings"] if not w.startswith("engine:"))
    return [
        f"{head} (restored {len(report['faces'])})",
        f"yaw {yaw} (catalog {row['yaw_deg'] or '-'})  off centre {report['portrait']['off_centre_px']}  "
        f"eyes {quality['interocular_px']} px  sharp {quality['sharpness']}  noise {quality['noise_sigma']}",
        f"L {before['mean']}±{before['spread']} -> {after['mean']}±{after['spread']}  "
        f"gamma {exposure['gamma']}  clahe {clahe['weight']} clip {clahe['clip_limit']}",
        warnings[:105],
        warnings[105:210],
    ]


def tile(outcome: Outcome) -> Image.Image:
    picture = Image.new("RGB", (3 * CELL, CELL + CAPTION_LINES * LINE + 6), "white")
    photo = outcome.photo.convert("RGB")
    draw = ImageDraw.Draw(photo)
    radius = max(photo.size) / 150
    for face in (outcome.report or {}).get("faces", []):
        for x, y in face["landmarks5"]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="lime", outline="black")
    for place, shown in enumerate((photo, outcome.portrait, outcome.result)):
        if shown is not None:
            small = ImageOps.contain(shown, (CELL, CELL), Image.Resampling.BOX)
            picture.paste(small, (place * CELL + (CELL - small.width) // 2, (CELL - small.height) // 2))
    font = ImageFont.load_default(11)
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(caption(outcome)):
        colour = "red" if outcome.failure and number == 0 else "black"
        pen.text((3, CELL + 2 + number * LINE), line, fill=colour, font=font)
    return picture


def write_sheets(outcomes: list[Outcome], out: Path) -> int:
    """Write contact sheets of `outcomes` to the folder `out`. Returns their number."""
    per_sheet = TILES_ACROSS * TILES_DOWN
    sheets = 0
    for start in range(0, len(outcomes), per_sheet):
        tiles = [tile(outcome) for outcome in outcomes[start : start + per_sheet]]
        width, height = tiles[0].size
        sheet = Image.new("RGB", (TILES_ACROSS * (width + 8), TILES_DOWN * (height + 4)), "grey")
        for number, picture in enumerate(tiles):
            across, down = number % TILES_ACROSS, number // TILES_ACROSS
            sheet.paste(picture, (across * (width + 8), down * (height + 4)))
        sheets += 1
        sheet.save(out / f"sheet-{sheets:02}.png")
    return sheets


def write_tables(outcomes: list[Outcome], out: Path) -> int:
    """Write portraits.tsv and failures.tsv. Returns the number of failures."""
    failures = [[o.row["file"], o.row["kind"], o.failure] for o in outcomes if o.failure]
    _write(out / "failures.tsv", ["file", "kind", "failure"], failures)
    head = ["file", "kind", "yaw", "yaw_catalog", "off_centre", "interocular", "sharpness", "noise",
            "mean_before", "spread_before", "mean_after", "spread_after", "gamma", "clahe", "ms"]  # fmt: skip
    rows = []
    for outcome in outcomes:
        if (report := outcome.report) is None:
            continue
        light, quality = report["light"], report["quality"]
        rows.append([
            outcome.row["file"], outcome.row["kind"], outcome.yaw, outcome.row["yaw_deg"],
            report["portrait"]["off_centre_px"], *quality.values(),
            light["before"]["mean"], light["before"]["spread"], light["after"]["mean"],
            light["after"]["spread"], light["exposure"]["gamma"], light["clahe"]["weight"],
            report["timings_ms"]["total"],
        ])  # fmt: skip
    _write(out / "portraits.tsv", head, rows)
    return len(failures)


def _write(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([head, *rows])


async def process(
    client: httpx.AsyncClient, path: Path, row: dict[str, str], params: dict[str, str]
) -> Outcome:
    data = await asyncio.to_thread(path.read_bytes)
    with Image.open(io.BytesIO(data)) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    json = {"accept": "application/json"}
    enhanced = await client.post("/v1/enhance", content=data, params=params, headers=json)
    shared = {name: value for name, value in params.items() if name in ("framing", "clahe", "exposure")}
    prepared = await client.post("/v1/preprocess", content=data, params=shared, headers=json)
    for answer in (enhanced, prepared):
        if answer.status_code != httpx.codes.OK:
            return Outcome(row, photo, error=f"{answer.status_code} {answer.text}")
    result, portrait = enhanced.json(), prepared.json()
    return Outcome(
        row, photo, _picture(portrait["image_base64"]), _picture(result["image_base64"]), result["report"]
    )


def _picture(encoded: str) -> Image.Image:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return picture.convert("RGB")


async def process_all(shared: Path, finder_name: str, params: dict[str, str]) -> list[Outcome]:
    with (shared / "portraits" / "catalog.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    finder = make_finder(finder_name, shared / "models")
    backend = create_backend(BackendSettings(engine="classical"))
    app = create_app(finder=finder, transport=httpx.ASGITransport(backend))
    async with (
        backend.router.lifespan_context(backend),
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway", timeout=120
        ) as client,
    ):
        return [await process(client, shared / "portraits" / row["file"], row, params) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--finder", choices=("fan", "yunet", "haar"), default="yunet")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if not (shared := os.environ.get("GPEN_GATEWAY_SHARED")):
        parser.error("set GPEN_GATEWAY_SHARED to the folder that holds portraits/ and models/")
    options.out.mkdir(parents=True, exist_ok=True)
    params = dict(param.split("=", 1) for param in options.param)
    outcomes = asyncio.run(process_all(Path(shared), options.finder, params))
    sheets, failures = write_sheets(outcomes, options.out), write_tables(outcomes, options.out)
    print(
        f"{len(outcomes)} portraits, {sheets} sheets, {failures} failures in {options.out / 'failures.tsv'}"
    )


if __name__ == "__main__":
    main()
