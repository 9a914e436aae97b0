"""Settings, from environment variables; read when the app is made, never at import.

One frozen group per concern. `docs/settings.md` is made from this file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    RedisDsn,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.faces.finder import FinderName
from gateway.imaging.photo import PixelLimits
from gateway.service.logs import LogFormat
from gateway.service.rates import RateText
from gpen_client.resilience import Resilience
from gpen_common.folders import cache_folder
from gpen_common.model_names import DEFAULT_RESTORER, RestorerName

Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]

# A caller who allows less cannot make the breaker open: ten seconds are ample for one face on two cores.
_FAIR_TIMEOUT_S = 10.0


def _listed(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )


class ServerSettings(_Group):
    """Where the gateway listens and how much it does at once."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    threads: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2), ge=1, le=256,
        description="Threads for pixel work; by default one per core, two at least.",
    )  # fmt: skip
    log_level: LogLevel = Field("info", description="`debug`, `info`, `warning` or `error`.")
    log_format: LogFormat = Field("text", description="`text`, or `json` for one object a line.")
    drain_s: float = Field(
        2.0, ge=0, le=600,
        description="Seconds after SIGTERM in which readiness is off and requests are still taken.",
    )  # fmt: skip
    grace_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds that requests in flight then have to finish."
    )
    cors_origins: _Names = Field(
        (), description="Origins, separated by commas, whose pages may call; `*` for any. Empty: none."
    )
    trusted_proxies: _Names = Field(
        (),
        description="Addresses or networks, separated by commas, of proxies in front of the gateway: their "
        "`X-Forwarded-For` tells who calls. Empty: nobody's does.",
    )


class LimitSettings(_Group):
    """What a request may cost. Checked before anything is allocated."""

    max_body_bytes: int = Field(50_000_000, ge=1, description="Bytes of a request's body.")
    max_pixels: int = Field(64_000_000, ge=1, description="Pixels of a picture, from its header.")
    upload_timeout_s: float = Field(60.0, gt=0, description="Seconds that a body may take to arrive.")
    workers: int = Field(16, ge=1, le=1024, description="Requests that are worked on at once.")
    queue: int = Field(64, ge=0, le=65536, description="Requests that wait for a worker; beyond them 429.")
    # OpenCV's warps index pixels with 16 bits.
    max_side: int = Field(32_000, ge=1, le=32_000, description="Pixels along one side of a picture.")

    @property
    def pixels(self) -> PixelLimits:
        """The limits that decoding needs."""
        return PixelLimits(max_pixels=self.max_pixels, max_side=self.max_side)


class BatchSettings(_Group):
    """Many pictures in one request."""

    batch_max_bytes: int = Field(
        2_000_000_000, ge=1,
        description="Bytes of a batch, and of what its archives unpack to. Each of its files may have "
        "GATEWAY_MAX_BODY_BYTES.",
    )  # fmt: skip
    batch_max_files: int = Field(1000, ge=1, le=100_000, description="Files of a batch.")
    batch_concurrency: int = Field(
        4, ge=1, le=1024, description="Files of one batch that are worked on at once, each by a worker."
    )
    batch_upload_timeout_s: float = Field(600.0, gt=0, description="Seconds that a batch may take to arrive.")
    batch_stall_s: float = Field(
        60.0, gt=0, description="Seconds that a batch's caller may read nothing before it is given up."
    )


class FaceSettings(_Group):
    """Finding faces."""

    face_finder: FinderName = Field(
        "auto",
        description="`fan`, `yunet`, `haar`, or `auto`: the best one whose files are here or come quickly.",
    )
    models_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda: cache_folder() / "models",
        validation_alias="GPEN_MODELS_DIR",
        description="Folder of all weights, the finders' and GPEN's.",
    )


