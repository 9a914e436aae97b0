"""Downloads large files over HTTP: resumable, verified, and stored either whole or not at all."""

from gpen_common.download.download import DownloadResult, download, lock_file, sha256_of
from gpen_common.download.errors import (
    DownloadError,
    DownloadRefused,
    Interrupted,
    NoSpace,
    Stopped,
    Unreachable,
    WrongFile,
)
from gpen_common.download.job import DEFAULT_POLICY, Progress, RemoteFile, RetryPolicy
from gpen_common.download.partial import Partial

__all__ = [
    "DEFAULT_POLICY",
    "DownloadError",
    "DownloadRefused",
    "DownloadResult",
    "Interrupted",
    "NoSpace",
    "Partial",
    "Progress",
    "RemoteFile",
    "RetryPolicy",
    "Stopped",
    "Unreachable",
    "WrongFile",
    "download",
    "lock_file",
    "sha256_of",
]
