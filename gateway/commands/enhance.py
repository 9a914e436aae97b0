"""`gpen-gateway enhance` and `preprocess`: files and folders in, a mirrored tree of results out."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
import httpx
from filelock import FileLock, Timeout
from pydantic import ValidationError
from tqdm import tqdm

from gateway.api.upload import invalid_parameters
from gateway.commands.inputs import Clash, Job, NothingFound, find, plan
from gateway.commands.manifest import Manifest, ManifestUnusable
from gateway.commands.misconfigured import finder_or_exit, settings_or_exit
from gateway.commands.select import Due, Selection, select
from gateway.commands.work import Route, Tally, Worker
from gateway.params import EnhanceParams, PreprocessParams
from gateway.remote import GatewayGone, Refused, at_url, embedded, made_by

LOCK_NAME = ".gpen-gateway.lock"
"""Held in the folder of results while a run is at work there."""

_INTERRUPTED = 130
# They decide how long a result may take, not what it is.
_NO_MATTER = {"timeout_s"}

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a run is to do, as its options say. fields: parameters, as they were written."""

    paths: tuple[str, ...]
    out: Path
    url: str | None
    api_key: str | None
    concurrency: int
    patience_s: float
    force: bool
    dry_run: bool
    report: Path | None
    fields: dict[str, str]


