"""Logging: uvicorn's lines and ours in one form, on standard error."""

from typing import Any

_OURS = ("gateway", "gpen_client", "gpen_backend")


def log_config(level: str) -> dict[str, Any]:
    """The `logging.config.dictConfig` of a server. level: `debug`, `info`, `warning` or `error`."""
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": dict.fromkeys(("uvicorn", *_OURS), logger),
    }
