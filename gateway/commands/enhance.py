"""`gpen-gateway enhance` and `preprocess`: process files and folders into a mirrored tree of results."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout
from pydantic import ValidationError

from gateway.api.upload import invalid_parameters
from gateway.commands.configuration import exit_without_finder, load_settings, log_to_console
from gateway.commands.inputs import Clash, NothingFound, find, plan
from gateway.commands.manifest import ManifestUnusable
from gateway.commands.options import EnhanceOptions, add_picture_options, open_gateway, parse_options
from gateway.commands.picture_worker import Route
from gateway.commands.run import Run
from gateway.gateway_client import GatewayGone, Refused
from gateway.params import EnhanceParams, PreprocessParams

LOCK_NAME = ".gpen-gateway.lock"
"""The lock file in the folder of results."""

_INTERRUPTED = 130


@click.command()
@add_picture_options
@click.option("--output", help="portrait, or photo for the whole picture with every face restored.")
@click.option("--strength", help="Blend of the restored face over the input, 0 to 100, or auto.")
@click.option("--mode", help="natural, strong or detail.")
@click.option("--upscale", help="Scale factor of the result for --output photo, 1 to 4.")
@click.option("--model", help="The checkpoint, such as gpen-bfr-512.")
def enhance(params: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Enhance pictures: files, folders with their subfolders, or quoted patterns.

    A second run processes only what changed. Exit status: 0 success, 1 some pictures failed, 2 invalid usage
    or configuration, 130 interrupted.
    """
    names = ("framing", "format", "output", "strength", "mode", "upscale", "model")
    _run("/v1/enhance", EnhanceParams, parse_options(params, options, names))


@click.command()
@add_picture_options
def preprocess(params: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Standardise portraits without GPEN: files, folders with their subfolders, or quoted patterns."""
    _run("/v1/preprocess", PreprocessParams, parse_options(params, options, ("framing", "format")))


def _run(path: str, model: type[PreprocessParams], options: EnhanceOptions) -> None:
    """Run the command and exit with its status."""
    try:
        params = model.model_validate(options.fields)
    except ValidationError as error:
        raise click.UsageError(str(invalid_parameters(error, model))) from error
    try:
        jobs = plan(find(options.paths, options.out), options.out, params.format)
    except (NothingFound, Clash) as error:
        raise click.UsageError(str(error)) from error
    log_to_console()
    connection = open_gateway(options.url, options.api_key, load_settings)
    run = Run(Route(path, options.fields), params, options, jobs)
    try:
        with exit_without_finder(), ExitStack() as stack:
            if not options.dry_run:
                stack.enter_context(_lock(options.out))
            asyncio.run(run.execute(connection))
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        run.print_summary()
        sys.exit(_INTERRUPTED)
    except ManifestUnusable as error:
        raise click.UsageError(str(error)) from error
    except (GatewayGone, Refused) as error:
        click.echo(f"gpen-gateway: stopped: {error}", err=True)
        run.print_summary()
        sys.exit(1)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    run.print_summary()
    sys.exit(bool(run.tally.failed))


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Create the folder `out` and lock it against other runs."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK_NAME, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise click.UsageError(f"another run uses {out}; wait for it, or choose another -o") from error
    except OSError as error:
        raise click.UsageError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
