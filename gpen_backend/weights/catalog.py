"""The published GPEN checkpoints: their tasks, their shapes and the addresses of their files. Torch-free.

Sources: the model zoo of GPEN's README, the release pages of the exports, and public code that downloads the
files, which gives their names, addresses, sizes and checksums. No file could be downloaded when this was
written. It is not confirmed that the bucket of the `.pth` files holds those for 1024 and 2048 px, so
ModelScope is tried first for these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from gpen_common.download import RemoteFile
from gpen_common.types import Task

Format: TypeAlias = Literal["pth", "onnx"]
"""`pth`: a torch checkpoint, for the torch engine. `onnx`: an export, for ONNX Runtime."""

LICENCE = (
    "GPEN's authors released code and weights for academic and non-commercial use; in 2026 they removed "
    "that line from their repository without a replacement. Check yourself whether your use is allowed."
)
"""Notice about the licence, shown with every download of a checkpoint."""

_ALIYUN = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/"
_MODELSCOPE = "https://www.modelscope.cn/models/iic/cv_gpen_image-portrait-enhancement-hires/resolve/master/"
_FACEFUSION = "https://github.com/facefusion/facefusion-assets/releases/download/models-3.0.0/"
# The tag is "Models": the tag "GPEN-BFR", which some programs use, does not exist.
_HARISREEDHAR = "https://github.com/harisreedhar/Face-Upscalers-ONNX/releases/download/Models/"

# A checkpoint holds its weights in float32 and their names; no published one can be larger than twice that.
_BYTES_PER_PARAMETER, _SLACK, _NAMES = 4, 2, 64 << 20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that holds a model's weights.

    name: on disk. aliases: other common names. urls: where it is published, in the order to try; empty for
    the user's own export. size: bytes. sha256: hex digest. Both are None if not published.
    """

    name: str
    format: Format
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One GPEN checkpoint.

    name: as in `/v2/models/{name}`. task: what it was trained for. size: side of the network's input and
    output, px. channel_multiplier, narrow: widths of its layers. parameters: number of weights.
    files: that can hold its weights, the preferred one of each format first.
    """

    name: str
    task: Task
    size: int
    channel_multiplier: int
    narrow: float
    parameters: int
    files: tuple[ModelFile, ...]

    def published_as(self, kind: Format) -> ModelFile | None:
        """The published file of a format, None if there is none."""
        return next((file for file in self.files if file.format == kind and file.urls), None)

    def remote(self, file: ModelFile, mirror: str | None = None) -> RemoteFile:
        """Describe the download of one of `files`. mirror: base address that replaces the published ones."""
        urls = file.urls if mirror is None else (f"{mirror.rstrip('/')}/{file.name}",)
        max_bytes = file.size or self.parameters * _BYTES_PER_PARAMETER * _SLACK + _NAMES
        return RemoteFile(file.name, urls, file.sha256, file.size, max_bytes)


def _own(model: str) -> ModelFile:
    """The user's own export of a model."""
    return ModelFile(f"{model}-own.onnx", "onnx")


_MODELS = (
    KnownModel(
        "gpen-bfr-256", "restore", 256, 1, 0.5, 18_879_010,
        (
            ModelFile(
                "GPEN-BFR-256.pth", "pth", (f"{_ALIYUN}GPEN-BFR-256.pth",), aliases=("gpen-bfr-256.pth",)
            ),
            _own("gpen-bfr-256"),
            ModelFile(
                "GPEN-BFR-256.onnx", "onnx", (f"{_HARISREEDHAR}GPEN-BFR-256.onnx",), 75_715_262,
                "aa5bd3ab238640a378c59e4a560f7a7150627944cf2129e6311ae4720e833271",
            ),
        ),
    ),
    KnownModel(
        "gpen-bfr-512", "restore", 512, 2, 1, 71_005_223,
        (
            ModelFile(
                "GPEN-BFR-512.pth", "pth", (f"{_ALIYUN}GPEN-BFR-512.pth",), aliases=("gpen-bfr-512.pth",)
            ),
            _own("gpen-bfr-512"),
            ModelFile(
                "gpen_bfr_512.onnx", "onnx", (f"{_FACEFUSION}gpen_bfr_512.onnx",), 284_340_240,
                "d5f066b9068a8b74217f9712e28e875a6144629b108a6f7355acbdb3a2832c54",
            ),
            ModelFile(
                "GPEN-BFR-512.onnx", "onnx", (f"{_HARISREEDHAR}GPEN-BFR-512.onnx",), 284_244_491,
                "bf80acb8e91ba8852e3f012505be2c3b6cd6b3eed5ec605e3db87863c4e74d4e",
            ),
        ),
    ),
    KnownModel(
        "gpen-bfr-1024", "restore", 1024, 2, 1, 71_210_540,
        (
            ModelFile(
                "GPEN-BFR-1024.pth", "pth", (f"{_MODELSCOPE}pytorch_model.pt", f"{_ALIYUN}GPEN-BFR-1024.pth"),
                aliases=("gpen-bfr-1024.pth", "pytorch_model.pt"),
            ),
            _own("gpen-bfr-1024"),
            ModelFile(
                "gpen_bfr_1024.onnx", "onnx", (f"{_FACEFUSION}gpen_bfr_1024.onnx",), 285_203_703,
                "bcd31aa52110a2005efc96abbab4546d57e42482648f08715b552423d96b381b",
            ),
        ),
    ),
    KnownModel(
        "gpen-bfr-2048", "restore", 2048, 2, 1, 71_294_769,
        (
            ModelFile(
                "GPEN-BFR-2048.pth", "pth",
                (f"{_MODELSCOPE}pytorch_model-2048.pt", f"{_ALIYUN}GPEN-BFR-2048.pth"),
                aliases=("gpen-bfr-2048.pth", "pytorch_model-2048.pt"),
            ),
            _own("gpen-bfr-2048"),
            ModelFile(
                "gpen_bfr_2048.onnx", "onnx", (f"{_FACEFUSION}gpen_bfr_2048.onnx",), 285_582_766,
                "66d12a637118d71b00f5a290b8dac13c81c1c0326a127a1978799c6e17bb8d1f",
            ),
        ),
    ),
    KnownModel(
        "gpen-colorization-1024", "colorize", 1024, 2, 1, 71_210_540,
        (
            ModelFile(
                "GPEN-Colorization-1024.pth", "pth", (f"{_ALIYUN}GPEN-Colorization-1024.pth",),
                aliases=("gpen-colorization-1024.pth",),
            ),
            _own("gpen-colorization-1024"),
        ),
    ),
    KnownModel(
        "gpen-inpainting-1024", "inpaint", 1024, 2, 1, 71_210_540,
        (
            ModelFile(
                "GPEN-Inpainting-1024.pth", "pth", (f"{_ALIYUN}GPEN-Inpainting-1024.pth",),
                aliases=("gpen-inpainting-1024.pth",),
            ),
            _own("gpen-inpainting-1024"),
        ),
    ),
)  # fmt: skip

KNOWN_MODELS: Mapping[str, KnownModel] = MappingProxyType({model.name: model for model in _MODELS})
"""Every model this backend can serve: those that restore, smallest first, then those for other tasks."""

RESTORERS: tuple[str, ...] = tuple(model.name for model in _MODELS if model.task == "restore")
"""The models that restore, smallest first."""
