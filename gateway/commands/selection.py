"""Select the pictures that a run has to process, and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gateway.commands.inputs import Job
from gateway.commands.manifest import Manifest, Record

Reason = Literal["new", "forced", "parameters", "gateway", "input", "output", "unfinished"]
"""Why a result is due: it is new, forced or unfinished, or this changed since it was written."""


@dataclass(frozen=True, slots=True)
class Due:
    """A result to produce. record: without the states of the files."""

    job: Job
    reason: Reason
    record: Record


@dataclass(frozen=True, slots=True)
class Selection:
    """due: results to produce. unchanged: count of up-to-date results. in_the_way: jobs whose output exists
    but is not in the manifest."""

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
    """Select the due ones of `jobs`.

    parameters: returns the parameters that decide about a job's result. made_by: the gateway's provenance.
    """
    due, in_the_way, unchanged = [], [], 0
    for job in jobs:
        now = Record(str(job.source.resolve()), parameters(job), made_by)
        known = manifest.records.get(job.output.as_posix())
        if known is None and not force and (out / job.output).exists():
            in_the_way.append(job)
        elif reason := _find_reason(job, out, known, now, force):
            due.append(Due(job, reason, now))
        else:
            unchanged += 1
    return Selection(due, unchanged, in_the_way)


def _find_reason(job: Job, out: Path, known: Record | None, now: Record, force: bool) -> Reason | None:
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
    if not known.input.matches(job.source):
        return "input"
    return None if known.output.matches(out / job.output) else "output"
