"""What a run has to do, and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.commands.inputs import Job
from gateway.commands.manifest import Manifest, Record

Reason = Literal["new", "forced", "parameters", "gateway", "input", "output", "unfinished"]
"""Why a result is made: it is new, asked for again, or one of these changed since it was made."""


@dataclass(frozen=True, slots=True)
class Due:
    """A result that is to be made. record: as far as it is known before."""

    job: Job
    reason: Reason
    record: Record


@dataclass(frozen=True, slots=True)
class Selection:
    """due: to be made. unchanged: how many are as they would be. in_the_way: outputs that are not ours."""

    due: list[Due]
    unchanged: int
    in_the_way: list[Job]


def select(
    jobs: Iterable[Job],
    out: Path,
    manifest: Manifest,
    parameters: Callable[[Job], dict[str, Any]],
    made_by: dict[str, str],
    force: bool,
) -> Selection:
    """Which of `jobs` are due.

    parameters: all that decide about the job's result. made_by: what else does.
    """
    due, in_the_way, unchanged = [], [], 0
    for job in jobs:
        now = Record(str(job.source.resolve()), parameters(job), made_by)
        known = manifest.records.get(job.output.as_posix())
        if known is None and not force and (out / job.output).exists():
            in_the_way.append(job)
        elif reason := _reason(job, out, known, now, force):
            due.append(Due(job, reason, now))
        else:
            unchanged += 1
    return Selection(due, unchanged, in_the_way)


def _reason(job: Job, out: Path, known: Record | None, now: Record, force: bool) -> Reason | None:
    if force:
        return "forced"
    if known is None:
        return "new"
    if known.input is None or known.output is None:
        return "unfinished"
    if known.parameters != now.parameters:
        return "parameters"
    if known.made_by != now.made_by:
        return "gateway"
    if not known.input.still_holds(job.source):
        return "input"
    return None if known.output.still_holds(out / job.output) else "output"
