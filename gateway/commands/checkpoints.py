"""`gpen-gateway models`: list, pull and verify checkpoints."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import click
from pydantic import ValidationError
from tqdm import tqdm

from gateway.commands.configuration import exit_with_invalid_settings
from gpen_common.model_names import DEFAULT_RESTORER, ModelName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.upstream.embedded_backend import WeightStore
    from gpen_common.download import Progress

_NAMES = click.Choice(get_args(ModelName))


@click.group()
def models() -> None:
    """List, pull and verify GPEN's checkpoints in GPEN_MODELS_DIR."""


@models.command("list")
def list_models() -> None:
    """List every published checkpoint and its state.

    missing: no file. partial: an incomplete download. present: a file that was not verified yet. verified,
    broken: size and sha256 match, or do not match, the published or recorded ones.
    """
    from gateway.upstream.embedded_backend import LICENCE, list_model_files

    store = _open_store(None)
    click.echo(f"folder: {store.folder}\n{LICENCE}\n")
    row = "{:<24}{:<10}{:>6}  {:<28}{:>10}  {}"
    click.echo(row.format("model", "task", "px", "file", "size", "state"))
    for entry in list_model_files(store):
        state: str = entry.state
        if entry.state == "partial" and entry.size:
            state = f"partial, {100 * entry.received // entry.size} %"
        size = f"{entry.size / 1e6:.1f} MB" if entry.size else "unknown"
        click.echo(row.format(entry.model, entry.task, entry.side, entry.file, size, state))


@models.command()
@click.argument("names", nargs=-1, type=_NAMES, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every model.")
@click.option(
    "--format", "kind", type=click.Choice(["pth", "onnx"]), default="pth", show_default=True,
    help="pth for the torch engine, onnx for ONNX Runtime.",
)  # fmt: skip
@click.option("--url", help="Base URL of a mirror.  [GPEN_MODELS_MIRROR]")
def pull(
    names: tuple[ModelName, ...], everything: bool, kind: Literal["pth", "onnx"], url: str | None
) -> None:
    """Download checkpoints; default gpen-bfr-512. An incomplete download resumes."""
    from gateway.upstream.embedded_backend import LICENCE
    from gateway.upstream.embedded_backend import pull as pull_one

    store = _open_store(url)
    click.echo(LICENCE)
    failed = False
    for name in get_args(ModelName) if everything else names or (DEFAULT_RESTORER,):
        try:
            with _show_progress(name) as progress:
                found = pull_one(store, name, kind, progress)
            click.echo(f"{name}: {found.path}")
        except Exception as error:
            # A failure does not keep the other models from being downloaded.
            click.echo(f"{name}: {error}", err=True)
            failed = True
    sys.exit(failed)


@models.command()
@click.argument("names", nargs=-1, type=_NAMES, metavar="[NAME]...")
@click.option(
    "--accept", is_flag=True, help="Record the checksums of files that have no published one, if they work."
)
def verify(names: tuple[ModelName, ...], accept: bool) -> None:
    """Check checksums, load checkpoints strictly and run each network on a fixed input. Default: all files.

    The numbers are comparable between machines: the same sha256 is the same file, and mean and std of the
    output agree within 0.001.
    """
    from gateway.upstream.embedded_backend import verify as verify_one

    store = _open_store(None)
    seen, failed = 0, False
    for name in names or get_args(ModelName):
        files = list(verify_one(store, name, accept=accept))
        seen += len(files)
        if names and not files:
            click.echo(
                f"{name}: {store.folder} has no file of this model; see `gpen-gateway models pull`", err=True
            )
            failed = True
        for file in files:
            click.echo(f"{name}: {file.file}\n  sha256  {file.sha256 or 'unknown'}")
            if file.check is not None:
                check = file.check
                click.echo(
                    f"  output  mean {check.mean:+.4f}  std {check.std:.4f}  from {check.lowest:.3f} to "
                    f"{check.highest:.3f}\n  pixels  sha256 {check.sha256}\n  time    {check.seconds:.1f} s"
                )
            for fault in file.faults:
                click.echo(f"  FAULT   {fault}", err=True)
            click.echo("  " + ("broken" if file.faults else "sound"))
            failed = failed or bool(file.faults)
    if not seen and not names:
        click.echo(f"{store.folder} has no checkpoints; see `gpen-gateway models pull`", err=True)
        failed = True
    sys.exit(failed)


def _open_store(mirror: str | None) -> "WeightStore":
    """Open the folder of weights. Exits if a setting is invalid."""
    from gateway.upstream.embedded_backend import open_store

    try:
        return open_store(mirror)
    except ValidationError as error:
        exit_with_invalid_settings(error)


@contextmanager
def _show_progress(name: str) -> "Iterator[Progress]":
    """Show a progress bar on a terminal's stderr from the first bytes on."""
    bars: list[tqdm] = []

    def progress(received: int, total: int | None) -> None:
        if not bars:
            bars.append(
                tqdm(desc=name, total=total, initial=received, unit="B", unit_scale=True, disable=None)
            )
        bar = bars[0]
        bar.total = total
        bar.update(received - bar.n)

    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()
