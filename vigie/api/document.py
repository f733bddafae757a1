"""The OpenAPI document: what FastAPI says of the routes, and what it cannot know of ours."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from vigie.api.problems import PROBLEM


def install(app: FastAPI) -> None:
    """Complete the document of an application.

    - Errors are problem documents; FastAPI describes every answer as those that go well.
    - Bodies that a route reads itself are described by it, definitions and all; these are moved to
      where the others are.
    """
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = described()
        schemas = document["components"]["schemas"]
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if status >= "400" and "application/json" in content:
                        content[PROBLEM] = content.pop("application/json")
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    schemas.update(content["schema"].pop("$defs", {}))
        document["components"]["schemas"] = dict(sorted(schemas.items()))
        return document

    app.openapi = openapi  # type: ignore[method-assign]
