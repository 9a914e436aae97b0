"""What can go wrong while a file is fetched.

DownloadError
├── Unreachable   no connection to the server
├── Interrupted   the connection broke or stalled too often, or the time was up
├── Refused       the server's status is no success
├── WrongFile     what came has another size or checksum, or is a web page
├── NoSpace       the disk is full
└── Stopped       the caller asked to stop
"""


class DownloadError(Exception):
    """Base of all. `str(error)` is one sentence that names the file's address."""


class Unreachable(DownloadError):
    """No connection to the server."""


class Interrupted(DownloadError):
    """The connection broke or stalled more often than the patience allows, or the time was up."""


class Refused(DownloadError):
    """The server answered with a status that is no success."""


class WrongFile(DownloadError):
    """What the server sends is not the file."""


class NoSpace(DownloadError):
    """The disk has no room for the file."""


class Stopped(DownloadError):
    """The caller asked to stop. What has come stays for the next time."""


class Passing(Exception):
    """A failure that another try may mend; it never leaves this package. retry_after: seconds to wait."""

    def __init__(self, message: str, retry_after: float = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
