"""The backend's settings, from the environment. Nothing is read at import."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpen_backend.engines import onnx
from gpen_backend.hardware.processors import usable_processors
from gpen_backend.weights.catalog import RESTORERS
from gpen_common.folders import cache_folder

EngineChoice = Literal["auto", "torch", "onnx", "classical"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
DtypeChoice = Literal["auto", "float32", "bfloat16"]


class BackendSettings(BaseSettings):
    """Settings of one GPEN backend. Each is the environment variable GPEN_BACKEND_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="GPEN_BACKEND_", env_ignore_empty=True, frozen=True, populate_by_name=True, extra="forbid"
    )

    engine: EngineChoice = Field(
        "auto",
        description="What runs the models: `torch` with `.pth` checkpoints, `onnx` with exports, `classical` "
        "without a network, or `auto`: a checkpoint that is here, else one that is fetched, else classical. "
        "A named engine never falls back to another.",
    )
    device: DeviceChoice = Field(
        "auto", description="What `torch` runs on: `cpu`, `cuda`, or `auto`: a GPU where there is one."
    )
    dtype: DtypeChoice = Field(
        "auto",
        description="Numbers of `torch`'s convolutions: `float32`, `bfloat16`, or `auto`: bfloat16 where the "
        "processor or GPU computes with it by itself.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    threads: int = Field(
        default_factory=usable_processors, ge=1, le=256, description="Threads for pixel work."
    )
    max_queue: int = Field(64, ge=1, description="Most requests taken on at once; others get 429.")
    max_faces_waiting: int = Field(
        256, ge=1,
        description="Most faces that wait for the network, of all requests; others get 429.",
    )  # fmt: skip
    max_wait_ms: float = Field(
        5.0, ge=0, le=1000,
        description="Milliseconds that a face waits for others to share its run, at most. Where the network "
        "is no faster with several, as on a CPU, none waits.",
    )  # fmt: skip
    max_pixels: int = Field(64_000_000, ge=1, description="Most pixels of a picture, enlarged.")
    max_body_bytes: int = Field(192 * 2**20, ge=1, description="Most bytes of a request's body.")
    max_faces: int = Field(64, ge=1, description="Most faces of a picture.")
    default_model: str | None = Field(
        None, description="Model loaded at start; without it gpen-bfr-512, or else the first that is there."
    )
    fetch: bool = Field(
        True,
        description="Whether `auto` fetches the default model's checkpoint where there is none. The server "
        "is not ready meanwhile.",
    )
    models_mirror: str | None = Field(
        None,
        validation_alias=AliasChoices("GPEN_MODELS_MIRROR", "GPEN_BACKEND_MODELS_MIRROR"),
        description="Base address to fetch checkpoints from in place of the published ones.",
    )
    models_dir: Path = Field(
        default_factory=lambda: cache_folder() / "models",
        validation_alias=AliasChoices("GPEN_MODELS_DIR", "GPEN_BACKEND_MODELS_DIR"),
        description="Folder with the checkpoints.",
    )

    @field_validator("engine")
    @classmethod
    def _runs_here(cls, engine: EngineChoice) -> EngineChoice:
        if engine == "onnx" and not onnx.available():
            raise ValueError("ONNX Runtime is not installed: pip install 'gpen-gateway[onnx]'")
        return engine

    @field_validator("models_mirror")
    @classmethod
    def _is_an_address(cls, mirror: str | None) -> str | None:
        if mirror is not None and not mirror.startswith(("http://", "https://")):
            raise ValueError("an address that starts with http:// or https:// is needed")
        return mirror

    @field_validator("default_model")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in RESTORERS:
            raise ValueError(f"no such model that restores; choose one of {', '.join(RESTORERS)}")
        return name

    @field_validator("models_dir")
    @classmethod
    def _is_expanded(cls, path: Path) -> Path:
        return path.expanduser()
