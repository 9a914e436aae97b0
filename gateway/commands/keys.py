"""`gpen-gateway keys`: make, list and revoke API keys."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

from gateway.service.keys import KeysUnusable, UnknownKey, make_key, read_keys, revoke_key

_FILE = click.option(
    "--file", "path", type=click.Path(dir_okay=False, path_type=Path), envvar="GATEWAY_KEYS_FILE",
    show_envvar=True, required=True, help="The keys file; `make` makes it.",
)  # fmt: skip


def _bytes(text: str) -> int:
    """`20MB` or `20000000` as 20,000,000."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise click.BadParameter(f"{text!r} is no size; write 20MB or 500kB") from error


@click.group()
def keys() -> None:
    """API keys: make, list, revoke. A running gateway sees every change at its next request."""


@keys.command()
@click.argument("name")
@_FILE
@click.option("--rate", metavar="60/minute", help="Requests in a time, in place of GATEWAY_RATE.")
@click.option(
    "--concurrency", type=click.IntRange(1), help="Requests at once, in place of GATEWAY_CONCURRENCY."
)
@click.option("--max-body", type=_bytes, metavar="20MB", help="Size of a request, at most the gateway's own.")
def make(name: str, path: Path, rate: str | None, concurrency: int | None, max_body: int | None) -> None:
    """Make a key for NAME and print it, this once: the file keeps only its hash."""
    with _explained():
        key = make_key(path, name, rate=rate, concurrency=concurrency, max_body_bytes=max_body)
    click.echo(f"a key for {name}, shown only now; send it as `Authorization: Bearer KEY`:", err=True)
    click.echo(key)


@keys.command("list")
@_FILE
def list_keys(path: Path) -> None:
    """Every key's record: its id, its limits, whether it is in force."""
    with _explained():
        records = read_keys(path)
    row = "{:<14}{:<24}{:<12}{:<12}{:>12}{:>6}{:>14}"
    click.echo(row.format("id", "name", "created", "revoked", "rate", "once", "max body"))
    for record in records:
        revoked = f"{record.revoked:%Y-%m-%d}" if record.revoked else "-"
        once, size = record.concurrency or "-", record.max_body_bytes or "-"
        made = f"{record.created:%Y-%m-%d}"
        click.echo(row.format(record.id, record.name, made, revoked, record.rate or "-", once, size))


@keys.command()
@click.argument("key_id", metavar="ID")
@_FILE
def revoke(key_id: str, path: Path) -> None:
    """Take the key with ID out of force. Its record stays, and says since when."""
    with _explained():
        record = revoke_key(path, key_id)
    click.echo(f"{record.id} ({record.name}) is revoked since {record.revoked:%Y-%m-%d %H:%M:%S} UTC")


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the command with a line that says what was wrong."""
    try:
        yield
    except ValidationError as error:
        for wrong in error.errors(include_url=False):
            click.echo(f"gpen-gateway: {wrong['loc'][0]} is not valid: {wrong['msg']}", err=True)
        sys.exit(2)
    except (KeysUnusable, UnknownKey, OSError) as error:
        click.echo(f"gpen-gateway: {error}", err=True)
        sys.exit(2)
