"""One try at a file: ask for it or its rest, refuse what cannot be it, write what comes."""

import errno
import re
import shutil

import httpx

from gpen_common.download.errors import NoSpace, Passing, Refused, Unreachable, WrongFile
from gpen_common.download.partial import Origin
from gpen_common.download.task import Task

LONGEST_PAUSE_S = 15.0
"""However long a server asks to wait, or however often it failed."""

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def receive(client: httpx.Client, url: str, task: Task) -> bool:
    """Receive the file, or the rest of it. Tells whether it was the rest. Raises Passing, DownloadError."""
    partial = task.partial
    headers = _range_headers(url, task)
    resuming = "Range" in headers
    had = partial.size if resuming else 0
    origin = partial.origin()
    if resuming and origin is not None and origin.total == had:
        return True  # it broke off between the last byte and the rename
    try:
        with client.stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as answer:
            _require_success(answer, url, task)
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                _require_rest(answer, task, had)
            else:
                resuming = False
                partial.begin(Origin(url, _validator(answer), _declared(answer)))
            _require_plausible(answer, url, task)
            _write(answer, url, task)
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise Refused(f"{url} cannot be followed: {error}") from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if partial.size:
            raise Passing(f"{url} is away: {error or 'no answer in time'}") from error
        raise Unreachable(f"{url} cannot be reached: {str(error) or 'no answer in time'}") from error
    except httpx.HTTPError as error:
        raise Passing(f"{url} broke off: {str(error) or type(error).__name__}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(_no_space(task, None)) from error
        raise
    return resuming


def _range_headers(url: str, task: Task) -> dict[str, str]:
    """What asks for the rest, where there is a beginning that a rest can be joined to safely."""
    origin, size = task.partial.origin(), task.partial.size
    # Without a validator another version's rest may come; only a known checksum would tell.
    if not size or origin is None or origin.url != url or not (origin.validator or task.remote.sha256):
        return {}
    asked = {"Range": f"bytes={size}-"}
    return asked | {"If-Range": origin.validator} if origin.validator else asked


def _require_success(answer: httpx.Response, url: str, task: Task) -> None:
    status = f"{url} answered {answer.status_code} {answer.reason_phrase}".rstrip()
    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        task.partial.discard()
        raise Passing(f"{status}: the file has changed there")
    if answer.status_code in _TRY_AGAIN:
        after = answer.headers.get("Retry-After", "")
        raise Passing(status, min(float(after), LONGEST_PAUSE_S) if after.isdecimal() else 0)
    if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        raise Refused(status)
    if url.startswith("https:") and any(step.url.scheme != "https" for step in (*answer.history, answer)):
        raise Refused(f"{url} leads to an address without encryption: {answer.url}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused(f"{url} sends it compressed, unasked")
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise WrongFile(f"{url} sends a web page in place of the file: perhaps this network wants a login")


def _require_rest(answer: httpx.Response, task: Task, had: int) -> None:
    """Raise Passing unless this is exactly what is missing."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    origin = task.partial.origin()
    total = origin.total if origin is not None else None
    if match is None or int(match[1]) != had or (match[2] != "*" and total not in (None, int(match[2]))):
        task.partial.discard()
        raise Passing(f"{answer.url} sent another part of the file than was asked for")


def _require_plausible(answer: httpx.Response, url: str, task: Task) -> None:
    """Raise WrongFile or NoSpace before a byte is read, where the length tells."""
    origin = task.partial.origin()
    total = origin.total if origin is not None else None
    if total is None:
        return
    expected = task.remote.size
    if total > task.remote.max_bytes or (expected is not None and total != expected):
        task.partial.discard()
        bound = f"{expected}" if expected is not None else f"at most {task.remote.max_bytes}"
        raise WrongFile(f"{url} has {total} bytes, not {bound}: it is not the file")
    missing = total - task.partial.size
    if shutil.disk_usage(task.partial.path.parent).free < missing:
        raise NoSpace(_no_space(task, missing))


def _write(answer: httpx.Response, url: str, task: Task) -> None:
    """Append what comes. Raises Passing where it ends early, WrongFile where it does not end."""
    origin, received = task.partial.origin(), task.partial.size
    total = origin.total if origin is not None else None
    most = task.remote.size if task.remote.size is not None else task.remote.max_bytes
    with task.partial.path.open("ab") as file:
        for chunk in answer.iter_raw():
            task.check(url)
            received += len(chunk)
            if received > most:
                task.partial.discard()
                raise WrongFile(f"{url} sent more than {most} bytes: it is not the file")
            file.write(chunk)
            task.progress(received, total or task.remote.size)
    expected = total if total is not None else task.remote.size
    if expected is not None and received < expected:
        raise Passing(f"{url} ended after {received} of {expected} bytes")


def _validator(answer: httpx.Response) -> str | None:
    """What If-Range may carry: a strong ETag, else a date. Source: RFC 9110, 13.1.5."""
    etag: str | None = answer.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    date: str | None = answer.headers.get("Last-Modified")
    return date


def _declared(answer: httpx.Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _no_space(task: Task, missing: int | None) -> str:
    needed = "" if missing is None else f" for the {missing / 1e6:.0f} MB that are missing"
    folder = task.partial.path.parent
    return f"{folder} has no room{needed} of {task.remote.name}: free some, or choose another folder"
