"""File names of images: safe to extract on any system, unique, and with an extension that fits the format."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import get_args

from gateway.imaging.encoder import OutputFormat

READABLE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
)
"""File name extensions of the supported input formats, in lower case."""

_SUFFIXES: dict[OutputFormat, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "webp": (".webp",),
}
assert set(_SUFFIXES) == set(get_args(OutputFormat))  # noqa: S101 - every format has an extension

# Files and folders that operating systems create among the user's own.
_JUNK_FOLDERS = {"__macosx", ".git", "@eadir"}
_JUNK_FILES = {".ds_store", "thumbs.db", "desktop.ini"}

# Characters that Windows, the strictest system, forbids in names. Source: Microsoft's "Naming Files, Paths,
# and Namespaces".
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_DRIVE = re.compile(r"[A-Za-z]:")
# Most file systems allow 255 bytes: this leaves room for an extension and a number.
_MAX_PART_BYTES = 200
_MAX_PARTS = 32
_NAMELESS = "picture"


def is_system_file(name: str) -> bool:
    """Whether an operating system, not the user, created the file with this path."""
    parts = [part.lower() for part in name.replace("\\", "/").split("/") if part]
    if not parts:
        return False
    return parts[-1] in _JUNK_FILES or parts[-1].startswith("._") or not _JUNK_FOLDERS.isdisjoint(parts[:-1])


def make_safe_name(name: str) -> str:
    """Convert `name` to a relative path with forward slashes that stays below its folder."""
    parts = (_safe_part(part) for part in _DRIVE.sub("", name, count=1).replace("\\", "/").split("/"))
    kept = [part for part in parts if part]
    return "/".join(kept[-_MAX_PARTS:]) or _NAMELESS


def make_unique_stems(names: Iterable[str]) -> list[str]:
    """Strip the extensions from `names` and make the stems unique, ignoring case.

    The first name with a stem keeps it; later ones get a number.
    """
    taken: set[str] = set()
    numbers: defaultdict[str, int] = defaultdict(lambda: 1)
    stems = []
    for name in names:
        stem = base = str(PurePosixPath(name).with_suffix(""))
        while stem.casefold() in taken:
            numbers[base.casefold()] += 1
            stem = f"{base}-{numbers[base.casefold()]}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def choose_suffix(name: str, output_format: OutputFormat) -> str:
    """Return the extension for a result in `output_format`: that of `name` if it fits, else the usual one."""
    suffixes: Sequence[str] = _SUFFIXES[output_format]
    own = PurePosixPath(name).suffix
    return own if own.lower() in suffixes else suffixes[0]


def choose_format(name: str) -> OutputFormat:
    """Return the default output format for an input called `name`: its own if writable, else png."""
    own = PurePosixPath(name).suffix.lower()
    if own == ".mpo":
        return "jpeg"
    return next((kind for kind, suffixes in _SUFFIXES.items() if own in suffixes), "png")


def _safe_part(part: str) -> str:
    # Windows drops trailing spaces and full stops. Stripping them also removes `..`.
    readable = part.encode("utf-8", "replace").decode()
    clean = _FORBIDDEN.sub("_", readable).strip().rstrip(". ")
    if len(clean.encode()) <= _MAX_PART_BYTES:
        return clean
    suffix = PurePosixPath(clean).suffix if len(PurePosixPath(clean).suffix.encode()) <= 16 else ""
    return clean.encode()[: _MAX_PART_BYTES - len(suffix.encode())].decode("utf-8", "ignore") + suffix
