"""Load the configuration of a command; exit with a message when it is invalid."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
from pydantic import ValidationError

from gateway.faces import FinderUnavailable
from gateway.service import problem
from gateway.settings import Settings


def load_settings() -> Settings:
    """Read the settings, and check those of an embedded backend. Exits if any is invalid."""
    try:
        settings = Settings()
        if settings.upstream.backend_url is None:
            from gateway.upstream.embedded_backend import check_backend_settings

            check_backend_settings()
    except ValidationError as error:
        exit_with_invalid_settings(error)
    return settings


@contextmanager
def exit_without_finder() -> Iterator[None]:
    """Exit with a message if the configured face finder cannot run."""
    try:
        yield
    except FinderUnavailable as error:
        click.echo(f"gpen-gateway: {error}", err=True)
        sys.exit(2)


def exit_with_invalid_settings(error: ValidationError) -> NoReturn:
    """Exit with one message per invalid setting."""
    prefix = "GPEN_BACKEND_" if error.title == "BackendSettings" else "GATEWAY_"
    for wrong in error.errors(include_url=False):
        name = str(wrong["loc"][0]) if wrong["loc"] else error.title
        # Settings with an alias report the alias, which is the variable's name.
        variable = name if name.startswith(("GPEN_", "GATEWAY_")) else f"{prefix}{name}".upper()
        click.echo(f"gpen-gateway: {variable}={wrong['input']!r} is not valid: {wrong['msg']}", err=True)
    sys.exit(2)


def log_to_console() -> None:
    """Print warnings of an embedded gateway, one line each, except those that the command itself reports."""
    logging.basicConfig(format="gpen-gateway: %(message)s", level=logging.WARNING)
    for logger in (problem.logger, logging.getLogger("stamina")):
        logger.setLevel(logging.ERROR)
