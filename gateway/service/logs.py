"""Logging configuration: one format for all lines on standard error, each with its request id.

Pictures, keys and bodies are never logged.
"""

import json
import logging
import time
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["text", "json"]

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="-")
"""The id of the current request, added to every log line."""

_OURS = ("gateway", "gpen_common", "gpen_client", "gpen_backend")
_TEXT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"


# Escapes control characters, so that request data cannot forge log lines or control a terminal.
_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class TextFormatter(logging.Formatter):
    """One line per record, followed by its traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Format `record` without its traceback."""
        return super().formatMessage(record).translate(_ESCAPED)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, request_id, message and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record` as JSON."""
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


class RequestIdFilter(logging.Filter):
    """Adds the request id to each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; keeps every record."""
        record.request_id = current_request_id.get()
        return True


def build_log_config(level: str, log_format: LogFormat) -> dict[str, Any]:
    """Build the `logging.config.dictConfig` of a server. level: `debug`, `info`, `warning` or `error`."""
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}},
        "formatters": {"text": {"()": TextFormatter, "format": _TEXT}, "json": {"()": JsonFormatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": log_format,
                "filters": ["request_id"],
            }
        },
        # Libraries log warnings only: at `info` some write whole URLs.
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": dict.fromkeys(("uvicorn", *_OURS), logger),
    }
