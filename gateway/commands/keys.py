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
    show_envvar=True, required=True, help="The keys file. `make` creates it.",
)  # fmt: skip


def _parse_bytes(text: str) -> int:
    """Parse `20MB` or `20000000` as 20,000,000."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError as error:
        raise click.BadParameter(f"{text!r} is not a size; write 20MB or 500kB") from error


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. A running gateway applies changes with its next request."""


@keys.command()
@click.argument("name")
@_FILE
@click.option("--rate", metavar="60/minute", help="Rate limit of this key; overrides GATEWAY_RATE.")
@click.option(
    "--concurrency", type=click.IntRange(1), help="Simultaneous requests; overrides GATEWAY_CONCURRENCY."
)
@click.option(
    "--max-body",
    type=_parse_bytes,
    metavar="20MB",
    help="Maximum size of a request, up to the gateway's own limit.",
)
def make(name: str, path: Path, rate: str | None, concurrency: int | None, max_body: int | None) -> None:
    """Make a key for NAME and print it once. The file stores only its hash."""
    with _exit_on_error():
        key = make_key(path, name, rate=rate, concurrency=concurrency, max_body_bytes=max_body)
    click.echo(f"the key for {name}, shown only once; send it as `Authorization: Bearer KEY`:", err=True)
    click.echo(key)


@keys.command("list")
@_FILE
def list_keys(path: Path) -> None:
    """List all keys with their limits and revocation dates."""
    with _exit_on_error():
        records = read_keys(path)
    row = "{:<14}{:<24}{:<12}{:<12}{:>12}{:>9}{:>14}"
    click.echo(row.format("id", "name", "created", "revoked", "rate", "at once", "max body"))
    for record in records:
        revoked = f"{record.revoked:%Y-%m-%d}" if record.revoked else "-"
        once, size = record.concurrency or "-", record.max_body_bytes or "-"
        made = f"{record.created:%Y-%m-%d}"
        click.echo(row.format(record.id, record.name, made, revoked, record.rate or "-", once, size))


@keys.command()
@click.argument("key_id", metavar="ID")
@_FILE
def revoke(key_id: str, path: Path) -> None:
    """Revoke the key with ID. Its record stays in the file."""
    with _exit_on_error():
        record = revoke_key(path, key_id)
    click.echo(f"{record.id} ({record.name}) has been revoked since {record.revoked:%Y-%m-%d %H:%M:%S} UTC")


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Exit with a message if the block raises one of the errors of keys."""
    try:
        yield
    except ValidationError as error:
        for wrong in error.errors(include_url=False):
            click.echo(f"gpen-gateway: {wrong['loc'][0]} is not valid: {wrong['msg']}", err=True)
        sys.exit(2)
    except (KeysUnusable, UnknownKey, OSError) as error:
        click.echo(f"gpen-gateway: {error}", err=True)
        sys.exit(2)
