"""The published GPEN checkpoints: their shapes, what they are for, and where their files are. Torch-free.

Sources: the model zoo of GPEN's README, the release pages of the exports, and the file names users give them.
None of the files could be fetched when this was written. Names and addresses were found in public code that
uses them; sizes and checksums of the exports likewise. Not confirmed: that the bucket of the `.pth` files
has the 1024 and 2048 ones too, which is why ModelScope's repository is asked first for these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from gpen_common.download import Remote
from gpen_common.types import Task

Format: TypeAlias = Literal["pth", "onnx"]
"""`pth`: a checkpoint of torch's, for the torch engine. `onnx`: an export, for ONNX Runtime."""

LICENCE = (
    "GPEN's authors released code and weights for academic and non-commercial use; in 2026 that line was "
    "removed from their repository without a replacement. Whether your use is allowed is yours to find out."
)
"""What everybody is told who fetches a checkpoint."""

_ALIYUN = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/"
_MODELSCOPE = "https://www.modelscope.cn/models/iic/cv_gpen_image-portrait-enhancement-hires/resolve/master/"
_FACEFUSION = "https://github.com/facefusion/facefusion-assets/releases/download/models-3.0.0/"
# Its tag is "Models": links to a tag "GPEN-BFR", which some programs carry, lead nowhere.
_HARISREEDHAR = "https://github.com/harisreedhar/Face-Upscalers-ONNX/releases/download/Models/"

# A checkpoint is its numbers in float32 and some names; twice that is more than any published one can have.
_BYTES_PER_PARAMETER, _SLACK, _NAMES = 4, 2, 64 << 20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file that holds a model's weights.

    name: on disk. aliases: other names that people have it under. urls: where it is published, in the order
    to try; none for a file that is the user's own. size: bytes, sha256: hex digest, None where not published.
    """

    name: str
    format: Format
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One checkpoint of GPEN's.

    name: as in `/v2/models/{name}`. task: what it was trained for. size: side of the network's input and
    output, px. channel_multiplier, narrow: the widths of its layers. parameters: how many numbers it holds.
    files: what its weights are published as, the most usual of each format first.
    """

    name: str
    task: Task
    size: int
    channel_multiplier: int
    narrow: float
    parameters: int
    files: tuple[ModelFile, ...]

    def remote(self, file: ModelFile, mirror: str | None = None) -> Remote:
        """How to fetch one of `files`. mirror: base address in place of the published ones."""
        urls = file.urls if mirror is None else (f"{mirror.rstrip('/')}/{file.name}",)
        most = file.size or self.parameters * _BYTES_PER_PARAMETER * _SLACK + _NAMES
        return Remote(file.name, urls, file.sha256, file.size, most)


def _own(model: str) -> ModelFile:
    """An export that the user has made."""
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
"""Every model this backend can serve: the restorers, smallest first, then those for other tasks."""

RESTORERS: tuple[str, ...] = tuple(model.name for model in _MODELS if model.task == "restore")
"""The models that restore, smallest first."""
