"""Errors of a download.

DownloadError
├── Unreachable       no connection to the server
├── Interrupted       the connection broke or stalled too often, or the deadline passed
├── DownloadRefused   the server answered with an error, or with something this package does not accept
├── WrongFile         the content has another size or checksum, or is a web page
├── NoSpace           the disk is full
└── Stopped           the caller stopped the download
"""


class DownloadError(Exception):
    """Base of all errors of a download. `str(error)` is one sentence that names the file's address."""


class Unreachable(DownloadError):
    """No connection to the server."""


class Interrupted(DownloadError):
    """The connection broke or stalled more often than the retry policy allows, or the deadline passed."""


class DownloadRefused(DownloadError):
    """The server answered with an error status, a redirect that is not followed, or compressed content."""


class WrongFile(DownloadError):
    """The server sent something else than the file."""


class NoSpace(DownloadError):
    """The disk has no room for the file."""


class Stopped(DownloadError):
    """The caller stopped the download. The bytes received so far stay for the next call."""


class Transient(Exception):
    """A failure worth a retry; internal to this package. retry_after: seconds to wait at least."""

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
