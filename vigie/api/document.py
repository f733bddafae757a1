"""The OpenAPI document: FastAPI's, with corrections for our errors and bodies."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from vigie.api.access import endpoints, required
from vigie.api.problems import PROBLEM
from vigie.config import Settings

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`vigie keys create` makes one."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
REFUSALS = {
    "401": "No valid API key",
    "403": "A key without the scope",
    "429": "Too many requests",
    "503": "API keys cannot be verified",
}


def install(app: FastAPI, settings: Settings) -> None:
    """Correct the OpenAPI document of an application.

    - Each operation has a summary, the first sentence of its description.
    - Errors have the media type of problem documents; FastAPI gives them that of results.
    - The schemas of bodies that a route parses itself hold their definitions under ``$defs``;
      these move to the document's schemas.
    - Each operation has the scope that its API key needs, if one is needed.
    """
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = original()
        schemas = document["components"]["schemas"]
        if settings.auth != "off":
            document["components"]["securitySchemes"] = SCHEMES
            _add_scopes(app, document["paths"], is_optional=not settings.demands_keys)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["summary"] = operation["description"].split(".")[0].replace("\n", " ")
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if status >= "400" and "application/json" in content:
                        content[PROBLEM] = content.pop("application/json")
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    schemas.update(content["schema"].pop("$defs", {}))
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _add_scopes(app: FastAPI, paths: dict[str, Any], *, is_optional: bool) -> None:
    """Say which scope each operation needs, and how it is refused without a key."""
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for route, endpoint in endpoints(app):
        needed = required(endpoint)
        for method in route.methods or ():
            operation = paths.get(route.path or "", {}).get(method.lower())
            if operation is None or needed is None:
                continue
            keys: list[dict[str, list[str]]] = [{scheme: [needed.value]} for scheme in SCHEMES]
            operation["security"] = [*([{}] if is_optional else []), *keys]
            for status, text in REFUSALS.items():
                operation["responses"].setdefault(
                    status, {"description": text, "content": {PROBLEM: problem}}
                )