def _shared(command: Command) -> Command:
    """The options that both commands have."""
    options = [
        click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
        click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path),
                     help="Folder for the results; the tree of the inputs is mirrored there."),
        click.option("--url", envvar="GPEN_GATEWAY_URL",
                     help="A running gateway, in place of one inside this process.  [GPEN_GATEWAY_URL]"),
        click.option("--api-key", envvar="GPEN_GATEWAY_KEY",
                     help="API key of that gateway; better in the environment.  [GPEN_GATEWAY_KEY]"),
        click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True,
                     help="Pictures at work at once."),
        click.option("--patience", "patience_s", type=click.FloatRange(0), default=300.0, show_default=True,
                     help="Seconds in which the gateway may be busy or away before the run is given up."),
        click.option("--param", "params", multiple=True, metavar="NAME=VALUE",
                     help="Any other parameter of the route; may be repeated. docs/api.md lists them."),
        click.option("--framing", help="article or face."),
        click.option("--format", help="png, jpeg or webp; by default like each input, png where it is none."),
        click.option("--force", is_flag=True, help="Make everything again, over whatever is there."),
        click.option("--dry-run", is_flag=True, help="Tell what would be done, and why; write nothing."),
        click.option("--report", type=click.Path(dir_okay=False, path_type=Path),
                     help="Write what was found and done to this file, a line of JSON for each picture."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_shared
@click.option("--output", help="portrait, or photo for the whole picture with every face restored.")
@click.option("--strength", help="Blend of the restored face over the input, 0 to 100.")
@click.option("--mode", help="natural, strong or detail.")
@click.option("--upscale", help="How much larger a photo is returned, 1 to 4.")
@click.option("--model", help="The checkpoint, such as gpen-bfr-512.")
def enhance(params: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Enhance pictures: files, folders with all below them, or quoted patterns.

    A second run does only what changed. Status: 0 all is done, 1 some failed, 2 nothing to do it with,
    130 interrupted.
    """
    own = ("framing", "format", "output", "strength", "mode", "upscale", "model")
    _run("/v1/enhance", EnhanceParams, _wishes(params, options, own))


@click.command()
@_shared
def preprocess(params: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Standardise portraits, without GPEN: files, folders with all below them, or quoted patterns."""
    _run("/v1/preprocess", PreprocessParams, _wishes(params, options, ("framing", "format")))


def _wishes(params: tuple[str, ...], options: dict[str, Any], own: tuple[str, ...]) -> Wishes:
    fields = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise click.UsageError(f"--param {param}: write it as NAME=VALUE")
        fields[name.strip()] = value.strip()
    chosen = {name: options.pop(name) for name in own}
    fields.update({name: value for name, value in chosen.items() if value is not None})
    return Wishes(**options, fields=fields)


def _run(path: str, model: type[PreprocessParams], wishes: Wishes) -> None:
    """Does what `wishes` say and ends the process with the status that tells how it went."""
    try:
        params = model.model_validate(wishes.fields)
    except ValidationError as error:
        raise click.UsageError(str(invalid_parameters(error, model))) from error
    try:
        jobs = plan(find(wishes.paths, wishes.out), wishes.out, params.format)
    except (NothingFound, Clash) as error:
        raise click.UsageError(str(error)) from error
    client = at_url(wishes.url, wishes.api_key) if wishes.url else embedded(settings_or_exit())
    run = _Run(Route(path, wishes.fields), params, wishes, jobs)
    try:
        with finder_or_exit(), ExitStack() as stack:
            if not wishes.dry_run:
                stack.enter_context(_locked(wishes.out))
            asyncio.run(run.all(client))
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        run.tell()
        sys.exit(_INTERRUPTED)
    except ManifestUnusable as error:
        raise click.UsageError(str(error)) from error
    except (GatewayGone, Refused) as error:
        click.echo(f"gpen-gateway: given up: {error}", err=True)
        run.tell()
        sys.exit(1)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    run.tell()
    sys.exit(bool(run.tally.failed))


class _Run:
    """One run of a command."""

    def __init__(self, route: Route, params: PreprocessParams, wishes: Wishes, jobs: list[Job]) -> None:
        self.tally = Tally()
        self._route = route
        self._params = params
        self._wishes = wishes
        self._jobs = jobs
        self._selection: Selection | None = None
        self._started = time.monotonic()

    async def all(self, connection: AbstractAsyncContextManager[httpx.AsyncClient]) -> None:
        """Does what is due. Raises GatewayGone, Refused, ManifestUnusable, OSError."""
        try:
            await self._all(connection)
        except Exception:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # What breaks while Ctrl-C takes everything down is no failure of its own.
                raise asyncio.CancelledError from None
            raise

    async def _all(self, connection: AbstractAsyncContextManager[httpx.AsyncClient]) -> None:
        wishes = self._wishes
        manifest = _manifest(wishes)
        async with connection as client:
            by = await made_by(client, self._params, wishes.patience_s, _say)
            selection = await asyncio.to_thread(
                select, self._jobs, wishes.out, manifest, self._parameters, by, wishes.force
            )
            self._selection = selection
            if wishes.dry_run:
                for due in selection.due:
                    click.echo(f"{due.job.source} -> {wishes.out / due.job.output} ({due.reason})")
                return
            for job in selection.in_the_way:
                why = (
                    f"{wishes.out / job.output} is in the way and not of this command; --force writes over it"
                )
                self.tally.failed.append((job.source, why))
                _say(f"{job.source}: {why}")
            if selection.due:
                await self._make(client, manifest, selection.due)

    async def _make(self, client: httpx.AsyncClient, manifest: Manifest, due: list[Due]) -> None:
        with (
            _report(self._wishes.report) as report,
            tqdm(total=len(due), unit="picture", disable=None, dynamic_ncols=True, smoothing=0.1) as bar,
        ):
            failures = 0

            def progressed(one: Due, failure: str | None) -> None:
                nonlocal failures
                if failure is not None:
                    failures += 1
                    bar.set_postfix(failed=failures, refresh=False)
                    tqdm.write(f"{one.job.source}: {failure}", file=sys.stderr)
                bar.update()

            worker = Worker(
                client,
                self._route,
                self._wishes.out,
                manifest,
                self.tally,
                patience_s=self._wishes.patience_s,
                report=report,
                progressed=progressed,
            )
            await worker.run(due, self._wishes.concurrency)

    def _parameters(self, job: Job) -> dict[str, Any]:
        """What the manifest keeps: all that differ from what the gateway does by itself."""
        asked = self._params.model_dump(mode="json", exclude=_NO_MATTER, exclude_defaults=True)
        return {"route": self._route.path, **asked, "format": job.output_format}

    def tell(self) -> None:
        """The summary, on standard output."""
        if self._selection is None:
            return
        if self._wishes.dry_run:
            told = [f"{len(self._selection.due)} to do", f"{self._selection.unchanged} unchanged"]
            told += [f"{len(self._selection.in_the_way)} in the way"] if self._selection.in_the_way else []
            click.echo(", ".join(told))
            return
        tally = self.tally
        left = len(self._selection.due) + len(self._selection.in_the_way) - tally.done - len(tally.failed)
        told = [f"{tally.done} done", f"{self._selection.unchanged} unchanged", f"{len(tally.failed)} failed"]
        told += [f"{left} left: the same command goes on from here"] if left else []
        told += [f"{tally.faceless} without a face"] if tally.faceless else []
        seconds = time.monotonic() - self._started
        click.echo(f"{', '.join(told)}; {seconds:.0f} s, {self._wishes.out}")


def _manifest(wishes: Wishes) -> Manifest:
    try:
        return Manifest.read(wishes.out)
    except ManifestUnusable:
        if wishes.force:
            return Manifest(wishes.out)
        raise


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """One run at a time in `out`, which is made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK_NAME, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise click.UsageError(f"another run is at work in {out}; wait for it, or use another -o") from error
    except OSError as error:
        raise click.UsageError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _report(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yield file


def _say(text: str) -> None:
    click.echo(f"gpen-gateway: {text}", err=True)
