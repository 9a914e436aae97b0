"""The API's documentation at `/docs` and `/redoc`, from local files: it works without the internet."""

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
"""Path of the scripts and styles."""

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
# Both viewers write inline styles; Redoc searches in a worker made from a blob.
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def mount(app: FastAPI) -> None:
    """Add `/docs` (Swagger UI) and `/redoc` to `app`."""
    # Only the package's files are used: current releases of Swagger UI and Redoc.
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
    return _add_policy(page)


async def _redoc(request: Request) -> HTMLResponse:
    root = request.scope.get("root_path", "")
    page = get_redoc_html(
        openapi_url=f"{root}/openapi.json",
        title="gpen-gateway · API reference",
        redoc_js_url=f"{root}{FOLDER}/redoc.standalone.js",
        redoc_favicon_url=f"{root}/page/icon.svg",
        with_google_fonts=False,
    )
    return _add_policy(page)


def _add_policy(page: HTMLResponse) -> HTMLResponse:
    """Add a Content Security Policy to `page` that allows only its own inline scripts."""
    digests = [hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(bytes(page.body))]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    page.headers["Content-Security-Policy"] = _POLICY.format(scripts=scripts)
    return page
