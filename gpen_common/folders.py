"""Folders in the user's home."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return this project's folder in the user's cache, by default ~/.cache/gpen-gateway.

    Source: XDG Base Directory Specification 0.8, which ignores a relative XDG_CACHE_HOME.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "gpen-gateway"


def models_folder() -> Path:
    """Return the default folder of models and checkpoints, which gateway and backend share."""
    return cache_folder() / "models"
