"""Names of pictures: safe wherever they are unpacked, each its own, with the extension of what they hold."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import get_args

from gateway.imaging.photo import OutputFormat

READABLE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}
)
"""Extensions, in lower case, that people give the pictures that are read here."""

_OWN_SUFFIXES: dict[OutputFormat, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "png": (".png",),
    "webp": (".webp",),
}
assert set(_OWN_SUFFIXES) == set(get_args(OutputFormat))  # noqa: S101 - a format without a name is a defect

# What operating systems leave between people's files.
_JUNK_FOLDERS = {"__macosx", ".git", "@eadir"}
_JUNK_FILES = {".ds_store", "thumbs.db", "desktop.ini"}

# What Windows, the strictest of the systems that unpack, forbids in names. Source: Microsoft's "Naming Files,
# Paths, and Namespaces".
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_DRIVE = re.compile(r"[A-Za-z]:")
# Most file systems end at 255 bytes; an extension and what tells names apart must still fit.
_MAX_PART_BYTES = 200
_MAX_PARTS = 32
_NAMELESS = "picture"


def is_junk(name: str) -> bool:
    """Whether a file with this path is the work of an operating system rather than of its user."""
    parts = [part.lower() for part in name.replace("\\", "/").split("/") if part]
    if not parts:
        return False
    return parts[-1] in _JUNK_FILES or parts[-1].startswith("._") or not _JUNK_FOLDERS.isdisjoint(parts[:-1])


def safe_name(name: str) -> str:
    """`name` as a relative path with forward slashes that leads nowhere but down."""
    parts = (_safe_part(part) for part in _DRIVE.sub("", name, count=1).replace("\\", "/").split("/"))
    kept = [part for part in parts if part]
    return "/".join(kept[-_MAX_PARTS:]) or _NAMELESS


def own_stems(names: Iterable[str]) -> list[str]:
    """`names` without their extensions, each different from all others even where case does not count.

    The first that has a stem keeps it; the next ones get a number.
    """
    taken: set[str] = set()
    numbers: defaultdict[str, int] = defaultdict(lambda: 1)
    stems = []
    for name in names:
        stem = plain = str(PurePosixPath(name).with_suffix(""))
        while stem.casefold() in taken:
            numbers[plain.casefold()] += 1
            stem = f"{plain}-{numbers[plain.casefold()]}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def suffix_for(name: str, output_format: OutputFormat) -> str:
    """The extension of a picture in `output_format` that was made of `name`: its own where that is right."""
    suffixes: Sequence[str] = _OWN_SUFFIXES[output_format]
    own = PurePosixPath(name).suffix
    return own if own.lower() in suffixes else suffixes[0]


def format_for(name: str) -> OutputFormat:
    """The encoding that a picture of this name keeps where nobody asks for another: its own, else png."""
    own = PurePosixPath(name).suffix.lower()
    if own == ".mpo":
        return "jpeg"
    return next((kind for kind, suffixes in _OWN_SUFFIXES.items() if own in suffixes), "png")


def _safe_part(part: str) -> str:
    # Windows drops spaces and full stops at the end of a name; `..` is nothing but them.
    readable = part.encode("utf-8", "replace").decode()
    clean = _FORBIDDEN.sub("_", readable).strip().rstrip(". ")
    if len(clean.encode()) <= _MAX_PART_BYTES:
        return clean
    suffix = PurePosixPath(clean).suffix if len(PurePosixPath(clean).suffix.encode()) <= 16 else ""
    return clean.encode()[: _MAX_PART_BYTES - len(suffix.encode())].decode("utf-8", "ignore") + suffix
