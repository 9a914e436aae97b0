"""Schemas of the lines in a batch response and in the `report.ndjson` of a ZIP response."""

from typing import Literal

from pydantic import Field

from gateway.schemas.problem import Problem
from gateway.schemas.reports import EnhanceReport
from gateway.schemas.schema import Schema


class BatchPicture(Schema):
    """An enhanced file of a batch."""

    index: int = Field(description="Position of the file in the request, from 0.")
    name: str
    status: Literal[200] = 200
    image_base64: str
    media_type: str
    report: EnhanceReport


class BatchFile(Schema):
    """An enhanced file in the `report.ndjson` of a ZIP response. file: the picture's name in the archive."""

    index: int
    name: str
    status: Literal[200] = 200
    file: str
    media_type: str
    report: EnhanceReport


class BatchFailure(Schema):
    """A file of a batch that failed."""

    index: int = Field(description="Position of the file in the request, from 0.")
    name: str
    status: int
    problem: Problem


class BatchSummary(Schema):
    """Counts and duration of a batch."""

    done: int
    failed: int
    ms: int = Field(description="Milliseconds from the complete upload to this line.")


class BatchEnd(Schema):
    """The last line of a batch. If it is missing, the response is incomplete."""

    summary: BatchSummary
