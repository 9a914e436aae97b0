"""The two formats of a batch response: NDJSON, one line per file, or a ZIP archive."""

import base64
import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.batch.entries import BatchEntry
from gateway.batch.schemas import BatchEnd, BatchFailure, BatchFile, BatchPicture, BatchSummary
from gateway.imaging.filenames import choose_suffix
from gateway.pipeline.result import Result
from gateway.schemas.problem import Problem
from gateway.schemas.reports import EnhanceReport

NDJSON = "application/x-ndjson"
ZIP = "application/zip"

REPORT_NAME = "report.ndjson"
"""The member of a ZIP response that reports the result of each file."""

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one entry: a picture or a problem."""

    entry: BatchEntry
    result: Result[EnhanceReport] | Problem


class Answer(Protocol):
    """A response format. Its methods return the next bytes of the body; call them on the disk thread."""

    media_type: str

    def add(self, outcome: Outcome) -> bytes:
        """Encode the result of one file."""

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """Yield the last bytes."""


class NdjsonAnswer:
    """One JSON line per file with the picture in base64, then one with the summary."""

    media_type = NDJSON

    def add(self, outcome: Outcome) -> bytes:
        """Encode the line of one file."""
        if isinstance(outcome.result, Problem):
            return _encode_line(_describe_failure(outcome.entry, outcome.result))
        enhanced = outcome.result
        return _encode_line(
            BatchPicture(
                index=outcome.entry.index,
                name=outcome.entry.name,
                image_base64=base64.b64encode(enhanced.image).decode(),
                media_type=f"image/{enhanced.output_format}",
                report=enhanced.report,
            )
        )

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """Yield the line of the summary."""
        yield _encode_line(BatchEnd(summary=summary))


class ZipAnswer:
    """A ZIP archive of the pictures with `report.ndjson` as its last member.

    report: path of a temporary file that collects the lines until all pictures are written.
    """

    media_type = ZIP

    def __init__(self, report: Path) -> None:
        self._report = report
        self._out = _Sink()
        # JPEG, PNG and WebP do not compress further.
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_STORED)

    def add(self, outcome: Outcome) -> bytes:
        """Encode the picture; returns b"" if there is none."""
        entry = outcome.entry
        if isinstance(outcome.result, Problem):
            self._append_report(_encode_line(_describe_failure(entry, outcome.result)))
            return b""
        enhanced = outcome.result
        file = entry.stem + choose_suffix(entry.name, enhanced.output_format)
        self._zip.writestr(file, enhanced.image)
        self._append_report(
            _encode_line(
                BatchFile(
                    index=entry.index,
                    name=entry.name,
                    file=file,
                    media_type=f"image/{enhanced.output_format}",
                    report=enhanced.report,
                )
            )
        )
        return self._out.take()

    def end(self, summary: BatchSummary) -> Iterator[bytes]:
        """Yield `report.ndjson` and the archive's directory."""
        self._append_report(_encode_line(BatchEnd(summary=summary)))
        # zipfile dates a streamed member 1980 by default.
        member = zipfile.ZipInfo(REPORT_NAME, time.localtime()[:6])
        with self._report.open("rb") as lines, self._zip.open(member, "w", force_zip64=True) as written:
            while piece := lines.read(_PIECE_BYTES):
                written.write(piece)
                yield self._out.take()
        self._zip.close()
        yield self._out.take()

    def _append_report(self, line: bytes) -> None:
        with self._report.open("ab") as lines:
            lines.write(line)


class _Sink(io.RawIOBase):
    """A write-only file that collects bytes until `take` removes them."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _describe_failure(entry: BatchEntry, problem: Problem) -> BatchFailure:
    return BatchFailure(index=entry.index, name=entry.name, status=problem.status, problem=problem)


def _encode_line(line: BatchPicture | BatchFile | BatchFailure | BatchEnd) -> bytes:
    return line.model_dump_json().encode() + b"\n"