class UpstreamSettings(_Group):
    """The GPEN backend."""

    backend_url: HttpUrl | None = Field(
        None, description="Base URL of a GPEN backend. Unset, the gateway runs one inside its own process."
    )
    connect_timeout_s: float = Field(
        2.0, gt=0, description="Seconds to wait for a connection to the backend."
    )
    timeout_s: float = Field(120.0, gt=0, description="Seconds that one restoration may take.")
    backend_attempts: int = Field(
        3, ge=1, le=10,
        description="Most tries of one restoration while the backend is away or busy; 1 never retries.",
    )  # fmt: skip
    retry_ratio: float = Field(
        0.2, ge=0, le=1,
        description="Retries per restoration that are allowed in the long run; ten more are in reserve.",
    )  # fmt: skip
    breaker_failures: int = Field(
        5, ge=1, description="Failures of the backend in a row after which restorations are refused at once."
    )
    breaker_cool_down_s: float = Field(
        5.0, gt=0, le=600, description="Seconds until one is then let through to see whether it is back."
    )
    default_model: RestorerName = Field(DEFAULT_RESTORER, description="The model of requests that name none.")

    @property
    def resilience(self) -> Resilience:
        """How the backend's client bears a bad backend."""
        return Resilience(
            attempts=self.backend_attempts,
            retry_ratio=self.retry_ratio,
            breaker_failures=self.breaker_failures,
            cool_down_s=self.breaker_cool_down_s,
            fair_timeout_s=min(_FAIR_TIMEOUT_S, self.timeout_s / 2),
        )


class CacheSettings(_Group):
    """Keeping results."""

    cache: Literal["on", "off"] = Field("on", description="`off` keeps nothing, anywhere.")
    cache_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda: cache_folder() / "results",
        description="Folder of kept results; `~/.cache/gpen-gateway/results` where nothing else is said.",
    )
    cache_memory_bytes: int = Field(256_000_000, ge=0, description="Bytes of results kept in memory.")
    cache_disk_bytes: int = Field(2_000_000_000, ge=0, description="Bytes of results kept in the folder.")
    cache_url: RedisDsn | None = Field(
        None, description="A Redis, such as `redis://host:6379/0`, that keeps results in place of the folder."
    )
    cache_ttl_s: int = Field(86_400, ge=1, description="Seconds that Redis keeps a result.")


class AccessSettings(_Group):
    """Who may call, and how often."""

    keys_file: Annotated[Path | None, AfterValidator(lambda path: path and path.expanduser())] = Field(
        None, description="File of API keys, which `gpen-gateway keys` makes. Unset: no key is asked for."
    )
    rate: RateText | None = Field(
        None,
        description="Requests that one key (one client address, where no keys are asked for) may send, such "
        "as `60/minute`. A key's own rate takes its place.",
    )
    concurrency: int | None = Field(
        None, ge=1, description="Requests that one key, or one client address, may have under way at once."
    )
    open_paths: _Names = Field(
        ("/", "/page/", "/healthz", "/readyz", "/docs", "/redoc", "/docs-files/", "/openapi.json"),
        description="Paths, separated by commas, that need no key and count for no rate; one that ends "
        "in `/` stands for all below it.",
    )


class FetchSettings(_Group):
    """Pictures that are fetched from a URL."""

    image_url: Literal["on", "off"] = Field(
        "off", description="`on`: a request may name its picture by `image_url`."
    )
    image_url_hosts: Annotated[_Names, AfterValidator(lambda names: tuple(map(str.lower, names)))] = Field(
        (),
        description="Hosts, separated by commas, that pictures may come from; `*.example.org` for all below "
        "example.org. Empty: any public one.",
    )
    image_url_http: Literal["on", "off"] = Field("off", description="`on`: `http://` counts, too.")
    image_url_ports: Annotated[tuple[Port, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (443, 80), description="Ports, separated by commas, that pictures may come from."
    )
    image_url_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Seconds that fetching a picture may take, redirects and all."
    )


class Settings(BaseModel):
    """All groups."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings = Field(default_factory=ServerSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    faces: FaceSettings = Field(default_factory=FaceSettings)
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    fetch: FetchSettings = Field(default_factory=FetchSettings)


GROUPS: tuple[type[BaseSettings], ...] = (
    ServerSettings,
    LimitSettings,
    BatchSettings,
    FaceSettings,
    UpstreamSettings,
    CacheSettings,
    AccessSettings,
    FetchSettings,
)
"""Every group, for the table in docs."""


def settings_table(groups: tuple[type[BaseSettings], ...]) -> str:
    """The Markdown table of every setting in `groups`: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for group in groups:
        prefix = group.model_config.get("env_prefix", "")
        for name, field in group.model_fields.items():
            variable = _variable(prefix, name, field.validation_alias)
            rows.append(f"| `{variable}` | {_default_text(field)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _variable(prefix: str, name: str, alias: Any) -> str:  # noqa: ANN401
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias or f"{prefix}{name}".upper())


def _default_text(field: Any) -> str:  # noqa: ANN401
    if field.default_factory is not None:
        return "computed"
    if isinstance(field.default, tuple):
        return f"`{','.join(map(str, field.default))}`" if field.default else "empty"
    return "unset" if field.default is None else f"`{field.default}`"
