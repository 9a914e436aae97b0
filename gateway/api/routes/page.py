"""The page at `/`, to try the gateway in a browser."""

from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import gateway

FOLDER = "/page"
"""Path of its scripts and styles."""

_FILES = Path(gateway.__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src "
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def mount(app: FastAPI) -> None:
    """Add the page to `app`."""
    app.mount(FOLDER, _RevalidatedFiles(directory=_FILES), name="page")
    app.add_route("/", _page, include_in_schema=False)


class _RevalidatedFiles(StaticFiles):
    """Files that browsers revalidate, so that scripts of two versions are never mixed."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or 304."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _page(_: Request) -> FileResponse:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_FILES / "index.html", headers=headers)
