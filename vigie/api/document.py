"""The OpenAPI document: FastAPI's, with corrections for our errors, bodies and examples."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from vigie.api.access import endpoints, required
from vigie.api.bodies import JSON
from vigie.api.problems import PROBLEM
from vigie.config import Settings
from vigie.models.alarms import Acknowledgement, Labelling, OutOfService, Shelving, Unshelving
from vigie.models.anomaly_data import AnomalyDetectionRequest
from vigie.models.columns import ReadingColumns
from vigie.models.moves import Promotion, Rollback
from vigie.models.training import TrainRequest

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`vigie keys create` makes one."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
DESCRIPTION = """\
Train detectors on readings of healthy operation, judge new readings, and follow trainings.

Bodies are JSON in UTF-8, or a file. Every error is a problem document (RFC 9457) with `detail`, \
`field` where there is one, and `remedy`. Where keys are demanded, send one as \
`Authorization: Bearer vigie_...` or `X-API-Key`; each operation names the scope that it needs."""
LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
TAGS = [
    {
        "name": "anomalies",
        "description": "Look at files, train, judge readings, and ask how the service is.",
    },
    {"name": "jobs", "description": "Trainings that wait, run or have ended."},
    {"name": "events", "description": "What was seen on which asset, and when."},
    {"name": "alarms", "description": "Events that ask somebody to act, and what was done."},
    {"name": "alerts", "description": "Messages about alarms, and whether they have arrived."},
    {"name": "assets", "description": "How each asset is, and whether it is in service."},
    {"name": "models", "description": "List, compare, promote and roll back versions."},
    {"name": "operations", "description": "Watch the service."},
]
MEANINGS = {
    "200": "The answer",
    "202": "Accepted, and not done yet",
    "401": "There is no valid API key, where one is needed",
    "403": "The key has not the scope that this needs",
    "404": "There is no such object",
    "408": "The request came too slowly",
    "409": "Something else that is in progress, or has ended, prevents it",
    "413": "The body is too large",
    "415": "The body is of no type that is taken, or compressed",
    "421": "The service does not answer to this Host",
    "422": "The data or a parameter cannot be used; nothing was changed",
    "429": "Requests come too fast, or too many trainings wait",
    "500": "The service failed; its log has more under the incident",
    "502": "MLflow is needed, and fails or cannot be reached",
    "503": "No model can answer yet, or API keys cannot be verified",
}
"""What a status means where a route does not say it."""
ANY_ROUTE, WITH_KEYS = ("421", "500"), ("401", "403", "429", "503")
RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Seconds to wait, where they are known.",
    }
}
HEADERS = {
    "401": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    "429": RETRY_AFTER,
    "503": RETRY_AFTER,
}
FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
"""Schemas of errors that never come: parameters of paths are texts, and we check all others."""

Reading = Mapping[str, Mapping[str, Any]]


def operation_id(route: APIRoute) -> str:
    """Return the name of a route's function, by which generated clients call it."""
    return route.name


def install(app: FastAPI, settings: Settings, usual_reading: Callable[[], Reading]) -> None:
    """Correct the OpenAPI document of an application.

    - Each operation has a summary, the first sentence of its description.
    - Errors have the media type of problem documents; FastAPI gives them that of results.
    - The schemas of bodies that a route parses itself hold their definitions under ``$defs``;
      these move to the document's schemas.
    - Each operation has the scope that its API key needs, if one is needed.
    - Examples of readings have the sensors of the models that serve.

    Parameters
    ----------
    app : FastAPI
        The application.
    settings : Settings
        Who needs a key.
    usual_reading : callable
        Returns ``features`` and ``context`` of a usual reading; an empty mapping if no model
        serves.
    """
    original = app.openapi
    latest: tuple[Reading | None, dict[str, Any]] = None, {}

    def openapi() -> dict[str, Any]:
        nonlocal latest
        if app.openapi_schema is None:
            app.openapi_schema = _corrected(app, original(), settings)
        if (reading := usual_reading()) != latest[0]:
            document = deepcopy(app.openapi_schema)
            _add_examples(document, reading)
            latest = reading, document
        return latest[1]

    app.openapi = openapi  # type: ignore[method-assign]


