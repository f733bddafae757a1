"""The OpenAPI document: FastAPI's, with corrections for our errors and bodies."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from vigie.api.problems import PROBLEM


def install(app: FastAPI) -> None:
    """Correct the OpenAPI document of an application.

    - Each operation has a summary, the first sentence of its description.
    - Errors have the media type of problem documents; FastAPI gives them that of results.
    - The schemas of bodies that a route parses itself hold their definitions under ``$defs``;
      these move to the document's schemas.
    """
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = original()
        schemas = document["components"]["schemas"]
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
