"""Logging: uvicorn's lines and ours in one form, each with the id of its request, on standard error.

Pictures, keys and bodies are never logged.
"""

import json
import logging
import time
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["text", "json"]

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""The id of the request that is being served, for every line that is written meanwhile."""

_OURS = ("gateway", "gpen_common", "gpen_client", "gpen_backend")
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


# What others put into a message must not look like a line of ours, nor command a terminal.
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class TextFormatter(logging.Formatter):
    """One line a record, and the lines of its trace."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """`record` without its trace."""
        return super().formatMessage(record).translate(_ESCAPED)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, request_id, message, the record's own `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """`record` as JSON."""
        moment = time.gmtime(record.created)
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class WithRequestId(logging.Filter):
    """Gives each record the id of the request it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record through."""
        record.request_id = current_request_id.get()
        return True


def log_config(level: str, log_format: LogFormat) -> dict[str, Any]:
    """The `logging.config.dictConfig` of a server. level: `debug`, `info`, `warning` or `error`."""
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": WithRequestId}},
        "formatters": {"text": {"()": TextFormatter, "format": _TEXT}, "json": {"()": JsonFormatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": log_format,
                "filters": ["request_id"],
            }
        },
        # Libraries have their say only where something is wrong: at `info` some tell whole addresses.
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": dict.fromkeys(("uvicorn", *_OURS), logger),
    }
