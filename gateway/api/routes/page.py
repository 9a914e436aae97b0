"""The page at `/`, where anyone can try the gateway in a browser."""

from os import PathLike, stat_result
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import gateway

FOLDER = "/page"
"""Where its scripts and styles are."""

_FILES = Path(gateway.__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src "
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def mount(app: FastAPI) -> None:
    """Adds the page to `app`."""
    app.mount(FOLDER, _Revalidated(directory=_FILES), name="page")
    app.add_route("/", _page, include_in_schema=False)


class _Revalidated(StaticFiles):
    """Files that a browser asks for again: those of two versions must not meet."""

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """The answer with a file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _page(_: Request) -> FileResponse:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_FILES / "index.html", headers=headers)
