"""The backend's settings, read from the environment when created, not at import."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpen_backend.engines import onnx
from gpen_backend.hardware.processors import usable_processors
from gpen_backend.weights.catalog import RESTORERS
from gpen_common.folders import models_folder

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
        description="Engine: `torch` for `.pth` checkpoints, `onnx` for exports, `classical` without any, or "
        "`auto`: an installed checkpoint, else a downloaded one, else classical. The others never fall back.",
    )
    device: DeviceChoice = Field(
        "auto", description="Device of `torch`: `cpu`, `cuda`, or `auto`: a GPU if there is one."
    )
    dtype: DtypeChoice = Field(
        "auto",
        description="Number format of `torch`'s convolutions: `float32`, `bfloat16`, or `auto`: bfloat16 if "
        "the processor or GPU supports it in hardware.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8001, ge=0, le=65535, description="Port to listen on; 0 chooses a free one.")
    threads: int = Field(
        default_factory=usable_processors, ge=1, le=256, description="Threads for pixel work."
    )
    max_queue: int = Field(64, ge=1, description="Maximum requests, queued or running; others get 429.")
    max_faces_waiting: int = Field(
        256, ge=1,
        description="Maximum faces of all requests in the network's queue; further requests get 429.",
    )  # fmt: skip
    max_wait_ms: float = Field(
        5.0, ge=0, le=1000,
        description="Maximum milliseconds that a face waits for others to fill a batch. No face waits "
        "if the network is not faster in batches, as on a CPU.",
    )  # fmt: skip
    max_pixels: int = Field(64_000_000, ge=1, description="Maximum pixels of a picture, after enlarging.")
    max_body_bytes: int = Field(192 * 2**20, ge=1, description="Maximum bytes of a request body.")
    max_faces: int = Field(64, ge=1, description="Maximum number of faces in a picture.")
    default_model: str | None = Field(
        None, description="Model loaded at start; by default gpen-bfr-512, else the first installed."
    )
    fetch: bool = Field(
        True,
        description="Whether `auto` downloads a missing checkpoint of the default model. The server is not "
        "ready until the download is complete.",
    )
    models_mirror: str | None = Field(
        None,
        validation_alias=AliasChoices("GPEN_MODELS_MIRROR", "GPEN_BACKEND_MODELS_MIRROR"),
        description="Base URL from which to download checkpoints instead of the published ones.",
    )
    models_dir: Path = Field(
        default_factory=models_folder,
        validation_alias=AliasChoices("GPEN_MODELS_DIR", "GPEN_BACKEND_MODELS_DIR"),
        description="Folder with the checkpoints.",
    )

    @field_validator("engine")
    @classmethod
    def _require_onnxruntime(cls, engine: EngineChoice) -> EngineChoice:
        if engine == "onnx" and not onnx.is_available():
            raise ValueError("ONNX Runtime is not installed: pip install 'gpen-gateway[onnx]'")
        return engine

    @field_validator("models_mirror")
    @classmethod
    def _require_url(cls, mirror: str | None) -> str | None:
        if mirror is not None and not mirror.startswith(("http://", "https://")):
            raise ValueError("must be a URL that starts with http:// or https://")
        return mirror

    @field_validator("default_model")
    @classmethod
    def _require_restorer(cls, name: str | None) -> str | None:
        if name is not None and name not in RESTORERS:
            raise ValueError(f"must be one of {', '.join(RESTORERS)}")
        return name

    @field_validator("models_dir")
    @classmethod
    def _expand_user(cls, path: Path) -> Path:
        return path.expanduser()
