"""One run of `enhance` or `preprocess`: select what changed, process it, print progress and a summary."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
import httpx
from tqdm import tqdm

from gateway.commands.inputs import Job
from gateway.commands.manifest import Manifest, ManifestUnusable
from gateway.commands.options import EnhanceOptions
from gateway.commands.picture_worker import Route, RunTally, Worker
from gateway.commands.selection import Due, Selection, select
from gateway.gateway_client import PatientClient, fetch_provenance
from gateway.params import NOT_IN_RESULT, PreprocessParams


class Run:
    """Processes `jobs`. tally: counts of finished pictures."""

    def __init__(
        self, route: Route, params: PreprocessParams, options: EnhanceOptions, jobs: list[Job]
    ) -> None:
        self.tally = RunTally()
        self._route = route
        self._params = params
        self._options = options
        self._jobs = jobs
        self._selection: Selection | None = None
        self._started = time.monotonic()

    async def execute(self, connection: AbstractAsyncContextManager[httpx.AsyncClient]) -> None:
        """Process every due job. Raises GatewayGone, Refused, ManifestUnusable, OSError."""
        try:
            await self._execute(connection)
        except Exception:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # An error while Ctrl-C cancels everything is a consequence of it, not a failure.
                raise asyncio.CancelledError from None
            raise

    async def _execute(self, connection: AbstractAsyncContextManager[httpx.AsyncClient]) -> None:
        options = self._options
        manifest = _read_manifest(options)
        async with connection as http:
            client = PatientClient(http, options.patience_s)
            made_by = await fetch_provenance(client, self._params, _print_message)
            selection = await asyncio.to_thread(
                select, self._jobs, options.out, manifest, self._result_parameters, made_by, options.force
            )
            self._selection = selection
            if options.dry_run:
                for due in selection.due:
                    click.echo(f"{due.job.source} -> {options.out / due.job.output} ({due.reason})")
                return
            for job in selection.in_the_way:
                output = options.out / job.output
                reason = f"{output} is in the way: this command did not write it; --force overwrites it"
                self.tally.failed.append((job.source, reason))
                _print_message(f"{job.source}: {reason}")
            if selection.due:
                await self._process(client, manifest, selection.due)

    async def _process(self, client: PatientClient, manifest: Manifest, due: list[Due]) -> None:
        with (
            _open_report(self._options.report) as report,
            tqdm(total=len(due), unit="picture", disable=None, dynamic_ncols=True, smoothing=0.1) as bar,
        ):
            failures = 0

            def show_progress(one: Due, failure: str | None) -> None:
                nonlocal failures
                if failure is not None:
                    failures += 1
                    bar.set_postfix(failed=failures, refresh=False)
                    tqdm.write(f"{one.job.source}: {failure}", file=sys.stderr)
                bar.update()

            worker = Worker(
                client,
                self._route,
                self._options.out,
                manifest,
                self.tally,
                report=report,
                on_progress=show_progress,
            )
            await worker.run(due, self._options.concurrency)

    def _result_parameters(self, job: Job) -> dict[str, Any]:
        """Return the parameters that decide about the result, without those at their defaults."""
        chosen = self._params.model_dump(mode="json", exclude=NOT_IN_RESULT, exclude_defaults=True)
        return {"route": self._route.path, **chosen, "format": job.output_format}

    def print_summary(self) -> None:
        """Print what was done and what is left, if the run got that far."""
        selection, tally = self._selection, self.tally
        if selection is None:
            return
        if self._options.dry_run:
            counts = [f"{len(selection.due)} to do", f"{selection.unchanged} unchanged"]
            counts += [f"{len(selection.in_the_way)} in the way"] if selection.in_the_way else []
            click.echo(", ".join(counts))
            return
        left = len(selection.due) + len(selection.in_the_way) - tally.done - len(tally.failed)
        counts = [f"{tally.done} done", f"{selection.unchanged} unchanged", f"{len(tally.failed)} failed"]
        counts += [f"{left} left: run the same command to continue"] if left else []
        counts += [f"{tally.faceless} without a face"] if tally.faceless else []
        seconds = time.monotonic() - self._started
        click.echo(f"{', '.join(counts)}; {seconds:.0f} s, {self._options.out}")


def _read_manifest(options: EnhanceOptions) -> Manifest:
    try:
        return Manifest.read(options.out)
    except ManifestUnusable:
        if options.force:
            return Manifest(options.out)
        raise


@contextmanager
def _open_report(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yield file


def _print_message(text: str) -> None:
    click.echo(f"gpen-gateway: {text}", err=True)
