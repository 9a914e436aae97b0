"""Settings from environment variables, read when the app is created, never at import.

One frozen group per concern. The tables in `docs/settings.md` are generated from this file.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    RedisDsn,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.faces.finder import FinderName
from gateway.imaging.decoder import PixelLimits
from gateway.service.logs import LogFormat
from gateway.service.rates import RateText
from gpen_client.resilience import Resilience
from gpen_common.folders import cache_folder, models_folder
from gpen_common.model_names import DEFAULT_RESTORER, RestorerName

Port = Annotated[int, Field(ge=1, le=65535)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]

# Only timeouts of requests that allowed at least this long count for the breaker, so that short deadlines
# cannot open it. Ten seconds are ample for one face on two cores.
_FAIR_TIMEOUT_S = 10.0


def _split_list(value: object) -> object:
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_list)]


class _Group(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )


class ServerSettings(_Group):
    """Address, threads, logging, shutdown and browser access."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on. `0` chooses a free port.")
    threads: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 2),
        ge=1,
        le=256,
        description="Threads for image processing. Default: one per core, at least two.",
    )
    log_level: LogLevel = Field("info", description="Log level: `debug`, `info`, `warning` or `error`.")
    log_format: LogFormat = Field("text", description="`text`, or `json` with one object per line.")
    drain_s: float = Field(
        2.0,
        ge=0,
        le=600,
        description="Seconds after SIGTERM in which `/readyz` fails but requests are accepted.",
    )
    grace_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds after `GATEWAY_DRAIN_S` in which open requests may finish."
    )
    cors_origins: _Names = Field(
        (), description="Comma-separated origins of web pages that may call; `*`: any. Empty: none."
    )
    trusted_proxies: _Names = Field(
        (),
        description="Comma-separated addresses or networks of proxies whose `X-Forwarded-For` states the "
        "client's address. Empty: the header is ignored.",
    )


class LimitSettings(_Group):
    """Limits on bodies, pictures and concurrent requests."""

    max_body_bytes: int = Field(50_000_000, ge=1, description="Maximum bytes of a request body.")
    max_pixels: int = Field(
        64_000_000, ge=1, description="Maximum pixels of a picture, checked in its header."
    )
    upload_timeout_s: float = Field(60.0, gt=0, description="Seconds for a request body to arrive.")
    workers: int = Field(16, ge=1, le=1024, description="Requests processed at once.")
    queue: int = Field(64, ge=0, le=65536, description="Requests that wait for a worker; more get 429.")
    # OpenCV's warps index pixels with 16 bits.
    max_side: int = Field(32_000, ge=1, le=32_000, description="Maximum width and height of a picture.")

    @property
    def pixels(self) -> PixelLimits:
        """The limits for decoding."""
        return PixelLimits(max_pixels=self.max_pixels, max_side=self.max_side)


class BatchSettings(_Group):
    """Batch requests."""

    batch_max_bytes: int = Field(
        2_000_000_000,
        ge=1,
        description="Maximum bytes of a batch, and of its unpacked archives. Each file may have up to "
        "`GATEWAY_MAX_BODY_BYTES`.",
    )
    batch_max_files: int = Field(1000, ge=1, le=100_000, description="Maximum number of files in a batch.")
    batch_concurrency: int = Field(
        4, ge=1, le=1024, description="Files of a batch processed at once; each occupies a worker."
    )
    batch_upload_timeout_s: float = Field(600.0, gt=0, description="Seconds for a batch to arrive.")
    batch_stall_s: float = Field(
        60.0, gt=0, description="Seconds a client may stop reading before its batch is cancelled."
    )


class FaceSettings(_Group):
    """Face detection."""

    face_finder: FinderName = Field(
        "auto",
        description="Face finder: `fan`, `yunet`, `haar`, or `auto` for the best one whose model files are "
        "present or download quickly.",
    )
    models_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=models_folder,
        validation_alias="GPEN_MODELS_DIR",
        description="Folder of the face finders' models and GPEN's checkpoints. Default: "
        "`~/.cache/gpen-gateway/models`.",
    )


