"""One attempt at a download: request the file or its rest, reject wrong responses, write the bytes."""

import errno
import re
import shutil

import httpx

from gpen_common.content_length import read_length
from gpen_common.download.errors import DownloadRefused, NoSpace, Transient, Unreachable, WrongFile
from gpen_common.download.job import DownloadJob
from gpen_common.download.partial import Origin

LONGEST_PAUSE_S = 15.0
"""Upper limit of a pause before a retry, Retry-After included."""

_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


def receive(client: httpx.Client, url: str, job: DownloadJob) -> bool:
    """Receive the file or the rest of it. Returns whether it was resumed. Raises Transient, DownloadError."""
    partial = job.partial
    headers = _range_headers(url, job)
    resuming = "Range" in headers
    start = partial.size if resuming else 0
    origin = partial.origin()
    if resuming and origin is not None and origin.total == start:
        return True  # an earlier call ended between the last byte and the rename
    try:
        with client.stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as answer:
            _require_success(answer, url, job)
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                _require_rest(answer, job, start)
            else:
                resuming = False
                partial.begin(Origin(url, _validator(answer), _declared_length(answer)))
            _require_plausible(answer, url, job)
            _write(answer, url, job)
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise DownloadRefused(f"{url} cannot be followed: {error}") from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if partial.size:
            raise Transient(f"{url} became unreachable: {error or 'connection timed out'}") from error
        raise Unreachable(f"{url} cannot be reached: {str(error) or 'connection timed out'}") from error
    except httpx.HTTPError as error:
        raise Transient(
            f"{url}: the download was interrupted: {str(error) or type(error).__name__}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(_no_space(job, None)) from error
        raise
    return resuming


def _range_headers(url: str, job: DownloadJob) -> dict[str, str]:
    """Headers that request the rest of the file; empty unless the partial download can be resumed safely."""
    origin, size = job.partial.origin(), job.partial.size
    # Without a validator the rest may be of another version, which only a known checksum would reveal.
    if not size or origin is None or origin.url != url or not (origin.validator or job.remote.sha256):
        return {}
    headers = {"Range": f"bytes={size}-"}
    return headers | {"If-Range": origin.validator} if origin.validator else headers


def _require_success(answer: httpx.Response, url: str, job: DownloadJob) -> None:
    status = f"{url} answered {answer.status_code} {answer.reason_phrase}".rstrip()
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        job.partial.discard()
        raise Transient(f"{status}: the file on the server has changed")
    if answer.status_code in _RETRYABLE:
        after = answer.headers.get("Retry-After", "")
        raise Transient(status, min(float(after), LONGEST_PAUSE_S) if after.isdecimal() else 0)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise DownloadRefused(status)
    if url.startswith("https:") and any(step.url.scheme != "https" for step in (*answer.history, answer)):
        raise DownloadRefused(f"{url} redirects to an address without encryption: {answer.url}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadRefused(f"{url} sends the file compressed, which was not requested")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise WrongFile(f"{url} sends a web page instead of the file: perhaps this network requires a login")


def _require_rest(answer: httpx.Response, job: DownloadJob, start: int) -> None:
    """Raise Transient unless the response is the rest of the file from byte `start` on."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", answer.headers.get("Content-Range", ""))
    origin = job.partial.origin()
    total = origin.total if origin is not None else None
    if match is None or int(match[1]) != start or (match[2] != "*" and total not in (None, int(match[2]))):
        job.partial.discard()
        raise Transient(f"{answer.url} sent another part of the file than requested")


def _require_plausible(answer: httpx.Response, url: str, job: DownloadJob) -> None:
    """Raise WrongFile or NoSpace before a byte is read, if the declared length allows it."""
    origin = job.partial.origin()
    total = origin.total if origin is not None else None
    if total is None:
        return
    expected = job.remote.size
    if total > job.remote.max_bytes or (expected is not None and total != expected):
        job.partial.discard()
        bound = f"{expected}" if expected is not None else f"at most {job.remote.max_bytes}"
        raise WrongFile(f"{url} has {total} bytes, not {bound}: it is another file")
    missing = total - job.partial.size
    if shutil.disk_usage(job.partial.path.parent).free < missing:
        raise NoSpace(_no_space(job, missing))


def _write(answer: httpx.Response, url: str, job: DownloadJob) -> None:
    """Append the body. Raises Transient if it ends early, WrongFile if it is too long."""
    origin, received = job.partial.origin(), job.partial.size
    total = origin.total if origin is not None else None
    limit = job.remote.size if job.remote.size is not None else job.remote.max_bytes
    with job.partial.path.open("ab") as file:
        for chunk in answer.iter_raw():
            job.check(url)
            received += len(chunk)
            if received > limit:
                job.partial.discard()
                raise WrongFile(f"{url} sent more than {limit} bytes: it is another file")
            file.write(chunk)
            job.progress(received, total or job.remote.size)
    expected = total if total is not None else job.remote.size
    if expected is not None and received < expected:
        raise Transient(f"{url} ended after {received} of {expected} bytes")


def _validator(answer: httpx.Response) -> str | None:
    """A validator for If-Range: a strong ETag, else a date. Source: RFC 9110, 13.1.5."""
    etag: str | None = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    date: str | None = answer.headers.get("Last-Modified")
    return date


def _declared_length(answer: httpx.Response) -> int | None:
    return read_length(answer.headers.get("Content-Length", ""))


def _no_space(job: DownloadJob, missing: int | None) -> str:
    amount = "" if missing is None else f" the missing {missing / 1e6:.0f} MB of"
    folder = job.partial.path.parent
    return f"{folder} has no room for{amount} {job.remote.name}: free some space, or choose another folder"
