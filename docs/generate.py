"""Write the generated tables in docs/ and openapi.json. `./run docs` runs it; a test compares the result.

A generated table is between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from gateway import errors
from gateway.app import create_app
from gateway.params import EnhanceParams
from gateway.settings import GROUPS, AccessSettings, FetchSettings, Settings
from gpen_backend.settings import BackendSettings
from gpen_backend.weights.catalog import KNOWN_MODELS

DOCS = Path(__file__).parent
_TABLE = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def update_tables(text: str) -> str:
    """Return `text` with every generated table replaced by its current version."""
    tables = {
        "gateway-settings": lambda: settings_table(GROUPS),
        "backend-settings": lambda: settings_table((BackendSettings,)),
        "checkpoints": checkpoints_table,
        "errors": errors_table,
        "parameters": lambda: parameters_table(EnhanceParams),
    }
    return _TABLE.sub(lambda match: match[1] + tables[match[2]]() + match[3], text)


def openapi_document() -> str:
    """Return the OpenAPI document of a gateway with default settings, as JSON."""
    unset = Settings(access=AccessSettings(keys_file=None), fetch=FetchSettings(image_url="off"))
    return json.dumps(create_app(unset).openapi(), indent=1, ensure_ascii=False) + "\n"


def settings_table(groups: Iterable[type[BaseSettings]]) -> str:
    """Return the Markdown table of every setting in `groups`."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for group in groups:
        prefix = group.model_config.get("env_prefix", "")
        for name, field in group.model_fields.items():
            variable = _setting_variable(prefix, name, field.validation_alias)
            rows.append(f"| `{variable}` | {_setting_default(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def checkpoints_table() -> str:
    """Return the table of published checkpoint files."""
    rows = ["| model | task | file | size | sha256 | from |", "| --- | --- | --- | --- | --- | --- |"]
    for model in KNOWN_MODELS.values():
        for file in (file for file in model.files if file.urls):
            names = ", ".join(f"`{name}`" for name in (file.name, *file.aliases))
            size = f"{file.size:,} B" if file.size else f"about {model.parameters * 4e-6:.0f} MB"
            links = ", ".join(f"[{urlsplit(url).hostname}]({url})" for url in file.urls)
            digest = f"`{file.sha256}`" if file.sha256 else "recorded at first use"
            rows.append(f"| `{model.name}` | {model.task} | {names} | {size} | {digest} | {links} |")
    return "\n".join(rows) + "\n"


def errors_table() -> str:
    """Return the table of problem types."""
    rows = ["| `type` | status | meaning |", "| --- | --- | --- |"]
    for kind in sorted(_subclasses(errors.GatewayError), key=lambda kind: (kind.status, kind.type)):
        rows.append(f"| `{kind.type}` | {kind.status} | {(kind.__doc__ or '').splitlines()[0]} |")
    return "\n".join(rows) + "\n"


def parameters_table(model: type[BaseModel]) -> str:
    """Return the table of a model's parameters."""
    rows = ["| parameter | values | default | meaning |", "| --- | --- | --- | --- |"]
    for name, schema in model.model_json_schema()["properties"].items():
        default = schema.get("default")
        default = str(default).lower() if isinstance(default, bool) else default
        shown = "" if default is None else f"`{default}`"
        rows.append(f"| `{name}` | {_values(schema)} | {shown} | {schema.get('description', '')} |")
    return "\n".join(rows) + "\n"


def _setting_variable(prefix: str, name: str, alias: object) -> str:
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias or f"{prefix}{name}".upper())


def _setting_default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "computed"
    if isinstance(field.default, tuple):
        return f"`{','.join(map(str, field.default))}`" if field.default else "empty"
    return "unset" if field.default is None else f"`{field.default}`"


def _values(schema: dict[str, object]) -> str:
    match schema:
        case {"enum": list(options)}:
            return " ".join(f"`{option}`" for option in options)
        case {"const": option}:
            return f"`{option}`"
        case {"anyOf": list(options)}:
            return " or ".join(_values(option) for option in options if option.get("type") != "null")
        case {"type": "boolean"}:
            return "`true` `false`"
        case {"minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"above {low}, up to {high}"
    return str(schema.get("type", ""))


def _subclasses(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    """Yield `kind` and its subclasses, except TryLater, which is only a base class."""
    if kind is not errors.TryLater:
        yield kind
    for below in kind.__subclasses__():
        yield from _subclasses(below)


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(update_tables(page.read_text()))
    (DOCS / "openapi.json").write_text(openapi_document())
