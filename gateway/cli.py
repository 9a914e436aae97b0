"""The console command `gpen-gateway`."""

import logging.config
import sys

import click
from pydantic import ValidationError

from gateway import __version__
from gateway.app import create_app
from gateway.commands.checkpoints import models
from gateway.commands.configuration import exit_with_invalid_settings, exit_without_finder, load_settings
from gateway.commands.enhance import enhance, preprocess
from gateway.commands.evaluate import evaluate
from gateway.commands.keys import keys
from gateway.faces import make_finder
from gateway.service.keys import KeysUnusable, read_keys
from gateway.service.logs import build_log_config
from gateway.service.server import serve as run_server


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gpen-gateway")
def main() -> None:
    """Standardise portraits, restore their faces with GPEN, and serve both over HTTP."""


@main.command()
@click.option("--host", help="Address to listen on.  [GATEWAY_HOST, 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 chooses a free one.  [GATEWAY_PORT, 8000]"
)
def serve(host: str | None, port: int | None) -> None:
    """Serve the gateway. It runs a GPEN backend itself unless GATEWAY_BACKEND_URL is set."""
    settings = load_settings()
    given = {"host": host or settings.server.host, "port": settings.server.port if port is None else port}
    server = settings.server.model_copy(update=given)
    try:
        if settings.access.keys_file:
            # Checked before downloads that may take minutes.
            read_keys(settings.access.keys_file)
    except KeysUnusable as error:
        click.echo(f"gpen-gateway: GATEWAY_KEYS_FILE: {error}; see `gpen-gateway keys make`", err=True)
        sys.exit(2)
    logging.config.dictConfig(build_log_config(server.log_level, server.log_format))
    with exit_without_finder():
        # Made before the server starts, which would report a failure with a traceback.
        finder = make_finder(settings.faces.face_finder, settings.faces.models_dir)
    app = create_app(settings, finder=finder)
    run_server(app, server, keys=settings.access.keys_file is not None)


@main.command()
@click.option("--host", help="Address to listen on.  [GPEN_BACKEND_HOST, 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 chooses a free one.  [GPEN_BACKEND_PORT, 8001]"
)
def backend(host: str | None, port: int | None) -> None:
    """Serve only a GPEN backend, over the Open Inference Protocol v2."""
    from gateway.upstream.embedded_backend import serve_backend

    try:
        serve_backend(host, port)
    except ValidationError as error:
        exit_with_invalid_settings(error)


@main.command()
@click.option("--out", "folder", default="out/demo", show_default=True, help="Folder for the pictures.")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False),
    help="Your own photo instead of the built-in one.",
)
def demo(folder: str, image: str | None) -> None:
    """Start a gateway, enhance a portrait over HTTP and save the pictures."""
    from gateway.commands.demo import run_demo

    run_demo(folder, image)


main.add_command(enhance)
main.add_command(preprocess)
main.add_command(evaluate)
main.add_command(models)
main.add_command(keys)
