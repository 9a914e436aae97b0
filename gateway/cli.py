"""The console command, `gpen-gateway`."""

import logging.config
import sys

import click
from pydantic import ValidationError

from gateway import __version__
from gateway.app import create_app
from gateway.commands.checkpoints import models
from gateway.commands.enhance import enhance, preprocess
from gateway.commands.evaluate import evaluate
from gateway.commands.keys import keys
from gateway.commands.misconfigured import finder_or_exit, refuse, settings_or_exit
from gateway.faces import make_finder
from gateway.service.keys import KeysUnusable, read_keys
from gateway.service.logs import log_config
from gateway.service.server import serve as run_server


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gpen-gateway")
def main() -> None:
    """Standardise portraits, restore their faces with GPEN, serve it over HTTP."""


@main.command()
@click.option("--host", help="Address to listen on.  [GATEWAY_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [GATEWAY_PORT, 8000]")
def serve(host: str | None, port: int | None) -> None:
    """Serve the gateway, with a GPEN backend inside unless GATEWAY_BACKEND_URL names one."""
    settings = settings_or_exit()
    given = {"host": host or settings.server.host, "port": settings.server.port if port is None else port}
    server = settings.server.model_copy(update=given)
    try:
        if settings.access.keys_file:
            # Before what may take minutes to fetch.
            read_keys(settings.access.keys_file)
    except KeysUnusable as error:
        click.echo(f"gpen-gateway: GATEWAY_KEYS_FILE: {error}; see `gpen-gateway keys make`", err=True)
        sys.exit(2)
    logging.config.dictConfig(log_config(server.log_level, server.log_format))
    with finder_or_exit():
        # Before the server starts, which would tell of a failure by a trace.
        finder = make_finder(settings.faces.face_finder, settings.faces.models_dir)
    app = create_app(settings, finder=finder)
    run_server(app, server, keys=settings.access.keys_file is not None)


@main.command()
@click.option("--host", help="Address to listen on.  [GPEN_BACKEND_HOST, 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [GPEN_BACKEND_PORT, 8001]"
)
def backend(host: str | None, port: int | None) -> None:
    """Serve a GPEN backend alone, over the Open Inference Protocol v2."""
    from gateway.upstream.embed import serve_backend

    try:
        serve_backend(host, port)
    except ValidationError as error:
        refuse(error)


@main.command()
@click.option("--out", "folder", default="out/demo", show_default=True, help="Folder for the pictures.")
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False), help="A photo of yours in place of ours."
)
def demo(folder: str, image: str | None) -> None:
    """Start a gateway, enhance a portrait over HTTP, and save what came of it."""
    from gateway.commands.demo import run_demo

    run_demo(folder, image)


main.add_command(enhance)
main.add_command(preprocess)
main.add_command(evaluate)
main.add_command(models)
main.add_command(keys)
