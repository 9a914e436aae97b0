"""The files that face finders need: where they are, whether they are whole, and how they get here."""

import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpen_common.download import DownloadError, Patience, Remote, download, sha256_of

logger = logging.getLogger(__name__)


class WeightsUnavailable(Exception):
    """A weights file is neither on disk nor to be had."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A published file of network weights.

    name: its file name. url: where it is published. sha256: the whole hex digest, or as much of its
    beginning as the publisher told (torch.hub puts eight or ten digits into file names). max_bytes: more
    than the file can have; a download stops there.
    """

    name: str
    url: str
    sha256: str
    max_bytes: int

    def verified(self, folder: Path) -> Path | None:
        """The file in `folder` if it is there and whole, else None."""
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
        logger.warning("%s is not the published file (sha256 %s): it is not used", path, digest)
        return None

    def fetch(
        self,
        folder: Path,
        *,
        connect_timeout_s: float = 2.0,
        read_timeout_s: float = 10.0,
        total_timeout_s: float = 30.0,
    ) -> Path:
        """The file in `folder`, downloaded there if it is not yet.

        read_timeout_s: the longest silence that is borne. total_timeout_s: about the most the download may
        take, however steadily it drips. The file appears whole and verified, or not at all.
        Raises WeightsUnavailable.
        """
        if found := self.verified(folder):
            return found
        remote = Remote(self.name, (self.url,), self.sha256, None, self.max_bytes)
        # One try: the caller has another finder to turn to, and a user who waits.
        patience = Patience(connect_timeout_s, read_timeout_s, attempts=1, total_s=total_timeout_s)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A folder of its own, so that several at once do not meet, and nothing is left where it fails.
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{self.name}.") as own:
                download(remote, Path(own), patience=patience).path.replace(folder / self.name)
        except (DownloadError, OSError) as error:
            raise WeightsUnavailable(f"{self.name} cannot be fetched: {error}") from error
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


def torch_hub_folder() -> Path:
    """Where face-alignment, through torch.hub, keeps its weights: `$TORCH_HOME/hub/checkpoints`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"