def _corrected(app: FastAPI, document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    if settings.auth != "off":
        document["components"]["securitySchemes"] = SCHEMES
        _add_scopes(app, document["paths"], is_optional=not settings.demands_keys)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["summary"] = operation["description"].split(".")[0].replace("\n", " ")
            _describe_responses(operation["responses"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schemas.update(content["schema"].pop("$defs", {}))
    document["components"]["schemas"] = {
        name: schema for name, schema in sorted(schemas.items()) if name not in FASTAPIS_OWN
    }
    return document


def _describe_responses(responses: dict[str, Any]) -> None:
    """Describe each response, in ascending order, and errors as problem documents."""
    for status, response in list(responses.items()):
        content = response.get("content", {}).get(JSON, {})
        if content.get("schema", {}).get("$ref", "").endswith(FASTAPIS_OWN[0]):
            del responses[status]
    for status in ANY_ROUTE:
        responses.setdefault(status, {})
    for status, response in sorted(responses.items()):
        phrase = http.client.responses[int(status)]
        if response.get("description") in ("Successful Response", None, phrase):
            response["description"] = MEANINGS.get(status, phrase)
        if status >= "400":
            response["content"] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status in HEADERS:
            response.setdefault("headers", HEADERS[status])
        responses[status] = responses.pop(status)


def _add_scopes(app: FastAPI, paths: dict[str, Any], *, is_optional: bool) -> None:
    """Say which scope each operation needs, and how it is refused without a key."""
    for route, endpoint in endpoints(app):
        needed = required(endpoint)
        for method in route.methods or ():
            operation = paths.get(route.path_format or "", {}).get(method.lower())
            if operation is None or needed is None:
                continue
            keys: list[dict[str, list[str]]] = [{scheme: [needed.value]} for scheme in SCHEMES]
            operation["security"] = [*([{}] if is_optional else []), *keys]
            for status in WITH_KEYS:
                operation["responses"].setdefault(status, {})


def _add_examples(document: dict[str, Any], reading: Reading) -> None:
    """Give each body an example that can be sent as it stands."""
    schemas = document["components"]["schemas"]
    example = {**_example_of(AnomalyDetectionRequest), **reading}
    schemas[AnomalyDetectionRequest.__name__]["examples"] = [example]
    columns = _example_of(ReadingColumns)
    times = columns["timestamps"]
    for kind, values in reading.items():
        columns = {**columns, kind: {name: [v] * len(times) for name, v in values.items()}}
    schemas[ReadingColumns.__name__]["examples"] = [columns]
    rows = [{**example, "timestamp": time} for time in times]
    examples: dict[str, dict[str, Any]] = {
        "detect": {"reading": example},
        "detect_batch": {"list": rows, "columns": columns},
        "train": {"rows": _example_of(TrainRequest)},
        "promote": {"version": _example_of(Promotion)},
        "rollback": {"reason": _example_of(Rollback)},
        "acknowledge_alarm": {"note": _example_of(Acknowledgement)},
        "shelve_alarm": {"hour": _example_of(Shelving)},
        "unshelve_alarm": {"note": _example_of(Unshelving)},
        "label_event": {"fault": _example_of(Labelling)},
        "take_out": {"overhaul": _example_of(OutOfService)},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            if (name := operation["operationId"]) in examples:
                operation["requestBody"]["content"][JSON]["examples"] = {
                    form: {"value": value} for form, value in examples[name].items()
                }


def _example_of(model: Any) -> dict[str, Any]:
    example: dict[str, Any] = model.model_config["json_schema_extra"]["examples"][0]
    return example
