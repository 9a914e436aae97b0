"""The shared portraits and their catalog."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from gateway.imaging.decoder import Photo, PixelLimits, decode


@dataclass(frozen=True, slots=True)
class SharedPortrait:
    """A picture of the shared catalog. yaw: degrees, by a pose network; None if it found no face."""

    path: Path
    kind: str
    faces: int
    yaw: float | None

    def photo(self) -> Photo:
        return decode(self.path.read_bytes(), PixelLimits(max_pixels=64_000_000, max_side=32_000))


def read_catalog(folder: Path) -> list[SharedPortrait]:
    """Read every entry of `catalog.tsv`."""
    with (folder / "catalog.tsv").open() as file:
        return [
            SharedPortrait(
                folder / row["file"],
                row["kind"],
                int(row["faces"]),
                float(row["yaw_deg"]) if row["yaw_deg"] else None,
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


def sample_portraits(catalog: list[SharedPortrait]) -> list[SharedPortrait]:
    """The last three of every kind, about thirty."""
    by_kind = defaultdict(list)
    for portrait in catalog:
        by_kind[portrait.kind].append(portrait)
    return [portrait for kind in by_kind.values() for portrait in kind[-3:]]
