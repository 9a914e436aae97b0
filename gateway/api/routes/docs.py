"""The API's documentation in a browser, from files of our own: it works where there is no internet."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

FOLDER = "/docs-files"
"""Where the scripts and styles are."""

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# Both viewers write styles into the page; Redoc searches in a worker that it makes of a blob.
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def mount(app: FastAPI) -> None:
    """Adds `/docs` (Swagger UI) and `/redoc` to `app`."""
    # The package is data to us: Swagger UI and Redoc, kept up to date by its makers.
    static = Path(str(files("fastapi_offline"))) / "static"
    app.mount(FOLDER, StaticFiles(directory=static), name="docs-files")
    app.add_route("/docs", _swagger, include_in_schema=False)
    app.add_route("/redoc", _redoc, include_in_schema=False)


async def _swagger(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="gpen-gateway · API",
        swagger_js_url=f"{root}{FOLDER}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{FOLDER}/swagger-ui.css",
        swagger_favicon_url=f"{root}/page/icon.svg",
    )
    return _with_policy(page)


async def _redoc(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    page = get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title="gpen-gateway · API reference",
        redoc_js_url=f"{root}{FOLDER}/redoc.standalone.js",
        redoc_favicon_url=f"{root}/page/icon.svg",
        with_google_fonts=False,
    )
    return _with_policy(page)


def _with_policy(page: HTMLResponse) -> HTMLResponse:
    """`page` with a policy that lets only its own inline scripts run."""
    digests = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(bytes(page.body))]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    page.headers["Content-Security-Policy"] = _POLICY.format(scripts=scripts)
    return page
