"""The published GPEN checkpoints by name, and where their files are found. Known without torch.

Source: the model zoo of GPEN's README, and the file names its users give the downloads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One checkpoint of GPEN's.

    name: as in `/v2/models/{name}`. size: side of the network's input and output, px.
    channel_multiplier, narrow: the widths of its layers. parameters: how many numbers it holds.
    files: the names under which its weights are published, most usual first.
    """

    name: str
    size: int
    channel_multiplier: int
    narrow: float
    parameters: int
    files: tuple[str, ...]


KNOWN_MODELS: Mapping[str, KnownModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            KnownModel("gpen-bfr-256", 256, 1, 0.5, 18_879_010, ("GPEN-BFR-256.pth", "gpen-bfr-256.pth")),
            KnownModel("gpen-bfr-512", 512, 2, 1, 71_005_223, ("GPEN-BFR-512.pth", "gpen-bfr-512.pth")),
            KnownModel(
                "gpen-bfr-1024",
                1024,
                2,
                1,
                71_210_540,
                ("GPEN-BFR-1024.pth", "gpen-bfr-1024.pth", "pytorch_model.pt"),
            ),
            KnownModel(
                "gpen-bfr-2048",
                2048,
                2,
                1,
                71_294_769,
                ("GPEN-BFR-2048.pth", "gpen-bfr-2048.pth", "pytorch_model-2048.pt"),
            ),
        )
    }
)
"""Every restoration model this backend can serve, smallest first."""

DEFAULT_MODEL = "gpen-bfr-512"
"""What serves a caller who has no wish: the size GPEN's authors recommend for photographs."""


def find_checkpoint(name: str, models_dir: Path) -> Path | None:
    """The file in `models_dir` that holds the weights of the model `name`, or None where there is none."""
    for file in KNOWN_MODELS[name].files:
        path = models_dir / file
        if path.is_file():
            return path
    return None
