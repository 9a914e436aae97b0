"""The names of GPEN's published checkpoints."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from gpen_common.types import Task

RestorerName = Literal["gpen-bfr-256", "gpen-bfr-512", "gpen-bfr-1024", "gpen-bfr-2048"]
"""Models that restore, smallest first."""

ModelName = Literal[RestorerName, "gpen-colorization-1024", "gpen-inpainting-1024"]
"""All models: those that restore, then those for other tasks."""

DEFAULT_RESTORER: RestorerName = "gpen-bfr-512"
"""The model of requests that name none: the size GPEN's authors recommend for photographs."""

CHECKPOINT_FOR: Mapping[Task, ModelName] = MappingProxyType(
    {
        "restore": DEFAULT_RESTORER,
        "colorize": "gpen-colorization-1024",
        "inpaint": "gpen-inpainting-1024",
    }
)
"""The model of each task when a request names none."""
