"""What becomes of each file, as the two forms of the answer: lines of JSON, and a ZIP."""

import base64
import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.batch.entries import Entry
from gateway.batch.schemas import BatchEnd, BatchFailure, BatchFile, BatchPicture, BatchSummary
from gateway.imaging.filenames import choose_suffix
from gateway.pipeline.result import Result
from gateway.schemas.problem import Problem
from gateway.schemas.reports import EnhanceReport

NDJSON = "application/x-ndjson"
ZIP = "application/zip"

REPORT_NAME = "report.ndjson"
"""The file of a ZIP answer that tells what became of each file."""

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry: a picture, or a problem."""

    entry: Entry
    result: Result[EnhanceReport] | Problem


class Answer(Protocol):
    """One form of the answer. Its methods give the next bytes of it; they belong on the disk's thread."""

    media_type: str

    def add(self, outcome: Outcome) -> bytes:
        """The bytes of one file."""

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """The last bytes."""


class NdjsonAnswer:
    """A line of JSON for each file, the picture in base64, and a last one with the summary."""

    media_type = NDJSON

    def add(self, outcome: Outcome) -> bytes:
        """The line of one file."""
        if isinstance(outcome.result, Problem):
            return _line(_failure(outcome.entry, outcome.result))
        enhanced = outcome.result
        return _line(
            BatchPicture(
                index=outcome.entry.index,
                name=outcome.entry.name,
                image_base64=base64.b64encode(enhanced.image).decode(),
                media_type=f"image/{enhanced.output_format}",
                report=enhanced.report,
            )
        )

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """The line of the summary."""
        yield _line(BatchEnd(summary=summary))


class ZipAnswer:
    """A ZIP with the pictures under their names, and `report.ndjson` as its last file.

    report: where on disk the lines wait until all pictures are out.
    """

    media_type = ZIP

    def __init__(self, report: Path) -> None:
        self._report = report
        self._out = _Outlet()
        # Pictures are compressed already.
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_STORED)

    def add(self, outcome: Outcome) -> bytes:
        """The picture, or nothing where there is none."""
        entry = outcome.entry
        if isinstance(outcome.result, Problem):
            self._tell(_line(_failure(entry, outcome.result)))
            return b""
        enhanced = outcome.result
        file = entry.stem + choose_suffix(entry.name, enhanced.output_format)
        self._zip.writestr(file, enhanced.image)
        self._tell(
            _line(
                BatchFile(
                    index=entry.index,
                    name=entry.name,
                    file=file,
                    media_type=f"image/{enhanced.output_format}",
                    report=enhanced.report,
                )
            )
        )
        return self._out.taken()

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """`report.ndjson` and the archive's directory."""
        self._tell(_line(BatchEnd(summary=summary)))
        # By itself zipfile dates what is streamed to 1980.
        member = zipfile.ZipInfo(REPORT_NAME, time.localtime()[:6])
        with self._report.open("rb") as lines, self._zip.open(member, "w", force_zip64=True) as written:
            while piece := lines.read(_PIECE_BYTES):
                written.write(piece)
                yield self._out.taken()
        self._zip.close()
        yield self._out.taken()

    def _tell(self, line: bytes) -> None:
        with self._report.open("ab") as lines:
            lines.write(line)


class _Outlet(io.RawIOBase):
    """A file that can only be written, from which each piece is taken once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _failure(entry: Entry, problem: Problem) -> BatchFailure:
    return BatchFailure(index=entry.index, name=entry.name, status=problem.status, problem=problem)


def _line(told: BatchPicture | BatchFile | BatchFailure | BatchEnd) -> bytes:
    return told.model_dump_json().encode() + b"\n"
