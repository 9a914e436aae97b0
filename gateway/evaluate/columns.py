"""The columns of the experiment: the ways of processing that it compares."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A way of processing a photo. params: for `/v1/enhance`. standardise: those for `/v1/preprocess`; None
    if the column does not standardise."""

    name: str
    title: str
    meaning: str
    params: dict[str, str]
    standardise: dict[str, str] | None = None


# Only the best face is measured.
_BEST = {"faces": "best"}
_RECIPE = {"clahe": "always", "exposure": "off", "framing": "article"}
_FACE = {"framing": "face"}

RAW = Column(
    "raw",
    "A: raw",
    "The photo goes to GPEN as it is, at its own size. The face is found, aligned, restored and pasted "
    "back. Nothing is standardised and no parameter is linked.",
    {"output": "photo", "clahe": "off", "exposure": "off", "linkage": "false", "yaw": "off", **_BEST},
)
RECIPE = Column(
    "recipe",
    "Plain recipe",
    "The article's recipe: short edge 1024, an eye-centred 896 px window, CLAHE at clip limit 2.0 on 8x8 "
    "tiles.",
    {**_RECIPE, **_BEST},
    _RECIPE,
)
OURS = Column("ours", "B: standardised", "Standardised with the gateway's default parameters.", _BEST, {})
FACE = Column(
    "face",
    "B, framing=face",
    "As B, with the head upright and the eyes at fixed positions.",
    {**_FACE, **_BEST},
    _FACE,
)
PHOTO = Column(
    "photo",
    "B, output=photo",
    "The whole photo: standardised for GPEN only; the result has the photo's own light.",
    {"output": "photo", **_BEST},
)

COLUMNS = (RAW, RECIPE, OURS, FACE)
"""The columns of every photo."""

STANDARDISED = tuple(column for column in COLUMNS if column.standardise is not None)
"""The columns that standardise."""

SHARP_COLUMNS = (RAW, RECIPE, OURS, FACE, PHOTO)
"""The columns of every degraded photo."""