class UpstreamSettings(_Group):
    """Connection to the GPEN backend."""

    backend_url: HttpUrl | None = Field(
        None, description="Base URL of a GPEN backend. Unset: the gateway runs one in its own process."
    )
    connect_timeout_s: float = Field(2.0, gt=0, description="Seconds to connect to the backend.")
    timeout_s: float = Field(120.0, gt=0, description="Timeout of one restoration, in seconds.")
    backend_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="Attempts per restoration while the backend is unreachable or busy; 1: no retries.",
    )
    retry_ratio: float = Field(
        0.2, ge=0, le=1, description="Retries per restoration in the long run, plus a reserve of ten."
    )
    breaker_failures: int = Field(
        5, ge=1, description="Consecutive backend failures that open the circuit breaker."
    )
    breaker_cool_down_s: float = Field(
        5.0, gt=0, le=600, description="Seconds until an open breaker lets a probe request through."
    )
    default_model: RestorerName = Field(DEFAULT_RESTORER, description="Model of requests without `model`.")

    @property
    def resilience(self) -> Resilience:
        """Retry and circuit-breaker settings."""
        return Resilience(
            attempts=self.backend_attempts,
            retry_ratio=self.retry_ratio,
            breaker_failures=self.breaker_failures,
            cool_down_s=self.breaker_cool_down_s,
            fair_timeout_s=min(_FAIR_TIMEOUT_S, self.timeout_s / 2),
        )


class CacheSettings(_Group):
    """Cache of results."""

    cache: Literal["on", "off"] = Field("on", description="`on` or `off`. `off` disables every cache tier.")
    cache_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda: cache_folder() / "results",
        description="Folder of the disk cache. Default: `~/.cache/gpen-gateway/results`.",
    )
    cache_memory_bytes: int = Field(256_000_000, ge=0, description="Maximum bytes of the memory cache.")
    cache_disk_bytes: int = Field(2_000_000_000, ge=0, description="Maximum bytes of the disk cache.")
    cache_url: RedisDsn | None = Field(
        None, description="Redis used instead of the disk cache, such as `redis://host:6379/0`."
    )
    cache_ttl_s: int = Field(86_400, ge=1, description="Seconds that Redis keeps a result.")


class AccessSettings(_Group):
    """API keys and rate limits."""

    keys_file: Annotated[Path | None, AfterValidator(lambda path: path and path.expanduser())] = Field(
        None, description="File of API keys, managed by `gpen-gateway keys`. Unset: no key is required."
    )
    rate: RateText | None = Field(
        None,
        description="Rate limit per API key, or per client address without keys, such as `60/minute`. The "
        "rate of a key overrides it.",
    )
    concurrency: int | None = Field(
        None, ge=1, description="Simultaneous requests per API key, or per client address without keys."
    )
    open_paths: _Names = Field(
        ("/", "/page/", "/healthz", "/readyz", "/docs", "/redoc", "/docs-files/", "/openapi.json"),
        description="Comma-separated paths that need no API key and have no rate limit. A path that ends "
        "in `/` includes everything below it.",
    )


class FetchSettings(_Group):
    """Pictures fetched from a URL."""

    image_url: Literal["on", "off"] = Field(
        "off", description="`on`: accept `image_url` instead of a picture."
    )
    image_url_hosts: Annotated[_Names, AfterValidator(lambda names: tuple(map(str.lower, names)))] = Field(
        (),
        description="Comma-separated hosts that pictures may be fetched from. `*.example.org` matches all "
        "subdomains. Empty: any public host.",
    )
    image_url_http: Literal["on", "off"] = Field(
        "off", description="`on`: allow `http://` as well as `https://`."
    )
    image_url_ports: Annotated[tuple[Port, ...], NoDecode, BeforeValidator(_split_list)] = Field(
        (443, 80), description="Comma-separated ports that pictures may be fetched from."
    )
    image_url_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Seconds to fetch a picture, including redirects."
    )


class Settings(BaseModel):
    """All groups of settings."""

    model_config = ConfigDict(frozen=True)

    server: ServerSettings = Field(default_factory=ServerSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    faces: FaceSettings = Field(default_factory=FaceSettings)
    upstream: UpstreamSettings = Field(default_factory=UpstreamSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    fetch: FetchSettings = Field(default_factory=FetchSettings)


GROUPS = tuple(field.annotation for field in Settings.model_fields.values() if field.annotation)
"""Every group, in the order of the documentation."""
