"""Process due pictures, a few at a time; write and record each result at once."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import httpx

from gateway.commands.files import read_file, write_file
from gateway.commands.manifest import Manifest
from gateway.commands.selection import Due
from gateway.gateway_client import PatientClient, problem_document, problem_text
from gpen_common.run_all import run_all


@dataclass(slots=True)
class RunTally:
    """Counts of a run. failed: sources and reasons. faceless: results without a face."""

    done: int = 0
    faceless: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Route:
    """The route that processes the pictures. fields: parameters as strings."""

    path: str
    fields: dict[str, str]


class Worker:
    """Sends pictures to a gateway and writes the results to the folder `out`.

    report: receives one JSON line per picture. on_progress: called after each picture, with the reason of a
    failure or None.
    """

    def __init__(
        self,
        client: PatientClient,
        route: Route,
        out: Path,
        manifest: Manifest,
        tally: RunTally,
        *,
        report: TextIO | None,
        on_progress: Callable[[Due, str | None], None],
    ) -> None:
        self._client = client
        self._route = route
        self._out = out
        self._manifest = manifest
        self._tally = tally
        self._report = report
        self._on_progress = on_progress

    async def run(self, due: Iterable[Due], concurrency: int) -> None:
        """Process all of `due`, `concurrency` at a time. Raises GatewayGone, Refused.

        The manifest is saved even if the run fails.
        """
        left = list(due)
        for one in left:
            # Recorded first, so that the next run recognises files left by a crash.
            key = one.job.output.as_posix()
            self._manifest.records.setdefault(key, one.record)
        try:
            await asyncio.to_thread(self._manifest.save)
            queue = iter(left)
            await run_all(self._work(queue) for _ in range(min(concurrency, len(left))))
        finally:
            self._manifest.save()

    async def _work(self, queue: Iterator[Due]) -> None:
        for due in queue:
            failure = await self._process(due)
            if failure is None:
                self._tally.done += 1
            else:
                self._tally.failed.append((due.job.source, failure))
            self._on_progress(due, failure)
            await self._manifest.save_periodically()

    async def _process(self, due: Due) -> str | None:
        """Process one picture. Returns the reason of a failure, or None."""
        output = self._out / due.job.output
        try:
            data, before = await asyncio.to_thread(read_file, due.job.source)
        except OSError as error:
            return self._fail(due, f"it cannot be read: {error.strerror or error}")
        answer = await self._client.post(
            self._route.path,
            params={**self._route.fields, "format": due.job.output_format},
            content=data,
            headers={
                "Content-Type": "application/octet-stream",
                "Accept": "application/json" if self._report else "image/*",
            },
        )
        if not answer.is_success:
            return self._fail(due, problem_text(answer), answer)
        image, report = await asyncio.to_thread(_parse_result, answer)
        try:
            after = await asyncio.to_thread(write_file, output, image)
        except OSError as error:
            return self._fail(due, f"{output} cannot be written: {error.strerror or error}")
        record = replace(due.record, input=before, output=after)
        self._manifest.records[due.job.output.as_posix()] = record
        self._tally.faceless += answer.headers.get("X-Faces") == "0"
        self._append_report(due, {"status": answer.status_code, "report": report})
        return None

    def _fail(self, due: Due, reason: str, answer: httpx.Response | None = None) -> str:
        problem = {"detail": reason} if answer is None else problem_document(answer)
        self._append_report(due, {"status": answer.status_code if answer else None, "problem": problem})
        return reason

    def _append_report(self, due: Due, outcome: dict[str, Any]) -> None:
        if self._report is None:
            return
        line = {
            "input": str(due.job.source),
            "output": str(self._out / due.job.output),
            "reason": due.reason,
            **outcome,
        }
        self._report.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._report.flush()


def _parse_result(answer: httpx.Response) -> tuple[bytes, dict[str, Any] | None]:
    """Return the picture, and the report if the response has one."""
    if answer.headers["content-type"] != "application/json":
        return answer.content, None
    document = answer.json()
    return base64.b64decode(document["image_base64"]), document["report"]
