"""`gpen-gateway evaluate`: photos as they come against photos that were standardised first, in one report."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
import httpx
import numpy as np
from tqdm import tqdm

from gateway.commands.inputs import Found, NothingFound, find
from gateway.commands.misconfigured import finder_or_exit, settings_or_exit
from gateway.errors import GatewayError
from gateway.evaluate.asking import Gateway, Unusable
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome, photo_outcome, sharp_outcome
from gateway.evaluate.fidelity import Perceptual, PerceptualUnavailable
from gateway.evaluate.report import page
from gateway.evaluate.summary import document
from gateway.params import EnhanceParams
from gateway.remote import GatewayGone, Refused, at_url, embedded, made_by
from gateway.settings import Settings
from gpen_common.tasks import run_all

_INTERRUPTED = 130
# Of the pictures that the report shows, px.
_PICTURE_SIDE = 320

Outcome = TypeVar("Outcome", PhotoOutcome, SharpOutcome)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be done, as the options say."""

    folder: Path
    out: Path
    sharp: Path | None
    limit: int | None
    seed: int
    url: str | None
    api_key: str | None
    concurrency: int
    patience_s: float


@dataclass(slots=True)
class _Tally:
    """What came of it. broken: files with no outcome, and why."""

    outcomes: list[PhotoOutcome] = field(default_factory=list)
    sharp: list[SharpOutcome] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.html and report.json.",
)
@click.option(
    "--sharp", type=_FOLDER, help="Sharp photos, to be degraded, restored and compared with what they were."
)
@click.option("--limit", type=click.IntRange(1), help="Photos of each folder at most, drawn by the seed.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the degradations and of what --limit draws; the same gives the same.",
)
@click.option(
    "--url",
    envvar="GPEN_GATEWAY_URL",
    help="A running gateway, in place of one inside this process.  [GPEN_GATEWAY_URL]",
)
@click.option("--api-key", envvar="GPEN_GATEWAY_KEY", help="API key of that gateway.  [GPEN_GATEWAY_KEY]")
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=2, show_default=True, help="Photos at work at once."
)
@click.option(
    "--patience",
    "patience_s",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds in which the gateway may be busy or away before the run is given up.",
)
def evaluate(**options: object) -> None:
    """Compare raw photos with standardised ones, on all pictures in FOLDER and below.

    A is the photo as it is, straight to GPEN; B is standardised first. Reports the spread of eye position,
    face scale, exposure and contrast, clipping, noise and failures; with --sharp also PSNR, SSIM and, where
    the package lpips is installed, LPIPS. Status: 0 all went well, 1 some files are broken, 2 nothing to do
    it with, 130 interrupted.
    """
    wishes = Wishes(**options)  # type: ignore[arg-type] # click has checked them
    try:
        photos, sharp = (_drawn(folder, wishes) for folder in (wishes.folder, wishes.sharp))
        wishes.out.mkdir(parents=True, exist_ok=True)
    except (NothingFound, OSError) as error:
        raise click.UsageError(str(error)) from error
    client = at_url(wishes.url, wishes.api_key) if wishes.url else embedded(_uncached(settings_or_exit()))
    try:
        with finder_or_exit():
            broken = asyncio.run(_run(client, wishes, photos, sharp))
    except KeyboardInterrupt:
        click.echo("interrupted; no report was written", err=True)
        sys.exit(_INTERRUPTED)
    except (GatewayGone, Refused) as error:
        click.echo(f"gpen-gateway: given up: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(bool(broken))


def _drawn(folder: Path | None, wishes: Wishes) -> list[Found]:
    """The pictures below `folder`, or as many of them as there should be. Raises NothingFound."""
    if folder is None:
        return []
    found = find([str(folder)], wishes.out)
    if wishes.limit is None or len(found) <= wishes.limit:
        return found
    chosen = np.random.default_rng(wishes.seed).choice(len(found), wishes.limit, replace=False)
    return [found[place] for place in sorted(chosen)]


def _uncached(settings: Settings) -> Settings:
    """What is measured is made now, and leaves nothing behind."""
    return settings.model_copy(update={"cache": settings.cache.model_copy(update={"cache": "off"})})


async def _run(
    connection: AbstractAsyncContextManager[httpx.AsyncClient],
    wishes: Wishes,
    photos: list[Found],
    sharp: list[Found],
) -> dict[str, str]:
    """Does it all, writes the report and returns what is broken. Raises GatewayGone, Refused, OSError."""
    tally, (perceptual, lpips) = _Tally(), _perceptual(bool(sharp))
    async with connection as client:
        by = await made_by(
            client, EnhanceParams(), wishes.patience_s, lambda text: click.echo(text, err=True)
        )
        gateway = Gateway(client, wishes.patience_s)

        async def photo(name: str, data: bytes) -> PhotoOutcome:
            return await photo_outcome(gateway, name, data, _PICTURE_SIDE)

        async def truth(name: str, data: bytes) -> SharpOutcome:
            return await sharp_outcome(gateway, name, data, wishes.seed, perceptual)

        tally.outcomes = await _each("photos", photos, photo, tally.broken, wishes.concurrency)
        tally.sharp = await _each("sharp", sharp, truth, tally.broken, wishes.concurrency)
    asked = {"photos": len(photos), "sharp": len(sharp), "seed": wishes.seed, "limit": wishes.limit}
    told = document(by, asked, tally.outcomes, tally.sharp, tally.broken, lpips)
    (wishes.out / "report.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (wishes.out / "report.html").write_text(page(told, tally.outcomes, tally.sharp), encoding="utf-8")
    faces = told["counts"]["with_face"]
    click.echo(
        f"{by['engine']} ({by['model']}), {by['finder']}: {faces} of {len(tally.outcomes)} photos with a "
        f"face, {len(tally.sharp)} sharp, {len(tally.broken)} broken; {wishes.out / 'report.html'}"
    )
    return tally.broken


async def _each(
    title: str,
    found: Sequence[Found],
    work: Callable[[str, bytes], Awaitable[Outcome]],
    broken: dict[str, str],
    concurrency: int,
) -> list[Outcome]:
    """The outcomes of `work` on all of `found`, in their order; what fails goes to `broken`, and is told."""
    places = asyncio.Semaphore(concurrency)
    outcomes: dict[int, Outcome] = {}
    if not found:
        return []
    with tqdm(total=len(found), desc=title, unit="photo", disable=None, dynamic_ncols=True) as bar:

        async def one(number: int, picture: Found) -> None:
            async with places:
                name = picture.place.as_posix()
                try:
                    data = await asyncio.to_thread(picture.source.read_bytes)
                    outcomes[number] = await work(name, data)
                except (Unusable, GatewayError, OSError) as error:
                    broken[name if title == "photos" else f"{title}: {name}"] = str(error)
                    tqdm.write(f"{picture.source}: {error}", file=sys.stderr)
                bar.update()

        await run_all(one(number, picture) for number, picture in enumerate(found))
    return [outcomes[number] for number in sorted(outcomes)]


def _perceptual(wanted: bool) -> tuple[Perceptual | None, str]:
    if not wanted:
        return None, "not asked for"
    try:
        return Perceptual(), "available"
    except PerceptualUnavailable as error:
        return None, f"not available ({error})"
