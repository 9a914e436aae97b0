"""`gpen-gateway evaluate`: compare raw photos with standardised ones in one report."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import httpx
import numpy as np
from tqdm import tqdm

from gateway.commands.configuration import exit_without_finder, load_settings, log_to_console
from gateway.commands.inputs import Found, NothingFound, find
from gateway.commands.options import add_connection_options, open_gateway
from gateway.errors import GatewayError
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome, process_photo, process_sharp_photo
from gateway.evaluate.fidelity import Perceptual, PerceptualUnavailable
from gateway.evaluate.html_report import render_page
from gateway.evaluate.picture_client import PictureClient, UnusablePicture
from gateway.evaluate.summary import build_document
from gateway.gateway_client import GatewayGone, PatientClient, Refused, fetch_provenance
from gateway.params import EnhanceParams
from gateway.settings import Settings
from gpen_common.run_all import run_all

_INTERRUPTED = 130
# Longer side of the pictures in the report, px.
_PICTURE_SIDE = 320

Outcome = TypeVar("Outcome", PhotoOutcome, SharpOutcome)


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """The options of one run."""

    folder: Path
    out: Path
    sharp: Path | None
    limit: int | None
    seed: int
    url: str | None
    api_key: str | None
    concurrency: int
    patience_s: float


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.html and report.json.",
)  # fmt: skip
@click.option(
    "--sharp", type=_FOLDER, help="Sharp photos: degraded, restored and compared with the original."
)
@click.option(
    "--limit", type=click.IntRange(1), help="Use at most this many photos of each folder, chosen by --seed."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True,
    help="Seed of the degradations and of the choice by --limit.",
)  # fmt: skip
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Photos in progress at once.",
)
@add_connection_options
def evaluate(**options: object) -> None:
    """Compare raw photos with standardised ones, for all pictures in FOLDER and its subfolders.

    A is the photo as it is, sent straight to GPEN; B is standardised first. The report shows the spread of
    eye position, face scale, exposure and contrast, clipping, noise and failures; with --sharp also PSNR,
    SSIM and, if the package lpips is installed, LPIPS. Exit status: 0 success, 1 some files are broken,
    2 invalid usage or configuration, 130 interrupted.
    """
    chosen = EvaluateOptions(**options)  # type: ignore[arg-type] # click has checked them
    try:
        photos, sharp = (_choose(folder, chosen) for folder in (chosen.folder, chosen.sharp))
        chosen.out.mkdir(parents=True, exist_ok=True)
    except (NothingFound, OSError) as error:
        raise click.UsageError(str(error)) from error
    log_to_console()
    connection = open_gateway(chosen.url, chosen.api_key, _load_settings_without_cache)
    try:
        with exit_without_finder():
            broken = asyncio.run(_run(connection, chosen, photos, sharp))
    except KeyboardInterrupt:
        click.echo("interrupted; no report was written", err=True)
        sys.exit(_INTERRUPTED)
    except (GatewayGone, Refused) as error:
        click.echo(f"gpen-gateway: stopped: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(bool(broken))


def _choose(folder: Path | None, options: EvaluateOptions) -> list[Found]:
    """Return the pictures below `folder`, or a choice of `limit` by the seed. Raises NothingFound."""
    if folder is None:
        return []
    found = find([str(folder)], options.out)
    if options.limit is None or len(found) <= options.limit:
        return found
    chosen = np.random.default_rng(options.seed).choice(len(found), options.limit, replace=False)
    return [found[place] for place in sorted(chosen)]


def _load_settings_without_cache() -> Settings:
    """Load settings for measurements: every result is computed, and none is stored."""
    settings = load_settings()
    return settings.model_copy(update={"cache": settings.cache.model_copy(update={"cache": "off"})})


async def _run(
    connection: AbstractAsyncContextManager[httpx.AsyncClient],
    options: EvaluateOptions,
    photos: list[Found],
    sharp: list[Found],
) -> dict[str, str]:
    """Write the report and return the broken files. Raises GatewayGone, Refused, OSError."""
    perceptual, lpips = _load_perceptual(bool(sharp))
    broken: dict[str, str] = {}
    async with connection as http:
        client = PatientClient(http, options.patience_s)
        made_by = await fetch_provenance(client, EnhanceParams(), lambda text: click.echo(text, err=True))
        pictures = PictureClient(client)

        async def process(name: str, data: bytes) -> PhotoOutcome:
            return await process_photo(pictures, name, data, _PICTURE_SIDE)

        async def process_sharp(name: str, data: bytes) -> SharpOutcome:
            return await process_sharp_photo(pictures, name, data, options.seed, perceptual)

        outcomes = await _process_all("photos", photos, process, broken, options.concurrency)
        restored = await _process_all("sharp", sharp, process_sharp, broken, options.concurrency)
    run = {"photos": len(photos), "sharp": len(sharp), "seed": options.seed, "limit": options.limit}
    summary = build_document(made_by, run, outcomes, restored, broken, lpips)
    (options.out / "report.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    html = options.out / "report.html"
    html.write_text(render_page(summary, outcomes, restored), encoding="utf-8")
    click.echo(
        f"{made_by['engine']} ({made_by['model']}), {made_by['finder']}: {summary['counts']['with_face']} of "
        f"{len(outcomes)} photos with a face, {len(restored)} sharp, {len(broken)} broken; {html}"
    )
    return broken


async def _process_all(
    title: str,
    found: Sequence[Found],
    work: Callable[[str, bytes], Awaitable[Outcome]],
    broken: dict[str, str],
    concurrency: int,
) -> list[Outcome]:
    """Return the outcomes of `work` on `found`, in order. Failures go to `broken` and to standard error."""
    if not found:
        return []
    places = asyncio.Semaphore(concurrency)
    outcomes: dict[int, Outcome] = {}
    with tqdm(total=len(found), desc=title, unit="photo", disable=None, dynamic_ncols=True) as bar:

        async def process_one(number: int, picture: Found) -> None:
            async with places:
                name = picture.place.as_posix()
                try:
                    data = await asyncio.to_thread(picture.source.read_bytes)
                    outcomes[number] = await work(name, data)
                except (UnusablePicture, GatewayError, OSError) as error:
                    broken[name if title == "photos" else f"{title}: {name}"] = str(error)
                    tqdm.write(f"{picture.source}: {error}", file=sys.stderr)
                bar.update()

        await run_all(process_one(number, picture) for number, picture in enumerate(found))
    return [outcomes[number] for number in sorted(outcomes)]


def _load_perceptual(wanted: bool) -> tuple[Perceptual | None, str]:
    if not wanted:
        return None, "not used without --sharp"
    try:
        return Perceptual(), "available"
    except PerceptualUnavailable as error:
        return None, f"not available ({error})"
