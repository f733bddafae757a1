"""The OpenAPI document: valid, complete, and changed only on purpose."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_snapshot import SNAPSHOT, shape
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from vigie.config import Settings
from vigie.main import create_app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def document(untracked: Settings) -> dict[str, Any]:
    return create_app(untracked).openapi()


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def test_what_clients_depend_on_changes_only_with_the_snapshot(document: dict[str, Any]) -> None:
    before, now = SNAPSHOT.read_text(encoding="utf-8"), shape(document)
    changes = difflib.unified_diff(
        *(before.splitlines(), now.splitlines()), "tests/contract/openapi.json", "now", lineterm=""
    )
    if told := "\n".join(changes):
        pytest.fail(
            "The API has changed. A field, status or operation less, or another type or name, "
            f"breaks clients. If that is meant, renew the snapshot by `make openapi`.\n{told}",
            pytrace=False,
        )


def test_the_document_is_valid_and_says_what_the_project_says(document: dict[str, Any]) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert document["info"]["license"]["identifier"] == project["license"]
    assert document["info"]["version"] == project["version"]
    described = {tag["name"] for tag in document["tags"] if tag["description"]}
    assert {tag for operation in operations(document) for tag in operation["tags"]} == described


def test_each_operation_has_a_name_that_a_generated_client_can_use(
    document: dict[str, Any],
) -> None:
    names = [operation["operationId"] for operation in operations(document)]
    assert len({*names}) == len(names)
    assert {"detect", "detect_batch", "train", "inspect", "list_jobs", "get_job"} <= {*names}
    for name in names:
        assert re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", name)


def test_each_error_is_described_and_is_a_problem_document(document: dict[str, Any]) -> None:
    for operation in operations(document):
        responses = operation["responses"]
        assert list(responses) == sorted(responses)
        assert {"421", "500"} <= responses.keys()
        for status, response in responses.items():
            assert len(response["description"].split()) > 1
            if status >= "400":
                schema = {"$ref": "#/components/schemas/Problem"}
                assert response["content"] == {"application/problem+json": {"schema": schema}}
