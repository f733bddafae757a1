"""The pages that describe the API, ``/docs`` and ``/redoc``, from files of our own.

FastAPI's own pages load Swagger UI and Redoc from a CDN, so without Internet they stay white. The
package ``fastapi-offline`` brings the same files, and is released with each version of them.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from vigie.api.access import requires
from vigie.keys import Scope

ASSETS = "/assets"
FILES = Path(fastapi_offline.__file__).parent / "static"
OWN_FILES = Path(__file__).parent / "static"
POLICY = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; "
    "frame-ancestors 'none'"
}
"""The browser asks no other server: Redoc would load a logo."""


def install(app: FastAPI) -> None:
    """Add the pages and their files to an application, which must have an ``openapi_url``."""
    readers = requires(Scope.READ)
    app.mount(f"{ASSETS}/api-docs", readers(StaticFiles(directory=FILES)))
    app.mount(ASSETS, readers(StaticFiles(directory=OWN_FILES)))

    @readers
    async def docs(request: Request) -> HTMLResponse:
        root = request.scope["root_path"]
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} API",
            swagger_js_url=f"{root}{ASSETS}/api-docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/api-docs/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon.svg",
            # It would send the document to a server of Swagger's.
            swagger_ui_parameters={"validatorUrl": None},
        )
        page.headers.update(POLICY)
        return page

    @readers
    async def redoc(request: Request) -> HTMLResponse:
        root = request.scope["root_path"]
        page = get_redoc_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} API",
            redoc_js_url=f"{root}{ASSETS}/api-docs/redoc.standalone.js",
            redoc_favicon_url=f"{root}{ASSETS}/favicon.svg",
            with_google_fonts=False,
        )
        page.headers.update(POLICY)
        return page

    app.add_route("/docs", docs, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)
