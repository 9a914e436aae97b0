"""JSON answers of the routes; those of a batch are in `gateway.batch.schemas`."""

from pydantic import Field

from gateway.schemas.reports import EnhanceReport, PreprocessReport
from gateway.schemas.schema import Schema
from gpen_client.resilience import BreakerState


class PreprocessAnswer(Schema):
    """A portrait in JSON."""

    image_base64: str
    media_type: str
    report: PreprocessReport


class EnhanceAnswer(Schema):
    """An enhanced picture in JSON."""

    image_base64: str
    media_type: str
    report: EnhanceReport


class ArticleAnswer(Schema):
    """The answer of the article's `/preprocess`."""

    image_base64: str = Field(description="The portrait as PNG.")


class ModelReport(Schema):
    """A model of the backend."""

    name: str
    ready: bool
    engine: str
    task: str = Field(description="What it does: `restore`, `colorize` or `inpaint`.")
    size: int | None = Field(description="Side of the network's input, px.")
    default: bool = Field(description="Whether requests that name no model use this one.")
    reason: str | None = Field(None, description="Why it is not ready.")


class ModelsAnswer(Schema):
    """The models of the backend."""

    default: str | None
    models: list[ModelReport]


class HealthAnswer(Schema):
    """The gateway is alive."""

    status: str = "ok"
    version: str


class ReadyAnswer(Schema):
    """The gateway can serve."""

    status: str = "ready"
    finder: str
    engine: str
    model: str
    backend: str = Field(description="`embedded`, or the backend's URL.")
    breaker: BreakerState = Field(
        description="`closed`, or `half-open` while a trial request shows whether the backend is back."
    )
    notices: list[str] = Field(description="What the operator should know, such as a missing checkpoint.")
