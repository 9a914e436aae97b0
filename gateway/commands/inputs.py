"""Find the pictures that the paths on the command line mean, and plan where their results go."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.imaging.encoder import OutputFormat
from gateway.imaging.filenames import READABLE_SUFFIXES, choose_format, choose_suffix, is_system_file


class NothingFound(Exception):
    """A path matches no picture."""


class Clash(Exception):
    """Two inputs have the same output, or an output would overwrite an input."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture. source: its path. place: its path below the named folder; the output mirrors it."""

    source: Path
    place: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to process. output: path below the folder of results. output_format: its encoding."""

    source: Path
    output: Path
    output_format: OutputFormat


def find(paths: Sequence[str], out: Path) -> list[Found]:
    """Find the pictures of `paths`, each once. Paths are files, folders with subfolders, or glob patterns.

    A file named explicitly may have any extension. Folders are searched without `out`. Raises NothingFound.
    """
    found: dict[Path, Found] = {}
    for path in paths:
        pictures = list(_find_path(path, out.resolve(), several=len(paths) > 1))
        if not pictures:
            raise NothingFound(
                f"{path}: no picture found; name a picture, a folder, or a quoted pattern such as "
                "'photos/**/*.jpg'"
            )
        for picture in pictures:
            found.setdefault(picture.source.resolve(), picture)
    return list(found.values())


def plan(found: Iterable[Found], out: Path, output_format: OutputFormat | None) -> list[Job]:
    """Plan the output of each picture. output_format: for all; None keeps the input's format if possible.

    Inputs that differ only in extension keep it in the name of the result. Raises Clash.
    """
    pictures = list(found)
    jobs: list[Job] = []
    for group in _group_by_output(pictures, output_format).values():
        distinct = len({str(picture.place).casefold() for picture in group}) == len(group)
        if not distinct:
            first, second = _find_duplicate(group)
            raise Clash(
                f"{first.source} and {second.source} would both become {out / first.place}; name a folder "
                "that contains both, or use another -o for one of them"
            )
        jobs.extend(_plan_job(picture, output_format, whole_name=len(group) > 1) for picture in group)
    _refuse_clashes(jobs, out, {picture.source.resolve() for picture in pictures})
    return sorted(jobs, key=lambda job: job.output)


def _find_path(path: str, out: Path, several: bool) -> Iterator[Found]:
    named = Path(path)
    if named.is_file():
        yield Found(named, Path(named.name))
    elif named.is_dir():
        # Like cp: the content of a single folder, or several folders under their names.
        prefix = Path(named.resolve().name) if several else Path()
        yield from _find_below(named, prefix, out)
    elif glob.has_magic(path):
        root = _fixed_prefix(path)
        for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 - absolute patterns too
            if (file := Path(match)).is_file() and _is_picture(file) and not _is_inside(file, out):
                yield Found(file, file.relative_to(root))
            elif file.is_dir() and "**" not in path:
                yield from _find_below(file, file.relative_to(root), out)


def _find_below(folder: Path, prefix: Path, out: Path) -> Iterator[Found]:
    """Find the pictures in `folder` and its subfolders, ordered by name."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() != out
        )
        if here.resolve() == out:
            continue
        for name in sorted(files):
            if _is_picture(here / name):
                yield Found(here / name, prefix / (here / name).relative_to(folder))


def _is_picture(file: Path) -> bool:
    hidden = file.name.startswith(".")
    return file.suffix.lower() in READABLE_SUFFIXES and not hidden and not is_system_file(str(file))


def _is_inside(file: Path, out: Path) -> bool:
    return out in file.resolve().parents


def _fixed_prefix(pattern: str) -> Path:
    """Return the folders of `pattern` before its first wildcard."""
    parts = Path(pattern).parts
    wild = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild])


def _group_by_output(pictures: list[Found], output_format: OutputFormat | None) -> dict[str, list[Found]]:
    groups: defaultdict[str, list[Found]] = defaultdict(list)
    for picture in pictures:
        # Some file systems ignore case, and people copy between file systems.
        groups[str(_plan_job(picture, output_format).output).casefold()].append(picture)
    return groups


def _plan_job(picture: Found, output_format: OutputFormat | None, whole_name: bool = False) -> Job:
    chosen = output_format or choose_format(picture.source.name)
    suffix = choose_suffix(picture.place.name, chosen)
    stem = picture.place.name if whole_name else picture.place.stem
    return Job(picture.source, picture.place.with_name(stem + suffix), chosen)


def _find_duplicate(group: list[Found]) -> tuple[Found, Found]:
    seen: dict[str, Found] = {}
    for picture in group:
        other = seen.setdefault(str(picture.place).casefold(), picture)
        if other is not picture:
            return other, picture
    raise AssertionError("the group has no duplicate")


def _refuse_clashes(jobs: list[Job], out: Path, sources: set[Path]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        if (out / job.output).resolve() in sources:
            raise Clash(f"{out / job.output} is one of the inputs; use another folder for -o")
        other = taken.setdefault(str(job.output).casefold(), job)
        if other is not job:
            raise Clash(
                f"{other.source} and {job.source} would both become {out / job.output}; rename one of them"
            )
