"""What is compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A way to treat a photo. params: of `/v1/enhance`; `standardise`: the part of them that
    `/v1/preprocess` takes, None where nothing is standardised."""

    name: str
    title: str
    meaning: str
    params: dict[str, str]
    standardise: dict[str, str] | None = None


# Every face but the best one would be measured by chance only.
_BEST = {"faces": "best"}
_RECIPE = {"clahe": "always", "exposure": "off", "framing": "article"}
_FACE = {"framing": "face"}

RAW = Column(
    "raw",
    "A: raw",
    "The photo as it is, at its own size, straight to GPEN: found, aligned, restored and put back; nothing "
    "is standardised and no parameter is linked.",
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
OURS = Column("ours", "B: standardised", "Standardised by the defaults of this gateway.", _BEST, {})
FACE = Column(
    "face",
    "B, framing=face",
    "The same with roll removed and the eyes at fixed places.",
    {**_FACE, **_BEST},
    _FACE,
)
PHOTO = Column(
    "photo",
    "B, output=photo",
    "The whole photo: standardised for GPEN only, its light taken back out of the result.",
    {"output": "photo", **_BEST},
)

COLUMNS = (RAW, RECIPE, OURS, FACE)
"""What every photo goes through."""

STANDARDISED = tuple(column for column in COLUMNS if column.standardise is not None)
"""Those with a standardised portrait."""

SHARP_COLUMNS = (RAW, RECIPE, OURS, FACE, PHOTO)
"""What every degraded photo goes through."""
