"""Which pictures people mean by files, folders and patterns, and where their results go."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.imaging.encoder import OutputFormat
from gateway.imaging.filenames import READABLE_SUFFIXES, choose_format, choose_suffix, is_system_file


class NothingFound(Exception):
    """A path names nothing, or nothing that could be a picture."""


class Clash(Exception):
    """Two inputs have one output, or an output is an input."""


@dataclass(frozen=True, slots=True)
class Found:
    """A picture. source: where it is. place: where it is below what was named, which its output mirrors."""

    source: Path
    place: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A picture to be made. output: relative to the folder of outputs. output_format: what it will be."""

    source: Path
    output: Path
    output_format: OutputFormat


def find(paths: Sequence[str], out: Path) -> list[Found]:
    """The pictures that `paths` name, each once: files, folders with all below them, glob patterns.

    Files that are named by themselves may have any extension. Nothing in `out` is found in a folder.
    Raises NothingFound.
    """
    found: dict[Path, Found] = {}
    for path in paths:
        pictures = list(_named(path, out.resolve(), several=len(paths) > 1))
        if not pictures:
            raise NothingFound(
                f"{path}: no picture is there; name pictures, folders of pictures, or a quoted pattern such "
                "as 'photos/**/*.jpg'"
            )
        for picture in pictures:
            found.setdefault(picture.source.resolve(), picture)
    return list(found.values())


def plan(found: Iterable[Found], out: Path, output_format: OutputFormat | None) -> list[Job]:
    """Where the result of each goes. output_format: of all; None keeps each one's own if it can be written.

    Results that would share a name are told apart by the extensions of their inputs. Raises Clash.
    """
    pictures = list(found)
    jobs: list[Job] = []
    for group in _by_output(pictures, output_format).values():
        told_apart = len({str(picture.place).casefold() for picture in group}) == len(group)
        if not told_apart:
            first, second = _same_place(group)
            raise Clash(
                f"{first.source} and {second.source} would both become {out / first.place}; name a folder "
                "that holds both, or use another -o for one of them"
            )
        jobs.extend(_job(picture, output_format, whole_name=len(group) > 1) for picture in group)
    _refuse_clashes(jobs, out, {picture.source.resolve() for picture in pictures})
    return sorted(jobs, key=lambda job: job.output)


def _named(path: str, out: Path, several: bool) -> Iterator[Found]:
    named = Path(path)
    if named.is_file():
        yield Found(named, Path(named.name))
    elif named.is_dir():
        # As with cp: the content of one folder, or several folders with their names.
        prefix = Path(named.resolve().name) if several else Path()
        yield from _below(named, prefix, out)
    elif glob.has_magic(path):
        root = _fixed_part(path)
        for match in sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 - absolute patterns too
            if (file := Path(match)).is_file() and _is_picture(file) and not _inside(file, out):
                yield Found(file, file.relative_to(root))
            elif file.is_dir() and "**" not in path:
                yield from _below(file, file.relative_to(root), out)


def _below(folder: Path, prefix: Path, out: Path) -> Iterator[Found]:
    """The pictures in `folder` and all folders below it, in the order of their names."""
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


def _inside(file: Path, out: Path) -> bool:
    return out in file.resolve().parents


def _fixed_part(pattern: str) -> Path:
    """The folders of `pattern` before its first wildcard."""
    parts = Path(pattern).parts
    wild = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:wild])


def _by_output(pictures: list[Found], output_format: OutputFormat | None) -> dict[str, list[Found]]:
    groups: defaultdict[str, list[Found]] = defaultdict(list)
    for picture in pictures:
        # Some file systems tell no case apart, and people copy from one to another.
        groups[str(_job(picture, output_format).output).casefold()].append(picture)
    return groups


def _job(picture: Found, output_format: OutputFormat | None, whole_name: bool = False) -> Job:
    chosen = output_format or choose_format(picture.source.name)
    suffix = choose_suffix(picture.place.name, chosen)
    stem = picture.place.name if whole_name else picture.place.stem
    return Job(picture.source, picture.place.with_name(stem + suffix), chosen)


def _same_place(group: list[Found]) -> tuple[Found, Found]:
    seen: dict[str, Found] = {}
    for picture in group:
        other = seen.setdefault(str(picture.place).casefold(), picture)
        if other is not picture:
            return other, picture
    raise AssertionError("no two of them are the same")


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
