"""The command-line options of `enhance` and `preprocess`, and those that they share with `evaluate`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from gateway.gateway_client import open_embedded, open_url
from gateway.settings import Settings

Command = TypeVar("Command", bound=Callable[..., None])

_CONNECTION = [
    click.option("--url", envvar="GPEN_GATEWAY_URL",
                 help="URL of a gateway. Default: run one in this process.  [GPEN_GATEWAY_URL]"),
    click.option("--api-key", envvar="GPEN_GATEWAY_KEY",
                 help="API key for --url; prefer the environment variable.  [GPEN_GATEWAY_KEY]"),
    click.option("--patience", "patience_s", type=click.FloatRange(0), default=300.0, show_default=True,
                 help="Seconds to retry while the gateway is busy or unreachable."),
]  # fmt: skip
_PICTURES = [
    click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
    click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path),
                 help="Folder for the results. It mirrors the folders of the inputs."),
    click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True,
                 help="Pictures in progress at once."),
    click.option("--param", "params", multiple=True, metavar="NAME=VALUE",
                 help="Any other parameter of the route; repeatable. docs/api.md lists them."),
    click.option("--framing", help="article or face."),
    click.option("--format", help="png, jpeg or webp. Default: the input's format, or png."),
    click.option("--force", is_flag=True, help="Process every picture again and overwrite existing files."),
    click.option("--dry-run", is_flag=True, help="List what would be done and why; write nothing."),
    click.option("--report", type=click.Path(dir_okay=False, path_type=Path),
                 help="Write one JSON line per picture to this file."),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class EnhanceOptions:
    """The options of one run. fields: parameters as strings."""

    paths: tuple[str, ...]
    out: Path
    url: str | None
    api_key: str | None
    concurrency: int
    patience_s: float
    force: bool
    dry_run: bool
    report: Path | None
    fields: dict[str, str]


def add_connection_options(command: Command) -> Command:
    """Add the options that choose a gateway."""
    return _add(_CONNECTION, command)


def add_picture_options(command: Command) -> Command:
    """Add the options that `enhance` and `preprocess` share."""
    return _add(_PICTURES, add_connection_options(command))


def parse_options(
    params: tuple[str, ...], options: dict[str, Any], parameter_names: tuple[str, ...]
) -> EnhanceOptions:
    """Collect --param and the options in `parameter_names` into `fields`. Raises UsageError."""
    fields = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals:
            raise click.UsageError(f"--param {param}: write it as NAME=VALUE")
        fields[name.strip()] = value.strip()
    named = {name: options.pop(name) for name in parameter_names}
    fields.update({name: value for name, value in named.items() if value is not None})
    return EnhanceOptions(**options, fields=fields)


def open_gateway(
    url: str | None, api_key: str | None, load_settings: Callable[[], Settings]
) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """Open the gateway at `url`; without a URL an embedded one, for which the settings are loaded."""
    return open_url(url, api_key) if url else open_embedded(load_settings())


def _add(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
