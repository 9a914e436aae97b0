"""The lines that a batch answers with, and the entries of its archive's list."""

from typing import Literal

from pydantic import Field

from gateway.schemas.problem import Problem
from gateway.schemas.reports import EnhanceReport
from gateway.schemas.schema import Schema


class BatchPicture(Schema):
    """A file of a batch that was enhanced."""

    index: int = Field(description="Its place among the files that were sent, from 0.")
    name: str
    status: Literal[200] = 200
    image_base64: str
    media_type: str
    report: EnhanceReport


class BatchFile(Schema):
    """The same in the `report.ndjson` of a ZIP. file: the picture's name in the archive."""

    index: int
    name: str
    status: Literal[200] = 200
    file: str
    media_type: str
    report: EnhanceReport


class BatchFailure(Schema):
    """A file of a batch that could not be enhanced."""

    index: int = Field(description="Its place among the files that were sent, from 0.")
    name: str
    status: int
    problem: Problem


class BatchSummary(Schema):
    """What became of a batch."""

    done: int
    failed: int
    ms: int = Field(description="Milliseconds since the upload was complete.")


class BatchEnd(Schema):
    """The last line of a batch; without it the answer was broken off."""

    summary: BatchSummary
