"""Making results: a few at a time, each written at once and recorded."""

import asyncio
import base64
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import httpx

from gateway.commands.files import read_file, write_file
from gateway.commands.manifest import Manifest
from gateway.commands.select import Due
from gateway.remote import GatewayGone, check_refusal, problem_text
from gpen_common.tasks import run_all

_LATER = (429, 503)
_LONGEST_WAIT_S = 10.0


@dataclass(slots=True)
class Tally:
    """How a run went. failed: sources and why. faceless: results in which no face was found."""

    done: int = 0
    faceless: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Route:
    """Where pictures go. fields: parameters, as their sender wrote them."""

    path: str
    fields: dict[str, str]


class Worker:
    """Sends pictures to a gateway and writes what comes back.

    patience_s: how long a gateway may answer nothing but `later`, or nothing, to all that are sent.
    report: lines of JSON go there, one for each picture. progressed: called after each picture, with why it
    failed or None.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        route: Route,
        out: Path,
        manifest: Manifest,
        tally: Tally,
        *,
        patience_s: float,
        report: TextIO | None,
        progressed: Callable[[Due, str | None], None],
    ) -> None:
        self._client = client
        self._route = route
        self._out = out
        self._manifest = manifest
        self._tally = tally
        self._patience_s = patience_s
        self._report = report
        self._progressed = progressed
        self._answered_at = time.monotonic()

    async def run(self, due: Iterable[Due], concurrency: int) -> None:
        """Makes all of `due`, `concurrency` at a time. Raises GatewayGone, Refused.

        The manifest is written however this ends.
        """
        left = list(due)
        for one in left:
            # Ours from now on: what a crash leaves there is no file of somebody else's.
            key = one.job.output.as_posix()
            self._manifest.records.setdefault(key, one.record)
        self._answered_at = time.monotonic()
        try:
            await asyncio.to_thread(self._manifest.save)
            queue = iter(left)
            await run_all(self._work(queue) for _ in range(min(concurrency, len(left))))
        finally:
            self._manifest.save()

    async def _work(self, queue: Iterator[Due]) -> None:
        for due in queue:
            failure = await self._make(due)
            if failure is None:
                self._tally.done += 1
            else:
                self._tally.failed.append((due.job.source, failure))
            self._progressed(due, failure)
            await self._manifest.save_now_and_then()

    async def _make(self, due: Due) -> str | None:
        """Makes one result; why that failed, or None."""
        try:
            data, before = await asyncio.to_thread(read_file, due.job.source)
        except OSError as error:
            return self._failed(due, f"it cannot be read: {error.strerror or error}")
        answer = await self._sent(data, due)
        if not answer.is_success:
            return self._failed(due, problem_text(answer), answer)
        image, report = await asyncio.to_thread(_opened, answer)
        try:
            after = await asyncio.to_thread(write_file, self._out / due.job.output, image)
        except OSError as error:
            return self._failed(
                due, f"{self._out / due.job.output} cannot be written: {error.strerror or error}"
            )
        record = replace(due.record, input=before, output=after)
        self._manifest.records[due.job.output.as_posix()] = record
        self._tally.faceless += answer.headers.get("X-Faces") == "0"
        self._tell(due, {"status": answer.status_code, "report": report})
        return None

    async def _sent(self, data: bytes, due: Due) -> httpx.Response:
        """The answer to one picture, waited for while the gateway is busy or away."""
        attempt = 0
        while True:
            try:
                answer = await self._client.post(
                    self._route.path,
                    params={**self._route.fields, "format": due.job.output_format},
                    content=data,
                    headers={
                        "Content-Type": "application/octet-stream",
                        "Accept": "application/json" if self._report else "image/*",
                    },
                )
            except httpx.TransportError as error:
                wait_s = min(2.0**attempt, _LONGEST_WAIT_S)
                why = f"no connection to {self._client.base_url}: {error or type(error).__name__}"
            else:
                check_refusal(answer)
                if answer.status_code not in _LATER:
                    self._answered_at = time.monotonic()
                    return answer
                wait_s, why = _retry_after_s(answer), problem_text(answer)
            # Those that were told the same must not all come back at once.
            wait_s *= random.uniform(1.0, 1.25)  # noqa: S311 - no secret
            if time.monotonic() + wait_s - self._answered_at > self._patience_s:
                raise GatewayGone(why)
            await asyncio.sleep(wait_s)
            attempt += 1

    def _failed(self, due: Due, why: str, answer: httpx.Response | None = None) -> str:
        problem = {"detail": why} if answer is None else _document(answer, why)
        self._tell(due, {"status": answer.status_code if answer else None, "problem": problem})
        return why

    def _tell(self, due: Due, told: dict[str, Any]) -> None:
        if self._report is None:
            return
        about = {
            "input": str(due.job.source),
            "output": str(self._out / due.job.output),
            "reason": due.reason,
        }
        self._report.write(json.dumps({**about, **told}, ensure_ascii=False) + "\n")
        self._report.flush()


def _opened(answer: httpx.Response) -> tuple[bytes, dict[str, Any] | None]:
    """The picture, and the report where the answer has one."""
    if answer.headers["content-type"] != "application/json":
        return answer.content, None
    document = answer.json()
    return base64.b64decode(document["image_base64"]), document["report"]


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        return max(0.1, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return 1.0


def _document(answer: httpx.Response, why: str) -> Any:  # noqa: ANN401
    try:
        return answer.json()
    except ValueError:
        return {"detail": why}
