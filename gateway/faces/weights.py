"""Weights of the face finders: locate, verify and download their files."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpen_common.download import DownloadError, RemoteFile, RetryPolicy, download, sha256_of

logger = logging.getLogger(__name__)


class WeightsUnavailable(Exception):
    """A weights file is not on disk and cannot be downloaded."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A published file of network weights.

    name: of the file. url: of the publisher. sha256: the hex digest or its first digits, as published
    (torch.hub puts eight or ten digits into file names). max_bytes: a download over this size is stopped.
    """

    name: str
    url: str
    sha256: str
    max_bytes: int

    def find_verified(self, folder: Path) -> Path | None:
        """Return the path in `folder` if the file is there and its SHA-256 matches, else None."""
        path = folder / self.name
        if not path.is_file():
            return None
        try:
            digest = sha256_of(path)
        except OSError as error:
            logger.warning("%s cannot be read: %s", path, error)
            return None
        if digest.startswith(self.sha256):
            return path
        logger.warning("%s is not the published file (sha256 %s) and is not used", path, digest)
        return None

    def fetch(
        self,
        folder: Path,
        *,
        connect_timeout_s: float = 2.0,
        read_timeout_s: float = 10.0,
        total_timeout_s: float = 30.0,
    ) -> Path:
        """Return the path in `folder`, after downloading the file if it is missing or damaged.

        read_timeout_s: maximum time without data. total_timeout_s: maximum time of the download, roughly.
        The verified file is moved into place, so a partial file never appears. Raises WeightsUnavailable.
        """
        if found := self.find_verified(folder):
            return found
        remote = RemoteFile(self.name, (self.url,), self.sha256, None, self.max_bytes)
        # No retries: the caller can fall back to another finder, and a user is waiting.
        policy = RetryPolicy(connect_timeout_s, read_timeout_s, attempts=1, total_s=total_timeout_s)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A temporary folder isolates concurrent downloads and leaves nothing behind on failure.
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{self.name}.") as temporary:
                download(remote, Path(temporary), policy=policy).path.replace(folder / self.name)
        except (DownloadError, OSError) as error:
            raise WeightsUnavailable(f"{self.name} cannot be downloaded: {error}") from error
        return folder / self.name


YUNET = WeightsFile(
    name="face_detection_yunet_2023mar.onnx",
    url="https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/face_detection_yunet_2023mar.onnx",
    sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    max_bytes=1_000_000,
)
"""OpenCV's YuNet face detector (opencv_zoo, MIT), 232,589 bytes."""

FAN = WeightsFile(
    name="2DFAN4-11f355bf06.pth.tar",
    url="https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
    sha256="11f355bf06",
    max_bytes=200_000_000,
)
"""face-alignment's 68-point network (Bulat & Tzimiropoulos 2017), 96 MB."""


def find_torch_hub_folder() -> Path:
    """Return the folder where torch.hub keeps weights: `$TORCH_HOME/hub/checkpoints`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"
