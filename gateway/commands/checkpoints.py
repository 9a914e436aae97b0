"""`gpen-gateway models`: the checkpoints that this machine has, and could have."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import click
from pydantic import ValidationError
from tqdm import tqdm

from gateway.commands.misconfigured import refuse
from gpen_common.model_names import DEFAULT_RESTORER, ModelName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.upstream.embed import WeightStore
    from gpen_common.download import Progress

_NAMES = click.Choice(get_args(ModelName))


@click.group()
def models() -> None:
    """GPEN's checkpoints: list, pull, verify. They are kept in GPEN_MODELS_DIR."""


@models.command("list")
def list_models() -> None:
    """Every published checkpoint and how it stands here.

    missing: not here. partial: a download that broke off. present: here, not compared with anything yet.
    verified, broken: size and sha256 are, or are not, the published or recorded ones.
    """
    from gateway.upstream.embed import LICENCE, list_model_files

    store = _store(None)
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
@click.option("--url", help="Base address in place of the published ones.  [GPEN_MODELS_MIRROR]")
def pull(
    names: tuple[ModelName, ...], everything: bool, kind: Literal["pth", "onnx"], url: str | None
) -> None:
    """Fetch checkpoints; what broke off is taken up again. Without a name the default one."""
    from gateway.upstream.embed import LICENCE
    from gateway.upstream.embed import pull as pull_one

    store = _store(url)
    click.echo(LICENCE)
    failed = False
    for name in get_args(ModelName) if everything else names or (DEFAULT_RESTORER,):
        try:
            with _bar(name) as progress:
                found = pull_one(store, name, kind, progress)
            click.echo(f"{name}: {found.path}")
        except Exception as error:
            # Each model is fetched whatever became of the one before.
            click.echo(f"{name}: {error}", err=True)
            failed = True
    sys.exit(failed)


@models.command()
@click.argument("names", nargs=-1, type=_NAMES, metavar="[NAME]...")
@click.option(
    "--accept", is_flag=True, help="Trust files without a published checksum as they are now, if they work."
)
def verify(names: tuple[ModelName, ...], accept: bool) -> None:
    """Check checksums, load strictly and run each network on a fixed input; by default all that are here.

    The numbers can be compared with those of other people: the same sha256 is the same file, and mean and std
    of the output agree within 0.001 on any machine.
    """
    from gateway.upstream.embed import verify as verify_one

    store = _store(None)
    seen, failed = 0, False
    for name in names or get_args(ModelName):
        files = list(verify_one(store, name, accept=accept))
        seen += len(files)
        if names and not files:
            click.echo(f"{name}: no file of it is in {store.folder}", err=True)
            failed = True
        for file in files:
            click.echo(f"{name}: {file.file}\n  sha256  {file.sha256 or 'unknown'}")
            if file.check is not None:
                told = file.check
                click.echo(
                    f"  output  mean {told.mean:+.4f}  std {told.std:.4f}  from {told.lowest:.3f} to "
                    f"{told.highest:.3f}\n  pixels  sha256 {told.sha256}\n  time    {told.seconds:.1f} s"
                )
            for fault in file.faults:
                click.echo(f"  FAULT   {fault}", err=True)
            click.echo("  " + ("broken" if file.faults else "sound"))
            failed = failed or bool(file.faults)
    if not seen and not names:
        click.echo(f"{store.folder} holds no checkpoint; see `gpen-gateway models pull`", err=True)
        failed = True
    sys.exit(failed)


def _store(mirror: str | None) -> "WeightStore":
    """The folder of weights. Ends the command where a setting is wrong."""
    from gateway.upstream.embed import open_store

    try:
        return open_store(mirror)
    except ValidationError as error:
        refuse(error)


@contextmanager
def _bar(name: str) -> "Iterator[Progress]":
    """A progress bar on a terminal's stderr, from the first bytes on."""
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
