"""What a command says where the environment makes no gateway."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
from pydantic import ValidationError

from gateway.faces import FinderUnavailable
from gateway.settings import Settings


def settings_or_exit() -> Settings:
    """The settings of the environment; where they, or an embedded backend's, are wrong, the command ends."""
    try:
        settings = Settings()
        if settings.upstream.backend_url is None:
            from gateway.upstream.embed import check_backend_settings

            check_backend_settings()
    except ValidationError as error:
        refuse(error)
    return settings


@contextmanager
def finder_or_exit() -> Iterator[None]:
    """Where the face finder that was asked for cannot run in the block, the command ends and says why."""
    try:
        yield
    except FinderUnavailable as error:
        click.echo(f"gpen-gateway: {error}", err=True)
        sys.exit(2)


def refuse(error: ValidationError) -> NoReturn:
    """Ends the command, naming every setting that is wrong."""
    prefix = "GPEN_BACKEND_" if error.title == "BackendSettings" else "GATEWAY_"
    for wrong in error.errors(include_url=False):
        name = str(wrong["loc"][0]) if wrong["loc"] else error.title
        # A setting with a variable of its own goes by that.
        variable = name if name.startswith(("GPEN_", "GATEWAY_")) else f"{prefix}{name}".upper()
        click.echo(f"gpen-gateway: {variable}={wrong['input']!r} is not valid: {wrong['msg']}", err=True)
    sys.exit(2)
