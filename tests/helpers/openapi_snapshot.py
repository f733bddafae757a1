"""The shape of the OpenAPI document, without its texts; as a program, it renews the snapshot."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parents[1] / "contract/openapi.json"
TEXTS = ("description", "summary", "title", "example", "examples")
NAMED_FREELY = ("properties", "schemas", "responses", "paths")
"""Objects whose keys are names, which may be those of texts."""


def shape(document: dict[str, Any]) -> str:
    """Return what a client depends on: paths, parameters, fields, types and statuses, sorted."""
    document = {**document, "info": {}, "tags": [tag["name"] for tag in document["tags"]]}
    return json.dumps(_without_texts(document), indent=1, sort_keys=True) + "\n"


def _without_texts(value: Any, *, are_names: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_texts(item, are_names=key in NAMED_FREELY)
            for key, item in value.items()
            if are_names or key not in TEXTS
        }
    return [_without_texts(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Write the snapshot of an application with the default settings."""
    from vigie.config import Settings
    from vigie.main import create_app

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(mlflow_enabled=False, state_dir=Path(folder))
        SNAPSHOT.write_text(shape(create_app(settings).openapi()), encoding="utf-8")


if __name__ == "__main__":
    main()
