"""Error documents."""

from typing import Any

from pydantic import BaseModel, Field

from gateway.schemas.schema import Schema


def _describe_as_optional(schema: dict[str, Any]) -> None:
    """Describe a field that is left out where it would be null."""
    del schema["default"]
    schema.update(next(way for way in schema.pop("anyOf") if way != {"type": "null"}))


class WrongParameter(Schema):
    """An invalid parameter and the reason."""

    parameter: str
    message: str


class Problem(BaseModel):
    """An error, in the form of RFC 9457."""

    type: str = Field(description="A stable slug; docs/errors.md explains each.")
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do.")
    request_id: str
    errors: list[WrongParameter] | None = Field(
        None, description="Each invalid parameter and the reason.", json_schema_extra=_describe_as_optional
    )
